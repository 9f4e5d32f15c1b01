"""Training batches as a pure function of the step: the same items, crops and flips however work is divided.

Batch k of a run is the items k B ... (k + 1) B - 1 of an endless list of shuffled epochs (B the global
batch size). Rank r of w takes the r-th of w equal slices, so two processes together see what one would.
Shuffling, crop and flip of an item are hashes of (seed, epoch, index): they depend on no worker, no rank
and no earlier batch, so a run resumes at any step without replaying the ones before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from cbench.codec import Sample
from cbench.data.base import StackedSamples
from cbench.errors import ConfigError

CACHE_BYTES = 2 << 30
"""Decoded items are kept in memory up to this many bytes (in each worker process)."""

_SHUFFLE, _TOP, _LEFT, _FLIP, _BAND = range(5)


def loader(
    samples: Sequence[Sample],
    batch_size: int,
    *,
    crop: int | None = None,
    bands: int | None = None,
    flip: bool = True,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    steps: int | None = None,
    workers: int = 0,
    cache_bytes: int = CACHE_BYTES,
) -> DataLoader[torch.Tensor]:
    """Batches (batch_size / world, C, H, W) of this process, one a step, without end unless `steps` says so.

    Args:
        samples: The training set.
        batch_size: Items a step over all processes together.
        crop: Side of random square crops; smaller items are first extended by mirroring. None: whole items,
            which must then have one shape.
        bands: Length of a random run of consecutive channels. None: all of them.
        flip: Mirror half of the items left to right.
        seed: Of order, crops and flips.
        rank: Number of this process.
        world: Number of processes.
        start: First step, to resume.
        steps: Steps in the whole run, `start` included; None: endless.
        workers: Processes that prepare batches; changes the speed only.
        cache_bytes: Memory for decoded items.

    With Lightning, pass `use_distributed_sampler=False` to the trainer: the division is done here.

    Raises:
        ConfigError: no samples, or a batch size that the processes cannot share evenly.
    """
    batches = Batches(
        samples,
        batch_size,
        crop=crop,
        bands=bands,
        flip=flip,
        seed=seed,
        rank=rank,
        world=world,
        cache_bytes=cache_bytes,
    )
    return DataLoader(
        batches,
        batch_size=None,
        sampler=Steps(start, steps),
        num_workers=workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
    )


class Batches(Dataset[torch.Tensor]):
    """Batch number `step` of one process; see `loader` for the arguments."""

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        *,
        crop: int | None = None,
        bands: int | None = None,
        flip: bool = True,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if len(samples) == 0:
            raise ConfigError("there is nothing to train on: the data set is empty")
        if batch_size < 1 or world < 1 or batch_size % world or not 0 <= rank < world:
            raise ConfigError(
                f"the batch size (={batch_size}) must be a multiple of the processes (={world}, rank {rank})"
            )
        if (crop is not None and crop < 1) or (bands is not None and bands < 1):
            raise ConfigError(f"crop (={crop}) and bands (={bands}) must be at least 1")
        self._arrays = _Arrays(samples, cache_bytes)
        self._batch_size, self._local = batch_size, batch_size // world
        self._first = rank * self._local
        self._crop, self._bands, self._flip, self._seed = crop, bands, flip, seed
        self._orders: dict[int, np.ndarray] = {}

    def items(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, index) of the items of that step, in order."""
        place = step * self._batch_size + self._first + np.arange(self._local)
        epoch, place = np.divmod(place, len(self._arrays))
        index = np.array([self._order(int(number))[at] for number, at in zip(epoch, place, strict=True)])
        return epoch, index

    def __getitem__(self, step: int) -> torch.Tensor:
        """The batch (B, C, H, W): uint8 and int16 as they are, uint16 as int32, uint32 as int64."""
        epoch, index = self.items(step)
        draws = [_hash(self._seed, epoch, index, what) for what in (_TOP, _LEFT, _FLIP, _BAND)]
        out = []
        for at, top, left, flip, first in zip(index, *draws, strict=True):
            array = self._arrays[int(at)]
            if self._bands is not None:
                array = _run(array, self._bands, int(first))
            if self._crop is not None:
                array = _cut(array, self._crop, int(top), int(left))
            out.append(array[:, :, ::-1] if self._flip and int(flip) >> 63 else array)
        if len({array.shape for array in out}) > 1:
            raise ConfigError("the items of a batch differ in shape; set crop and bands, or a batch size of 1")
        return as_tensor(np.stack(out))

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A batch may lie across two epochs; older ones do not come back.
            self._orders = {number: order for number, order in self._orders.items() if number >= epoch - 1}
            everything = np.arange(len(self._arrays))
            keys = _hash(self._seed, np.full(len(everything), epoch), everything, _SHUFFLE)
            self._orders[epoch] = np.argsort(keys, kind="stable")
        return self._orders[epoch]


