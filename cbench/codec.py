"""What the runner, the shell and the plugins know of a codec: protocols, never a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One item of a data set."""

    name: str
    """Short and unique inside its data set; names the row in a result table."""
    array: np.ndarray
    """(C, H, W) integers; a cube's bands are C."""


@runtime_checkable
class Codec(Protocol):
    """One integer array (C, H, W) <-> one self-contained byte string.

    `compress` raises `UnsupportedInputError` for arrays it does not take; `decompress` raises `BitstreamError`,
    `WrongModelError` or `DecodeMismatchError` rather than return a wrong array.
    """

    @property
    def name(self) -> str:
        """The name under which `cbench.load_codec` finds it, such as "png" or "fsar.cifar10"."""
        ...

    @property
    def max_error(self) -> int | None:
        """0: lossless. k: near-lossless, |x - x'| <= k everywhere. None: lossy."""
        ...

    def compress(self, array: np.ndarray) -> bytes: ...

    def decompress(self, data: bytes) -> np.ndarray: ...


@runtime_checkable
class ArchiveCodec(Codec, Protocol):
    """A codec that also packs many small arrays into one archive, cheaper and faster than one file each."""

    def compress_many(self, arrays: Sequence[np.ndarray]) -> bytes: ...

    def decompress_many(self, data: bytes) -> list[np.ndarray]: ...


@runtime_checkable
class CountsBits(Protocol):
    """A codec that can say what its model thinks an array costs, from the same script that codes it."""

    def bits(self, array: np.ndarray) -> float: ...


@runtime_checkable
class NearLossless(Protocol):
    """A codec that can bound its error on request."""

    def with_max_error(self, delta: int) -> Codec: ...


@runtime_checkable
class Scalable(Protocol):
    """A codec with one set of weights for many complexities; each method gives a codec that compresses differently."""

    def with_complexity(self, level: int) -> Codec: ...

    def with_max_kmac(self, limit: float) -> Codec: ...

    def with_max_ms(self, limit: float, shape: tuple[int, int]) -> Codec: ...


@runtime_checkable
class Adjustable(Protocol):
    """A lossy codec with a dial; files say where it stood."""

    @property
    def name(self) -> str: ...

    @property
    def qualities(self) -> Sequence[int]:
        """Settings from the smallest files to the best pictures."""
        ...

    def with_quality(self, quality: int) -> Codec: ...
