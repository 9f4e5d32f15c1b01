"""Data sets: layouts, lazy reading, clear sentences when absent, batches that depend on the step alone."""

from __future__ import annotations

import hashlib
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import SHARED, needs_shared

from cbench import data, files
from cbench.codec import Sample
from cbench.data import (
    cifar10,
    clic,
    envi_folder,
    folder,
    hyspecnet,
    imagenet_small,
    openimages,
    photos,
    samples,
)
from cbench.errors import ConfigError, DataNotFoundError, UnsupportedInputError

NAMED: list[tuple[str, Callable[..., Sequence[Sample]]]] = [
    ("kodak", data.kodak),
    ("cifar10", cifar10.train),
    ("cifar10", cifar10.validation),
    ("cifar10", cifar10.test),
    ("imagenet32", imagenet_small.imagenet32_train),
    ("imagenet64", imagenet_small.imagenet64_validation),
    ("imagenet64", imagenet_small.sheet64_test),
    ("photos", photos.train),
    ("openimages", openimages.train),
    ("clic", clic.test),
    ("hyspecnet", hyspecnet.train),
    ("hyperspectral", envi_folder.hyperspectral_test),
]


# SHA-256 of the samples, little-endian, first 16 digits.
CUBE = "6b7b262d500f331b"
PNG_PHOTOS = ["9d1263ba0e684c99", "9c717786308ef130", "9b3e037f9cd32e3a", "036a8bd5572f98b7"]


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


# ---- where data is looked for


@pytest.mark.parametrize(("name", "source"), NAMED)
def test_absent_data_says_where_and_how(tmp_path, monkeypatch, name, source):
    monkeypatch.setenv("CBENCH_DATA", str(tmp_path / "sets"))
    with pytest.raises(DataNotFoundError) as caught:
        source()
    text = str(caught.value)
    for part in (str(tmp_path / "sets" / name), "CBENCH_DATA", "root=", "to get it: "):
        assert part in text
    assert "\n" not in text
    (tmp_path / "sets" / name).mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match=name):
        source()
    with pytest.raises(DataNotFoundError, match="elsewhere"):
        source(tmp_path / "elsewhere")


