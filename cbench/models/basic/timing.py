"""Predicting how long a structure takes on this machine, from one measurement of every part."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from cbench.coding import DecodeIO, EncodeIO
from cbench.models.basic.complexity import Cost
from cbench.models.basic.integer import BITS
from cbench.models.basic.network import STRIDE, Structure
from cbench.nn.pictures import to_tensor
from cbench.nn.running import running

if TYPE_CHECKING:
    from cbench.models.basic.codec import BasicCodec

REPEATS = 5


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every candidate for pictures of one size."""

    edges: tuple[tuple[float, ...], ...]
    """Of each candidate of x_y, y_z, z_y, y_x."""
    encode: tuple[float, ...]
    """y through each coder of y."""
    decode: tuple[float, ...]
    around: tuple[float, float]
    """What surrounds the networks when encoding and when decoding."""

    def predict(self, s: Structure) -> Cost:
        """Milliseconds to compress and to decompress with a structure."""
        x_y, y_z, z_y, y_x = (table[choice] for table, choice in zip(self.edges, s.choices, strict=False))
        encoder = x_y + y_z + z_y + self.encode[s.coder] + self.around[0]
        return Cost(encoder, z_y + self.decode[s.coder] + y_x + self.around[1])

    @classmethod
    def of(cls, codec: BasicCodec, shape: tuple[int, int] = (512, 768)) -> Timing:
        """Measured once for each model, size and number of threads in a process."""
        key = shape, codec.threads
        kept = _measured.setdefault(codec.network, {})
        if key not in kept:
            kept[key] = _measure(codec, shape)
        return kept[key]


_measured: WeakKeyDictionary[torch.nn.Module, dict[tuple[tuple[int, int], int], Timing]] = WeakKeyDictionary()


def _measure(codec: BasicCodec, shape: tuple[int, int]) -> Timing:
    """Every candidate on its own; then one structure as a whole, which shows what surrounds the networks."""
    picture = _picture(shape)
    counts, edges, s = codec.config.choices, codec.network.edges, codec.front[-1]
    codec = codec.with_structure(s)

    def time_of(call: Callable[[], object]) -> float:
        return _milliseconds(call, codec.threads)

    with running(codec.threads):
        x = to_tensor([picture], STRIDE)
        found = codec.analyse(picture)
        y = torch.from_numpy(found.y)[None]
        z_hat = codec.z_tables(s).values(codec.z_tables(s).symbols(found.z).astype(np.int64), BITS)
        prior = codec.prior(z_hat, s.z_y)
        tables = (
            tuple(time_of(lambda c=c: edges["x_y"](x, c)) for c in range(counts[0])),
            tuple(time_of(lambda c=c: edges["y_z"](y, c)) for c in range(counts[1])),
            tuple(time_of(lambda c=c: codec.prior(z_hat, c)) for c in range(counts[2])),
            tuple(time_of(lambda c=c: edges["y_x"](y, c)) for c in range(counts[3])),
        )
        encode, decode = [], []
        for coder in range(counts[4]):
            writer = EncodeIO()
            codec.code_y(writer, coder, prior, found.y)
            stream = writer.finish()
            encode.append(time_of(lambda c=coder: codec.code_y(EncodeIO(), c, prior, found.y)))
            decode.append(time_of(lambda c=coder, data=stream: codec.code_y(DecodeIO(data), c, prior, None)))
    bare = Timing(tables, tuple(encode), tuple(decode), (0.0, 0.0)).predict(s)
    data = codec.compress(picture)
    whole = time_of(lambda: codec.compress(picture)), time_of(lambda: codec.decompress(data))
    around = max(0.0, whole[0] - bare.encoder), max(0.0, whole[1] - bare.decoder)
    return Timing(tables, tuple(encode), tuple(decode), around)


def _picture(shape: tuple[int, int]) -> np.ndarray:
    """Waves and noise, about as hard to code as a photograph."""
    rows, columns = np.indices(shape)
    waves = 128 + 50 * np.sin(rows / 9) + 40 * np.cos(columns / 7)
    noise = np.random.default_rng(0).normal(0, 8, (3, *shape))
    return (waves + noise).clip(0, 255).astype(np.uint8)


def _milliseconds(call: Callable[[], object], threads: int) -> float:
    """The median of some calls; with one thread its own time, which other programs hardly change."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    call()
    taken = []
    for _ in range(REPEATS):
        start = clock()
        call()
        taken.append(clock() - start)
    return 1000 * statistics.median(taken)
