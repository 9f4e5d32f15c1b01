"""A checksum of everything that a script codes."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike

from cbench.coding.io import CodingIO
from cbench.coding.mixture import Mixture
from cbench.coding.pixels import PixelCoder
from cbench.coding.states import StateTables
from cbench.coding.tables import Tables


class SummedIO:
    """Passes every call on to another IO and keeps the CRC-32 of the symbols.

    Lossy codecs store it: their symbols must be the same on every machine, while the last network may round a sample
    of the picture differently.
    """

    def __init__(self, inner: CodingIO) -> None:
        self.inner = inner
        self.decoding = inner.decoding
        self.check = 0
        """CRC-32 of the symbols so far, as little-endian integers of the types that the methods return."""

    def code(self, tables: Tables, index: ArrayLike, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.code`."""
        return self._add(self.inner.code(tables, index, symbols))

    def binary(self, p1: ArrayLike, bits: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.binary`."""
        return self._add(self.inner.binary(p1, bits))

    def bits(self, width: int, values: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.bits`."""
        return self._add(self.inner.bits(width, values, shape))

    def mixture(self, mixture: Mixture, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.mixture`."""
        return self._add(self.inner.mixture(mixture, symbols))

    def states(self, tables: StateTables, symbols: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.states`."""
        return self._add(self.inner.states(tables, symbols, shape))

    def pixels(self, model: PixelCoder, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> None:
        """See `CodingIO.pixels`."""
        self.inner.pixels(model, parameters, picture, first)
        self._add(picture[:, first : first + len(parameters)])

    def _add(self, symbols: np.ndarray) -> np.ndarray:
        little = np.ascontiguousarray(symbols, symbols.dtype.newbyteorder("<"))
        self.check = zlib.crc32(little.tobytes(), self.check)
        return symbols
