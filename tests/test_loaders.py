"""Batches that depend on the step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import make_pictures, noise
from shared import SHARED, needs_shared

from cbench import data
from cbench.codec import Sample
from cbench.data import (
    cifar10,
    folder,
)
from cbench.errors import ConfigError


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


class Pictures(Sequence):
    """Samples whose content says which one they are; counts how often each is read."""

    def __init__(self, count: int, shape: tuple[int, ...] = (3, 8, 8), dtype: str = "uint8") -> None:
        self.count, self.shape, self.dtype, self.reads = count, shape, dtype, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        return Sample(str(index), np.full(self.shape, index, self.dtype))


def stacked_noise(count: int) -> data.StackedSamples:
    pixels = noise((count, 3, 12, 12))
    places = np.stack([np.zeros(count, int), np.arange(count)], axis=1)
    return data.StackedSamples([str(number) for number in range(count)], [0], places, lambda key: pixels.copy())


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 40),
    world=st.sampled_from([1, 2, 4]),
    local=st.integers(1, 5),
    step=st.integers(0, 30),
    seed=st.integers(0, 2**40),
)
def test_ranks_together_see_the_batch_of_one_process(count, world, local, step, seed):
    loaders = pytest.importorskip("cbench.data.loaders")
    source = stacked_noise(count)
    options = {"crop": 7, "seed": seed}
    whole = loaders.Batches(source, local * world, **options)
    ranks = [loaders.Batches(source, local * world, rank=rank, world=world, **options) for rank in range(world)]
    parts = np.concatenate([rank[step].numpy() for rank in ranks])
    assert parts.shape == (local * world, 3, 7, 7)
    assert np.array_equal(parts, whole[step].numpy())


def test_every_epoch_sees_every_item_once_in_a_new_order():
    loaders = pytest.importorskip("cbench.data.loaders")
    batches = loaders.Batches(Pictures(30), 6)
    epochs = [np.concatenate([batches.items(step)[1] for step in range(5 * e, 5 * e + 5)]) for e in range(4)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert not np.array_equal(loaders.Batches(Pictures(30), 6, seed=1).items(0)[1], batches.items(0)[1])
    across = loaders.Batches(Pictures(10), 4)
    assert across.items(2)[0].tolist() == [0, 0, 1, 1]
    assert across[2].flatten(1)[:, 0].tolist() == across.items(2)[1].tolist()
    tiny = loaders.Batches(Pictures(2), 7)  # the batch is larger than the set
    assert sorted(tiny.items(0)[1].tolist()) in ([0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("lazy", [False, True])
def test_loader_resumes_and_ignores_the_number_of_workers(tmp_path, lazy):
    loaders = pytest.importorskip("cbench.data.loaders")
    if lazy:
        make_pictures(tmp_path, [f"{number}.png" for number in range(5)])
        source = folder.pictures(tmp_path)
    else:
        source = stacked_noise(9)
    options = {"crop": 6, "seed": 3, "steps": 6}
    alone = [batch.numpy() for batch in loaders.loader(source, 4, **options)]
    assert len(alone) == len(loaders.loader(source, 4, **options)) == 6
    assert len({batch.tobytes() for batch in alone}) == 6
    for workers in (1, 2):
        others = [batch.numpy() for batch in loaders.loader(source, 4, workers=workers, start=2, **options)]
        assert np.array_equal(np.stack(others), np.stack(alone[2:]))
    endless = iter(loaders.loader(source, 4, crop=6, seed=3))
    assert np.array_equal(next(endless).numpy(), alone[0])


def test_crops_and_flips_cover_everything():
    loaders = pytest.importorskip("cbench.data.loaders")
    picture = np.arange(25, dtype=np.uint8).reshape(1, 5, 5)
    source = [Sample("a", picture)]
    seen = {batch.numpy().tobytes() for batch in (loaders.Batches(source, 1, crop=3)[step] for step in range(400))}
    expected = {
        np.ascontiguousarray(picture[:, y : y + 3, x : x + 3][:, :, ::turn]).tobytes()
        for y in range(3)
        for x in range(3)
        for turn in (1, -1)
    }
    assert seen == expected
    plain = {loaders.Batches(source, 1, flip=False)[step].numpy().tobytes() for step in range(5)}
    assert plain == {picture.tobytes()}
    small = loaders.Batches(source, 2, crop=12, flip=False)[0].numpy()
    assert small.shape == (2, 1, 12, 12)
    assert np.array_equal(small[0], np.pad(picture, ((0, 0), (0, 7), (0, 7)), mode="symmetric"))


def test_runs_of_bands():
    loaders = pytest.importorskip("cbench.data.loaders")
    cubes = [Sample(str(c), np.broadcast_to(np.arange(c, dtype=np.uint16)[:, None, None], (c, 6, 9))) for c in (7, 9)]
    batches = loaders.Batches(cubes, 2, crop=4, bands=5)
    starts = set()
    for step in range(60):
        batch = batches[step].numpy()
        assert batch.shape == (2, 5, 4, 4)
        first = batch[:, :1]
        assert np.array_equal(batch - first, np.broadcast_to(np.arange(5)[:, None, None], batch.shape))
        starts |= {(int(c), int(start)) for c, start in zip(batches.items(step)[1], first[:, 0, 0, 0], strict=True)}
    assert starts == {(0, start) for start in range(3)} | {(1, start) for start in range(5)}
    with pytest.raises(ConfigError, match="7 channels"):
        loaders.Batches(cubes[:1], 1, bands=8)[0]


def test_dtypes_cache_and_refusals():
    loaders = pytest.importorskip("cbench.data.loaders")
    torch = pytest.importorskip("torch")
    for dtype, expected in (
        ("uint8", torch.uint8),
        ("uint16", torch.int32),
        ("int16", torch.int16),
        ("uint32", torch.int64),
    ):
        top = np.full((2, 3, 3), np.iinfo(dtype).max, dtype)
        batch = loaders.Batches([Sample("a", top)], 2)[0]
        assert batch.dtype == expected
        assert int(batch.max()) == np.iinfo(dtype).max
    for budget, reads in ((1 << 20, 3), (3 * 64, 11), (0, 15)):
        source = Pictures(3)
        batches = loaders.Batches(source, 3, cache_bytes=budget)
        for step in range(5):
            batches[step]
        assert source.reads == reads
    everything = loaders.Items(Pictures(3))
    assert [int(everything[index].max()) for index in range(len(everything))] == [0, 1, 2]
    for bad in (
        {"batch_size": 3, "world": 2},
        {"batch_size": 0},
        {"batch_size": 2, "world": 2, "rank": 2},
        {"batch_size": 1, "crop": 0},
    ):
        with pytest.raises(ConfigError):
            loaders.loader(Pictures(3), **bad)
    with pytest.raises(ConfigError, match="empty"):
        loaders.loader([], 1)
    mixed = [Sample("a", noise((3, 4, 4))), Sample("b", noise((3, 4, 5)))]
    with pytest.raises(ConfigError, match="set crop and bands"):
        loaders.Batches(mixed, 2)[0]


def test_big_stacks_are_not_put_together():
    loaders = pytest.importorskip("cbench.data.loaders")
    source = stacked_noise(10)
    batch = loaders.Batches(source, 4, cache_bytes=source.nbytes - 1)[0].numpy()
    assert source._whole is None
    assert np.array_equal(batch, loaders.Batches(source, 4)[0].numpy())
    assert source._whole is not None


@needs_shared
def test_shared_cifar_trains():
    loaders = pytest.importorskip("cbench.data.loaders")
    source = cifar10.validation(SHARED / "data")
    batch = loaders.loader(source, 32, steps=1)
    assert next(iter(batch)).shape == (32, 3, 32, 32)