def test_order_of_places(tmp_path, monkeypatch):
    for place in ("env/kodak", "here/data/kodak", "given", "holder/kodak"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("CBENCH_DATA", raising=False)
    assert data.data_folder("kodak", None, "x") == Path("data/kodak")
    monkeypatch.setenv("CBENCH_DATA", str(tmp_path / "env"))
    assert data.data_folder("kodak", None, "x") == tmp_path / "env/kodak"
    assert data.data_folder("kodak", tmp_path / "given", "x") == tmp_path / "given"
    assert data.data_folder("kodak", str(tmp_path / "holder"), "x") == tmp_path / "holder/kodak"


def test_import_is_light():
    heavy = ("torch", "skimage", "PIL", "scipy", "imagecodecs", "tifffile")
    code = f"import sys, cbench.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- bundled samples


def test_photos_are_colour_photographs():
    found = samples.photos()
    assert [sample.name for sample in found] == [
        "astronaut",
        "chelsea",
        "coffee",
        "motorcycle_left",
        "rocket",
    ]
    for sample in found:
        assert sample.array.dtype == np.uint8
        assert sample.array.shape[0] == 3
        assert min(sample.array.shape[1:]) >= 300
    # The PNG ones are the same everywhere.
    assert [digest(sample.array) for sample in found[:4]] == PNG_PHOTOS


@pytest.mark.parametrize("side", [8, 32, 64, 300])
def test_small_photos(side):
    tiles = samples.small_photos(side)
    assert len(set(tiles.names)) == len(tiles) >= 5
    assert {name.rsplit("-", 2)[0] for name in tiles.names[:5]} == {photo.name for photo in samples.photos()}
    assert all(sample.array.shape == (3, side, side) for sample in tiles[:7])
    for bad in (7, 301):
        with pytest.raises(ConfigError):
            samples.small_photos(bad)


def test_cube_is_the_same_on_every_machine():
    (sample,) = samples.cube()
    assert sample.array.shape == (64, 48, 64)
    assert sample.array.dtype == np.uint16
    assert digest(sample.array) == CUBE
    assert digest(samples.make_cube(seed=2)) != CUBE
    assert samples.make_cube(1, 1, 1).shape == (1, 1, 1)


def test_cube_looks_like_a_spectrometers():
    cube = samples.cube()[0].array.astype(int)
    wavelength = np.linspace(420, 2450, 64)

    def band(nanometres: float) -> np.ndarray:
        return cube[np.abs(wavelength - nanometres).argmin()]

    assert band(940).mean() < 0.85 * min(band(870).mean(), band(1030).mean())
    assert band(1400).mean() < 0.2 * band(1300).mean()
    index = (band(800) - band(670)) / np.maximum(band(800) + band(670), 1)
    assert index.max() > 0.5  # vegetation
    assert index.min() < 0.1  # and others
    smooth = np.abs(np.diff(band(550), axis=1)).mean() / band(550).std()
    assert smooth < 0.5
    assert cube.max() > 4000


# ---- folders of pictures


def make_pictures(place: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(place / name, noise((3, 8 + number, 9), seed=number))


def test_folder_is_sorted_recursive_and_lazy(tmp_path):
    make_pictures(tmp_path, ["b.png", "a.ppm", "sub/c.webp"])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = folder.pictures(tmp_path)
    assert found.names == ("a.ppm", "b.png", "broken.png", "sub/c.webp")
    assert found[-1].name == "sub/c.webp"
    assert [sample.array.shape for sample in found[:2]] == [(3, 9, 9), (3, 8, 9)]
    assert isinstance(found[1:][0], Sample)
    with pytest.raises(UnsupportedInputError):
        found[2]
    with pytest.raises(IndexError):
        found[4]
    assert pickle.loads(pickle.dumps(found))[0].name == "a.ppm"
    with pytest.raises(DataNotFoundError, match="no picture"):
        (tmp_path / "empty").mkdir()
        folder.pictures(tmp_path / "empty")


def test_clic_and_openimages(tmp_path):
    make_pictures(tmp_path / "clic", ["train/mobile/a.png", "train/professional/b.png", "valid/c.png", "test/d.png"])
    assert clic.train(tmp_path).names == ("mobile/a.png", "professional/b.png")
    assert clic.validation(tmp_path / "clic").names == ("c.png",)
    assert clic.test(tmp_path).names == ("d.png",)
    make_pictures(tmp_path / "openimages", ["train/a.png", "validation/b.png"])
    assert openimages.train(tmp_path).names == ("a.png",)
    assert openimages.validation(tmp_path).names == ("b.png",)


def test_kodak_is_complete_or_refused(tmp_path):
    make_pictures(tmp_path, [f"kodim{number:02d}.png" for number in range(1, 24)])
    with pytest.raises(DataNotFoundError, match="23 of the 24"):
        data.kodak(tmp_path)
    make_pictures(tmp_path, ["kodim24.png"])
    assert [sample.name for sample in data.kodak(tmp_path)][::23] == ["kodim01", "kodim24"]


@needs_shared
def test_shared_pictures():
    found = data.kodak(SHARED / "data/kodak")
    assert len(found) == 24
    assert {found[3].array.shape, found[4].array.shape} == {(3, 768, 512), (3, 512, 768)}
    train, validation = photos.train(SHARED / "data"), photos.validation(SHARED / "data")
    assert (len(train), len(validation)) == (119, 20)
    assert not set(train.names) & set(validation.names)
    assert max(train[0].array.shape) == 512


# ---- CIFAR-10


def test_cifar_binary(tmp_path):
    inner = tmp_path / "cifar10/cifar-10-batches-bin"
    inner.mkdir(parents=True)
    whole = noise((60, 3, 32, 32))
    for number, part in enumerate(np.split(whole, 6)):
        records = np.concatenate([np.full((10, 1), 7, np.uint8), part.reshape(10, -1)], axis=1)
        (inner / ("test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin")).write_bytes(records.tobytes())
    train, validation, test = (source(tmp_path) for source in (cifar10.train, cifar10.validation, cifar10.test))
    assert np.array_equal(train.array, whole[:45])
    assert np.array_equal(validation.array, whole[45:50])
    assert np.array_equal(test.array, whole[50:])
    assert validation[0].name == "train-00045"
    assert np.array_equal(train[-1].array, whole[44])
    (inner / "test_batch.bin").write_bytes(bytes(5000))
    with pytest.raises(UnsupportedInputError, match="whole records"):
        cifar10.test(tmp_path)[0]


def python2_pickle(array: np.ndarray) -> bytes:
    """What Python 2 wrote for {"batch_label": ..., "data": array}: byte strings, protocol 2."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    shape = b"".join(b"M" + struct.pack("<H", size) for size in array.shape)
    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\0K\1\x87R(K\3"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
    body = b"T" + struct.pack("<I", array.nbytes) + array.tobytes()
    state = b"(K\1" + shape + b"\x86" + kind + b"\x89" + body + b"tb"
    return b"\x80\2}" + text(b"batch_label") + text(b"x") + b"s" + text(b"data") + head + state + b"s."


@pytest.mark.parametrize("style", ["python2", "protocol2", "protocol4"])
def test_cifar_pickles(tmp_path, style):
    pixels = noise((10_000, 3072))
    if style == "python2":
        content = python2_pickle(pixels)
    else:
        content = pickle.dumps({b"labels": [1, 2], b"data": pixels}, protocol=int(style[-1]))
    (tmp_path / "test_batch").write_bytes(content)
    found = cifar10.test(tmp_path)
    assert len(found) == 10_000
    assert np.array_equal(found.array, pixels.reshape(-1, 3, 32, 32))
    (tmp_path / "test_batch").write_bytes(content[:-1000])
    with pytest.raises(UnsupportedInputError):
        cifar10.test(tmp_path)[0]


class _Evil:
    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_cifar_pickles_run_nothing(tmp_path):
    import codecs

    mark = tmp_path / "mark"
    for evil in (
        _Evil(Path.touch, mark),
        _Evil(eval, f"open({str(mark)!r}, 'w')"),
        _Evil(codecs.encode, "a", "hex"),
        _Evil(np.load, "x"),
        [1, 2, 3],
        {"data": np.zeros((2, 3072), np.uint8)},
        {"data": np.zeros((10_000, 3072), np.int16)},
    ):
        (tmp_path / "test_batch").write_bytes(pickle.dumps(evil, protocol=2))
        with pytest.raises(UnsupportedInputError):
            cifar10.test(tmp_path)[0]
    assert not mark.exists()


def make_sheet(path: Path, tiles: np.ndarray, across: int) -> None:
    count, channels, side, _ = tiles.shape
    grid = tiles.reshape(count // across, across, channels, side, side).transpose(2, 0, 3, 1, 4)
    files.write(path, grid.reshape(channels, count // across * side, across * side))


def test_cifar_sheets(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "TILES_A_SHEET", 20)
    monkeypatch.setattr(cifar10, "SHEET_VALIDATION", 5)
    tiles = noise((60, 3, 32, 32))
    for number in range(2):
        make_sheet(tmp_path / f"train_{number:02d}.webp", tiles[number * 20 : number * 20 + 20], 5)
    make_sheet(tmp_path / "test_00.webp", tiles[40:], 5)
    np.savez(tmp_path / "index.npz", train_index=np.arange(38) * 2, test_index=np.arange(20))
    train, validation, test = (source(tmp_path) for source in (cifar10.train, cifar10.validation, cifar10.test))
    assert np.array_equal(train.array, tiles[:33])
    assert np.array_equal(validation.array, tiles[33:38])
    assert np.array_equal(test[19].array, tiles[59])
    assert validation.names == tuple(f"train-{row:05d}" for row in range(66, 76, 2))
    assert np.array_equal(train[18:22].array, tiles[18:22])
    with pytest.raises(ValueError, match="read-only"):
        train[0].array[0, 0, 0] = 1
    (tmp_path / "train_01.webp").unlink()
    with pytest.raises(DataNotFoundError, match=r"train_01\.webp"):
        cifar10.train(tmp_path)


@needs_shared
def test_shared_cifar():
    train, validation, test = (
        source(SHARED / "data/cifar10") for source in (cifar10.train, cifar10.validation, cifar10.test)
    )
    assert (len(train), len(validation), len(test)) == (29_000, 1_000, 5_000)
    assert len(set(train.names) | set(validation.names)) == 30_000
    assert train[0].name == "train-00000"
    # The first picture of the official batch 1 is a frog whose first red pixels are well known: 59 43 50 68.
    assert train[0].array[0, 0, :4].tolist() == [59, 43, 50, 68]
    means = validation.array.mean(axis=(0, 2, 3)) / 255
    assert np.allclose(means, [0.4914, 0.4821, 0.4464], atol=0.01)


# ---- downsampled ImageNet


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_imagenet_npz(tmp_path, save):
    pixels = noise((25, 3072))
    inner = tmp_path / "imagenet32/Imagenet32_train_npz"
    inner.mkdir(parents=True)
    for number, part in enumerate(np.split(pixels[:20], 10), 1):
        save(inner / f"train_data_batch_{number}.npz", mean=np.zeros(3072), data=part, labels=np.arange(2))
    save(tmp_path / "imagenet32/val_data.npz", data=pixels[20:], labels=np.arange(5))
    train = imagenet_small.imagenet32_train(tmp_path)
    assert len(train) == 20
    assert np.array_equal(train.array, pixels[:20].reshape(-1, 3, 32, 32))  # batch 10 comes last
    assert np.array_equal(imagenet_small.imagenet32_validation(tmp_path)[4].array.ravel(), pixels[24])
    np.savez(tmp_path / "imagenet32/val_data.npz", data=pixels.astype(float))
    with pytest.raises(UnsupportedInputError):
        imagenet_small.imagenet32_validation(tmp_path)
    (tmp_path / "imagenet32/val_data.npz").write_bytes(b"PK no")
    with pytest.raises(UnsupportedInputError):
        imagenet_small.imagenet32_validation(tmp_path)


def test_imagenet_stored_npz_is_memory_mapped(tmp_path):
    np.savez(tmp_path / "val_data.npz", data=noise((4, 3 * 64 * 64)))
    base = imagenet_small.imagenet64_validation(tmp_path)[0].array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert base is not None


@needs_shared
def test_shared_imagenet_sheets():
    large, small = imagenet_small.sheet64_test(SHARED / "data"), imagenet_small.sheet32_test(SHARED / "data")
    assert (len(large), len(small)) == (200, 200)
    assert len(imagenet_small.sheet64_train(SHARED / "data")) == 790
    means = large[7].array.reshape(3, 32, 2, 32, 2).astype(float).mean(axis=(2, 4))
    assert small[7].array.shape == (3, 32, 32)
    assert np.abs(means - small[7].array).max() <= 0.5


# ---- cubes


def test_hyspecnet(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    root = tmp_path / "hyspecnet"
    cube = noise((224, 4, 5), "int16")
    names = [f"SCENE/SCENE-Y0{number}/SCENE-Y0{number}" for number in range(3)]
    for name in names:
        (root / "patches" / name).parent.mkdir(parents=True)
        path = root / "patches" / f"{name}-SPECTRAL_IMAGE.TIF"
        tifffile.imwrite(path, cube, photometric="minisblack", planarconfig="separate")
    np.save(root / "patches" / f"{names[1]}-DATA.npy", np.zeros((202, 4, 5), np.float32))
    for split in ("hard", "easy"):
        (root / "splits" / split).mkdir(parents=True)
    # A split file may name the GeoTIFF, the normalised copy, or the folder.
    lines = f"{names[0]}-SPECTRAL_IMAGE.TIF\n{names[1]}-DATA.npy\nSCENE/SCENE-Y02\n\n"
    (root / "splits/hard/train.csv").write_text(lines)
    (root / "splits/easy/test.csv").write_text(f"{names[0]}-SPECTRAL_IMAGE.TIF\nSCENE/none.TIF\n")
    found = hyspecnet.train(tmp_path)
    assert found.names == ("SCENE-Y00", "SCENE-Y01", "SCENE-Y02")
    kept = np.r_[0:126, 141:160, 167:224]
    for sample in found:
        assert sample.array.dtype == np.int16
        assert np.array_equal(sample.array, cube[kept])
    easy = hyspecnet.test(root, split="easy")
    with pytest.raises(DataNotFoundError, match=r"none\.TIF"):
        easy[1]
    with pytest.raises(DataNotFoundError, match=r"splits/hard/val\.csv"):
        hyspecnet.validation(root)
    with pytest.raises(ConfigError):
        hyspecnet.train(root, split="medium")
    assert hyspecnet.select_bands(cube[:202]).shape == (202, 4, 5)
    with pytest.raises(UnsupportedInputError):
        hyspecnet.select_bands(cube[:203])


def test_folder_of_cubes(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("b", "a/c"):
        files.write(tmp_path / f"{name}.hdr", noise((5, 3, 4), "uint16"))
    found = envi_folder.cubes(tmp_path)
    assert found.names == ("a/c", "b")
    assert found[1].array.shape == (5, 3, 4)
    with pytest.raises(DataNotFoundError):
        envi_folder.hyperspectral_train(tmp_path)


@needs_shared
def test_shared_cubes_have_one_role_each():
    parts = [
        source(SHARED / "data")
        for source in (
            envi_folder.hyperspectral_train,
            envi_folder.hyperspectral_validation,
            envi_folder.hyperspectral_test,
        )
    ]
    names = [name for part in parts for name in part.names]
    assert sorted(names) == sorted(envi_folder.cubes(SHARED / "data/hyperspectral").names)
    assert parts[2][0].array.shape == (202, 32, 64)
    assert int(parts[2][0].array.max()) == 5082


# ---- loaders


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
