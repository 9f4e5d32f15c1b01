"""Finite-state autoregressive coding: the table of a symbol is looked up by the symbols around it, so decoding needs no
network and no Python loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cbench import _core
from cbench.errors import UnsupportedInputError

Offset = tuple[int, int, int]
"""(group, row, column) of a neighbour relative to the symbol, each at most 0 and not all 0."""


class StateTables:
    """A prior with finitely many states: integer tables, and a map from neighbours to tables.

    Args:
        weights: (T, K) unsigned integers below 2^32; tables are made by the table rule of csrc/FORMAT.md, which
            uses integers only.
        table_of: (L, (K + 1)^W) number of the table for each group and context. A neighbour's state is its
            symbol + 1, or 0 outside the picture; the context is the states as digits in base K + 1, the first
            offset most significant. Contexts may share tables.
        offsets: the W <= 8 neighbours.

    Raises:
        UnsupportedInputError: sizes that do not fit, an offset to a symbol that is not coded before, a map to a table
            that does not exist.
    """

    def __init__(self, weights: ArrayLike, table_of: ArrayLike, offsets: Sequence[Offset]) -> None:
        rows = np.asarray(weights)
        if rows.ndim != 2 or rows.dtype.kind not in "iu" or (rows.size and (rows.min() < 0 or rows.max() >= 1 << 32)):
            raise UnsupportedInputError("state tables take (T, K) integer weights below 2^32")
        self.native = _core.StateModel(
            np.ascontiguousarray(rows, np.uint32),
            np.ascontiguousarray(table_of, np.int32),
            [tuple(map(int, offset)) for offset in offsets],
        )
        self.symbols = rows.shape[1]
        """K, the alphabet."""
        self.offsets = tuple(offsets)

    @property
    def nbytes(self) -> int:
        """Memory of tables and map, in bytes."""
        return self.native.nbytes

    def encode(self, symbols: ArrayLike) -> bytes:
        """Code (B, L, H, W) symbols 0..K-1 as one stream.

        Raises:
            UnsupportedInputError: a symbol outside 0..K-1, or another number of groups.
        """
        return self.native.encode(as_symbols(symbols))

    def decode(self, data: bytes, shape: tuple[int, int, int, int]) -> np.ndarray:
        """Inverse of `encode`: int32 array of `shape`.

        Raises:
            BitstreamError: damaged or truncated data, or other tables.
        """
        return self.native.decode(data, shape)

    def bits(self, symbols: ArrayLike) -> float:
        """Code length of (B, L, H, W) symbols with these integer tables, in bits."""
        return self.native.bits(as_symbols(symbols))


def as_symbols(symbols: ArrayLike) -> np.ndarray:
    """(B, L, H, W) integers as the C++ core takes them."""
    array = np.asarray(symbols)
    if array.ndim != 4 or array.dtype.kind not in "iu":
        raise UnsupportedInputError("state-coded symbols are integers of shape (pictures, groups, height, width)")
    return np.ascontiguousarray(array, np.int32)
