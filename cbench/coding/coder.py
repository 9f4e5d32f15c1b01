"""Arrays <-> coded bytes: the coder's public functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cbench import _core
from cbench.coding.tables import Tables
from cbench.errors import UnsupportedInputError


def encode(symbols: ArrayLike, tables: Tables, index: ArrayLike | None = None, *, threads: int = 1) -> bytes:
    """Code integers with static or indexed tables.

    Args:
        symbols: integers (int8, uint8, int16, uint16 or int32 without a copy), any shape, coded in C order.
        tables: one or more distributions.
        index: the table of each symbol, same shape; None: all use table 0, and the count is stored in the stream.
        threads: threads for arrays beyond 2^22 symbols; the bytes do not depend on it.

    Returns:
        The coded stream (csrc/FORMAT.md).

    Raises:
        UnsupportedInputError: a symbol outside its table (without escape), an index outside the set, unequal lengths.
    """
    return _core.encode(_integers(symbols), tables.native, None if index is None else _integers(index), threads)


def decode(
    data: bytes, tables: Tables, index: ArrayLike | None = None, count: int | None = None, *, threads: int = 1
) -> np.ndarray:
    """Inverse of `encode`.

    Args:
        data: what `encode` returned.
        tables: the same tables.
        index: the same index; its shape is the shape of the result.
        count: without an index: the number of symbols if it is known; checked against the stream's own.
        threads: threads for arrays beyond 2^22 symbols.

    Returns:
        int32 array, of the shape of `index`, or (count,).

    Raises:
        BitstreamError: the data is damaged, truncated, too long, or was coded with other tables.
    """
    if index is None:
        return _core.decode(data, tables.native, None, count, threads)
    shape = np.shape(index)
    return _core.decode(data, tables.native, _integers(index), count, threads).reshape(shape)


def encode_bits(bits: ArrayLike, p1: ArrayLike, *, threads: int = 1) -> bytes:
    """Code bits with one probability each.

    Args:
        bits: 0 or 1, any shape.
        p1: uint16, same shape: probability of a one, times 65536 (0 is taken as 1).
        threads: as in `encode`.

    Raises:
        UnsupportedInputError: other values than 0 and 1, unequal lengths, probabilities that are not uint16.
    """
    return _core.encode_bits(_flat(bits, np.uint8, "bits"), _flat(p1, np.uint16, "p1"), threads)


def decode_bits(data: bytes, p1: ArrayLike, *, threads: int = 1) -> np.ndarray:
    """Inverse of `encode_bits`: uint8 array of the shape of `p1`.

    Raises:
        BitstreamError: the data is damaged, truncated, too long, or was coded with other probabilities.
    """
    return _core.decode_bits(data, _flat(p1, np.uint16, "p1"), threads).reshape(np.shape(p1))


def encode_rows(symbols: ArrayLike, rows: ArrayLike, *, threads: int = 1) -> bytes:
    """Code integers 0..L-1, each with a distribution of its own.

    Args:
        symbols: integers, any shape, n in all.
        rows: (..., L) uint16 weights, one row a symbol; need not add up to anything, zero weights remain codable.
        threads: as in `encode`.

    Raises:
        UnsupportedInputError: a symbol outside 0..L-1, an all-zero row, rows that are not uint16.
    """
    return _core.encode_rows(_integers(symbols), _rows(rows), threads)


def decode_rows(data: bytes, rows: ArrayLike, *, threads: int = 1) -> np.ndarray:
    """Inverse of `encode_rows`: int32 array of the shape of `rows` without its last axis.

    Raises:
        BitstreamError: the data is damaged, truncated, too long, or was coded with other rows.
    """
    return _core.decode_rows(data, _rows(rows), threads).reshape(np.shape(rows)[:-1])


def _integers(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, np.int32)
    if array.dtype.kind not in "iub":
        raise UnsupportedInputError(f"the coder takes integers, not {array.dtype}")
    if array.dtype.itemsize > 4 or array.dtype == np.uint32:
        if array.min() < -(1 << 31) or array.max() >= 1 << 31:
            raise UnsupportedInputError("the coder takes values of at most 32 bits (int32)")
        array = array.astype(np.int32)
    if array.dtype == bool or not array.dtype.isnative:
        array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array).reshape(-1)


def _flat(values: ArrayLike, dtype: type, what: str) -> np.ndarray:
    array = np.asarray(values)
    limit = np.iinfo(dtype).max
    other = array.size and array.dtype != dtype
    if other and (array.dtype.kind not in "iub" or array.min() < 0 or array.max() > limit):
        raise UnsupportedInputError(f"{what} must be {np.dtype(dtype).name}, not {array.dtype}")
    return np.ascontiguousarray(array, dtype).reshape(-1)


def _rows(rows: ArrayLike) -> np.ndarray:
    array = np.asarray(rows)
    if array.ndim < 1 or (array.size and array.dtype != np.uint16):
        raise UnsupportedInputError(f"rows must be (..., L) weights of dtype uint16, not {array.dtype}")
    return np.ascontiguousarray(array, np.uint16).reshape(-1, array.shape[-1])


def encode_adaptive(residuals: ArrayLike) -> bytes:
    """Code residuals of a predictor without a model: means, scales and tables follow what has been coded.

    Args:
        residuals: (planes, lines, samples) integers within +-2^24, for instance (bands, lines, columns).

    Raises:
        UnsupportedInputError: another number of dimensions, or larger values.
    """
    return _core.encode_adaptive(_planes(residuals))


def decode_adaptive(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of `encode_adaptive`: int32 array of `shape`.

    Raises:
        BitstreamError: the data is damaged, truncated, too long, or belongs to another shape.
    """
    return _core.decode_adaptive(data, shape)


def _planes(residuals: ArrayLike) -> np.ndarray:
    array = np.asarray(residuals)
    if array.ndim != 3:
        raise UnsupportedInputError(f"residuals are (planes, lines, samples); this shape is {array.shape}")
    return _integers(array).astype(np.int32, copy=False).reshape(array.shape)
