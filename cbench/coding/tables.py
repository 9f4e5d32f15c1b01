"""Integer distributions, ready for the coder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from cbench import _core
from cbench.errors import UnsupportedInputError

WEIGHT_BITS = 24
"""Float probabilities become integer weights once, at this resolution relative to the row's largest."""


@dataclass(frozen=True, eq=False)
class Tables:
    """T integer distributions. A table gives every one of its symbols at least one of 2^precision parts.

    Raises:
        UnsupportedInputError: a row that does not rise strictly from 0 to 2^precision.
    """

    cdf: np.ndarray
    """(T, L + 1) uint32 cumulative frequencies; row t uses its first size[t] + 1 entries (+ 2 with escape)."""
    size: np.ndarray
    """(T,) int32: how many symbols each table has, the escape slot not counted."""
    offset: np.ndarray
    """(T,) int32: the value of each table's first symbol."""
    precision: int = 16
    """Frequencies add up to 2^precision (1..16)."""
    escape: bool = False
    """The last slot of every row stands for all other values, which are then written out (at least 6 bits)."""

    def __post_init__(self) -> None:
        """Bring the arrays to the coder's dtypes and let it check them."""
        for name, dtype in (("cdf", np.uint32), ("size", np.int32), ("offset", np.int32)):
            array = np.ascontiguousarray(getattr(self, name), dtype)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(
            self, "native", _core.TableSet(self.cdf, self.size, self.offset, self.precision, self.escape)
        )

    native: _core.TableSet = None  # type: ignore[assignment]
    """The same tables inside the C++ core."""

    def __len__(self) -> int:
        """Number of tables."""
        return len(self.size)

    @classmethod
    def from_weights(
        cls,
        weights: ArrayLike | Sequence[ArrayLike],
        offset: ArrayLike = 0,
        *,
        precision: int = 16,
        escape: bool = False,
    ) -> Tables:
        """Tables from integer weights: integer arithmetic only, so the same on every machine.

        Args:
            weights: (T, L) unsigned integers below 2^32, one 1-d row, or a list of 1-d rows of any lengths. With
                `escape`, the last weight of a row is that of the escape slot.
            offset: value of the first symbol, one number or (T,).
            precision: frequencies add up to 2^precision.
            escape: whether values outside a table may occur.

        Raises:
            UnsupportedInputError: negative, all-zero or too many weights.
        """
        rows, length = _pad(weights)
        if not np.issubdtype(rows.dtype, np.integer):
            raise UnsupportedInputError(f"weights must be integers, not {rows.dtype}; use from_pmf for probabilities")
        if rows.size and (rows.min() < 0 or rows.max() >= 1 << 32):
            raise UnsupportedInputError("weights must lie in 0..2^32-1")
        cdf = _core.cumulate(np.ascontiguousarray(rows, np.uint32), length, precision)
        offsets = np.ascontiguousarray(np.broadcast_to(np.asarray(offset, np.int32), length.shape))
        return cls(cdf, length - int(escape), offsets, precision, escape)

    @classmethod
    def from_pmf(
        cls,
        pmf: ArrayLike | Sequence[ArrayLike],
        offset: ArrayLike = 0,
        *,
        precision: int = 16,
        escape: bool = False,
    ) -> Tables:
        """Tables from probabilities, which need not add up to one; arguments as `from_weights`.

        Each row is rounded once to 24-bit integers relative to its largest entry. The result depends on the machine
        only where the probabilities do: store integer weights where files must decode elsewhere.

        Raises:
            UnsupportedInputError: negative, non-finite or all-zero probabilities.
        """
        rows, length = _pad(pmf)
        rows = rows.astype(np.float64)
        if not np.isfinite(rows).all() or (rows < 0).any():
            raise UnsupportedInputError("probabilities must be finite and not negative")
        largest = rows.max(axis=1, keepdims=True)
        if (largest <= 0).any():
            raise UnsupportedInputError("a table whose probabilities are all zero has no distribution")
        weights = np.floor(rows / largest * (1 << WEIGHT_BITS) + 0.5).astype(np.uint32)
        return cls.from_weights(
            [row[:n] for row, n in zip(weights, length, strict=True)],
            offset,
            precision=precision,
            escape=escape,
        )

    @cached_property
    def frequencies(self) -> np.ndarray:
        """(T, L) integer frequencies, zero behind a row's end."""
        return np.diff(self.cdf.astype(np.int64), axis=1).clip(0)

    def bits(self, symbols: ArrayLike, index: ArrayLike | None = None) -> float:
        """Code length of `symbols` with these integer tables, in bits.

        Args:
            symbols: integers of any shape.
            index: the table of each symbol, same shape; None: table 0.

        Raises:
            UnsupportedInputError: a symbol outside its table (without escape) or an index outside the set.
        """
        flat = np.ascontiguousarray(symbols, np.int32).reshape(-1)
        tables = np.zeros_like(flat) if index is None else np.ascontiguousarray(index, np.int32).reshape(-1)
        return self.native.bits(flat, tables)


def _pad(rows: ArrayLike | Sequence[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """One or more rows of any lengths -> (T, L) padded with zeros, and the lengths (T,) int32."""
    if isinstance(rows, np.ndarray) and rows.ndim in (1, 2):
        array = np.atleast_2d(rows)
    else:
        parts = [np.asarray(row) for row in rows]  # type: ignore[union-attr]
        if parts and parts[0].ndim == 0:
            array = np.asarray(parts)[None]
        else:
            length = np.array([len(part) for part in parts], np.int32)
            array = np.zeros((len(parts), int(length.max(initial=0))), np.result_type(*parts) if parts else np.int64)
            for row, part in zip(array, parts, strict=True):
                row[: len(part)] = part
            return array, length
    return array, np.full(array.shape[0], array.shape[1], np.int32)
