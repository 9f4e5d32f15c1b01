"""Experiments and faulty codecs for the tests of the runner."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np

from cbench.bench import classical
from cbench.bench.config import CodecSpec, DataSpec, Experiment, TrainSpec
from cbench.codec import Sample
from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import Header
from cbench.errors import BitstreamError


def tiny(count=3, side=24, channels=3):
    """A few noisy ramps."""
    rng = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(side), np.arange(side))
    return [
        Sample(f"item{i}", (ramp + rng.integers(0, 9, (channels, side, side))).astype(np.uint8)) for i in range(count)
    ]


def png_spec(label="png", build=classical.png):
    return CodecSpec(codec="png", label=label, build=build)


def experiment(*codecs, source=tiny, **changes):
    return Experiment(name="t", codecs=codecs or (png_spec(),), data=(DataSpec(source=source),), **changes)


@dataclass
class Broken:
    """A codec with one fault."""

    fault: str
    name: str = "broken"
    max_error: int | None = 0

    def compress(self, array):
        if self.fault == "compress" and array[0, 0, 0] % 2:
            raise RuntimeError("no\nway")
        return array.tobytes()

    def decompress(self, data):
        array = np.frombuffer(data, np.uint8).reshape(3, 24, 24).copy()
        if self.fault == "decode":
            raise BitstreamError("bad bits")
        if self.fault == "value":
            array[1, 2, 3] ^= 4
        return array[:, 1:] if self.fault == "shape" else array

    def bits(self, array):
        return 7.5 * array.size


@dataclass
class Archiver:
    """Packs items as they are."""

    name: str = "archiver"
    max_error: int | None = 0

    def compress(self, array):
        return array.tobytes()

    def decompress(self, data):
        return np.frombuffer(data, np.uint8).reshape(3, 24, 24)

    def compress_many(self, arrays):
        head = Header(codec=self.name, shape=arrays[0].shape, dtype="uint8")
        return pack_archive(head, [a.tobytes()[: 100 + 7 * i] for i, a in enumerate(arrays)])

    def decompress_many(self, data):
        count = len(unpack_archive(data))
        return [sample.array for sample in tiny(10)][:count]


def fixed(codec):
    return lambda weights, device, threads: codec


def trained():
    train = TrainSpec(
        module=len, data=DataSpec(source=tiny), validation=DataSpec(source=tiny), steps=10, batch_size=2, lr=1e-3
    )
    own = CodecSpec(codec="png", label="own", weights="run", build=fixed(Broken("")))
    return experiment(own, png_spec(), train=train)


def write(path, text):
    path.write_text(textwrap.dedent(text))
    return path


HEAD = """
from cbench.bench.config import CodecSpec, DataSpec, Experiment
def _source(): return []
def _make(name):
    return Experiment(name=name, codecs=(CodecSpec(codec="png"),), data=(DataSpec(source=_source),))
"""