class Steps(Sampler[int]):
    """The numbers start, start + 1, ... up to `steps`, or without end."""

    def __init__(self, start: int = 0, steps: int | None = None) -> None:
        if start < 0 or (steps is not None and steps < start):
            raise ConfigError(f"the first step (={start}) must be within 0..{steps}")
        self._start, self._steps = start, steps

    def __iter__(self) -> Iterator[int]:
        step = self._start
        while self._steps is None or step < self._steps:
            yield step
            step += 1

    def __len__(self) -> int:
        if self._steps is None:
            raise TypeError("an endless sampler has no length")
        return self._steps - self._start


class Items(Dataset[torch.Tensor]):
    """Whole items one by one, in order and unchanged, (C, H, W) integers: for validation."""

    def __init__(self, samples: Sequence[Sample], cache_bytes: int = CACHE_BYTES) -> None:
        self._arrays = _Arrays(samples, cache_bytes)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: int) -> torch.Tensor:
        return as_tensor(np.array(self._arrays[index]))


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Integers as a tensor; uint16 becomes int32 and uint32 int64: torch hardly computes with those."""
    wider = {"uint16": np.int32, "uint32": np.int64}.get(array.dtype.name, array.dtype)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=wider))


class _Arrays:
    """Decoded items, kept while they fit."""

    def __init__(self, samples: Sequence[Sample], cache_bytes: int) -> None:
        self._samples, self._free = samples, cache_bytes
        self._kept: dict[int, np.ndarray] = {}
        self._stack: np.ndarray | None = None
        if isinstance(samples, StackedSamples) and samples.nbytes <= cache_bytes:
            # Made before worker processes start, so that they share it.
            self._stack = samples.array

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._stack is not None:
            return self._stack[index]
        if index in self._kept:
            return self._kept[index]
        array = self._samples[index].array
        if array.nbytes <= self._free:
            self._free -= array.nbytes
            # A strided view of a mapped file is read once: each crop of it would touch the whole file.
            self._kept[index] = array = np.ascontiguousarray(array)
        return array


def _run(array: np.ndarray, bands: int, first: int) -> np.ndarray:
    """Consecutive channels from a place given by a large random number."""
    if array.shape[0] < bands:
        raise ConfigError(f"bands (={bands}) is more than the {array.shape[0]} channels of an item")
    first %= array.shape[0] - bands + 1
    return array[first : first + bands]


def _cut(array: np.ndarray, side: int, top: int, left: int) -> np.ndarray:
    """The square of that side at a place given by two large random numbers."""
    height, width = array.shape[1:]
    if min(height, width) < side:
        missing = (max(side - height, 0), max(side - width, 0))
        array = np.pad(array, ((0, 0), (0, missing[0]), (0, missing[1])), mode="symmetric")
        height, width = array.shape[1:]
    y, x = top % (height - side + 1), left % (width - side + 1)
    return array[:, y : y + side, x : x + side]


def _hash(seed: int, epoch: np.ndarray, index: np.ndarray, purpose: int) -> np.ndarray:
    """64 random bits for each (epoch, index), uint64: a chain of SplitMix64 steps, the same everywhere."""
    state = np.full(index.shape, seed & 0xFFFFFFFFFFFFFFFF, np.uint64)
    for word in (epoch, index, np.full(index.shape, purpose)):
        state = (state ^ word.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
