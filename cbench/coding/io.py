"""All that a model sees of the coder. One script runs with every class here: the encoder returns the symbols it was
given, the decoder the ones it read, so the two cannot drift apart.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from cbench import _core
from cbench.coding.mixture import Mixture
from cbench.coding.pixels import PixelCoder
from cbench.coding.states import StateTables, as_symbols
from cbench.coding.tables import Tables
from cbench.errors import UnsupportedInputError


class CodingIO(Protocol):
    """What a coding script may do. In every method the values are given when encoding and None when decoding."""

    decoding: bool

    def code(self, tables: Tables, index: ArrayLike, symbols: ArrayLike | None = None) -> np.ndarray:
        """Code one symbol for every entry of `index`, the number of its table; int32 array of that shape."""
        ...

    def binary(self, p1: ArrayLike, bits: ArrayLike | None = None) -> np.ndarray:
        """Code one bit for every entry of `p1` (uint16, probability of a one times 65536); uint8 array."""
        ...

    def bits(self, width: int, values: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Code unsigned integers of `width` <= 32 bits as they are; uint32 array of `shape`."""
        ...

    def mixture(self, mixture: Mixture, symbols: ArrayLike | None = None) -> np.ndarray:
        """Code one symbol for each of the mixture's distributions; (n,) int32."""
        ...

    def states(self, tables: StateTables, symbols: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Code (B, L, H, W) symbols, each with the table that its neighbours select; int32 array of `shape`."""
        ...

    def pixels(self, model: PixelCoder, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> None:
        """Code rows of a picture, each sample with a distribution that the ones before it decide.

        Args:
            model: what gives the distributions.
            parameters: (rows, W, ...), what the model wants to know of each pixel of the rows to be coded.
            picture: (C, H, W) uint8, C = 1 or 3. Rows before `first` are given; the decoder writes the coded ones.
            first: where the rows begin.
        """
        ...


class EncodeIO:
    """Writes. `finish()` gives the stream."""

    decoding = False

    def __init__(self) -> None:
        self._native = _core.Encoder()

    def code(self, tables: Tables, index: ArrayLike, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.code`."""
        values = _given(symbols, np.int32, np.shape(index))
        self._native.code(tables.native, _index(index).reshape(-1), values.reshape(-1))
        return values

    def binary(self, p1: ArrayLike, bits: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.binary`."""
        values = _given(bits, np.uint8, np.shape(p1))
        self._native.binary(_probabilities(p1).reshape(-1), values.reshape(-1))
        return values

    def bits(self, width: int, values: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.bits`."""
        given = _given(values, np.uint32, shape)
        self._native.raw(width, given.reshape(-1))
        return given

    def mixture(self, mixture: Mixture, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.mixture`."""
        values = _given(symbols, np.int32, (mixture.n,))
        self._native.mixture(mixture.native, values)
        return values

    def states(self, tables: StateTables, symbols: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.states`."""
        values = _given(symbols, np.int32, shape)
        self._native.states(tables.native, as_symbols(values))
        return values

    def pixels(self, model: PixelCoder, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> None:
        """See `CodingIO.pixels`."""
        self._native.pixels(model.native, *model.arguments(parameters, np.ascontiguousarray(picture)), first)

    def finish(self) -> bytes:
        """The stream of everything coded so far; the object is empty afterwards."""
        return self._native.finish()


class DecodeIO:
    """Reads what `EncodeIO` wrote, with the same calls in the same order.

    Raises:
        BitstreamError: from any method, when the data is damaged, truncated or belongs to other tables.
    """

    decoding = True

    def __init__(self, data: bytes) -> None:
        self._native = _core.Decoder(data)

    def code(self, tables: Tables, index: ArrayLike, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.code`; `symbols` is not looked at."""
        return self._native.code(tables.native, _index(index))

    def binary(self, p1: ArrayLike, bits: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.binary`; `bits` is not looked at."""
        return self._native.binary(_probabilities(p1))

    def bits(self, width: int, values: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.bits`; `values` is not looked at."""
        return self._native.raw(width, int(np.prod(shape, dtype=np.int64))).reshape(shape)

    def mixture(self, mixture: Mixture, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.mixture`; `symbols` is not looked at."""
        return self._native.mixture(mixture.native)

    def states(self, tables: StateTables, symbols: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.states`; `symbols` is not looked at."""
        return self._native.states(tables.native, shape)

    def pixels(self, model: PixelCoder, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> None:
        """See `CodingIO.pixels`."""
        self._native.pixels(model.native, *model.arguments(parameters, picture), first)

    def finish(self) -> None:
        """Check that the stream ends exactly here.

        Raises:
            BitstreamError: data is left over, or the coder does not end in its initial state.
        """
        self._native.finish()


class CountIO:
    """Writes nothing and adds up what the model thinks it costs, -log2 p: the theoretical size."""

    decoding = False

    def __init__(self) -> None:
        self.total = 0.0
        """Bits so far."""

    def code(self, tables: Tables, index: ArrayLike, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.code`."""
        values = _given(symbols, np.int32, np.shape(index))
        self.total += tables.bits(values, index)
        return values

    def binary(self, p1: ArrayLike, bits: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.binary`."""
        values = _given(bits, np.uint8, np.shape(p1))
        p = np.maximum(_probabilities(p1), 1) / 65536
        self.total -= float(np.log2(np.where(values != 0, p, 1 - p)).sum())
        return values

    def bits(self, width: int, values: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.bits`."""
        given = _given(values, np.uint32, shape)
        self.total += width * given.size
        return given

    def mixture(self, mixture: Mixture, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.mixture`."""
        values = _given(symbols, np.int32, (mixture.n,))
        self.total += mixture.bits(values)
        return values

    def states(self, tables: StateTables, symbols: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.states`."""
        values = _given(symbols, np.int32, shape)
        self.total += tables.bits(values)
        return values

    def pixels(self, model: PixelCoder, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> None:
        """See `CodingIO.pixels`."""
        self.total += model.bits(parameters, np.ascontiguousarray(picture), first)


@dataclass(frozen=True)
class Step:
    """One call of a traced script: what was asked of the coder and what came back, as checksums."""

    kind: str
    shape: tuple[int, ...]
    model: int
    """CRC-32 of the tables and indices, or of the probabilities."""
    values: int
    """CRC-32 of the symbols."""


class TraceIO:
    """Passes every call on to another IO and remembers it, to find where two runs of a script part."""

    def __init__(self, inner: CodingIO) -> None:
        self.inner = inner
        self.decoding = inner.decoding
        self.steps: list[Step] = []

    def code(self, tables: Tables, index: ArrayLike, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.code`."""
        out = self.inner.code(tables, index, symbols)
        self._note("code", out, zlib.crc32(tables.cdf.tobytes(), zlib.crc32(_index(index).astype("<i4").tobytes())))
        return out

    def binary(self, p1: ArrayLike, bits: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.binary`."""
        out = self.inner.binary(p1, bits)
        self._note("binary", out, zlib.crc32(_probabilities(p1).tobytes()))
        return out

    def bits(self, width: int, values: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.bits`."""
        out = self.inner.bits(width, values, shape)
        self._note("bits", out, width)
        return out

    def mixture(self, mixture: Mixture, symbols: ArrayLike | None = None) -> np.ndarray:
        """See `CodingIO.mixture`."""
        out = self.inner.mixture(mixture, symbols)
        self._note("mixture", out, zlib.crc32(mixture.native.intervals(out).tobytes()))
        return out

    def states(self, tables: StateTables, symbols: ArrayLike | None = None, shape: tuple[int, ...] = ()) -> np.ndarray:
        """See `CodingIO.states`."""
        out = self.inner.states(tables, symbols, shape)
        self._note("states", out, tables.symbols)
        return out

    def pixels(self, model: PixelCoder, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> None:
        """See `CodingIO.pixels`."""
        self.inner.pixels(model, parameters, picture, first)
        self._note("pixels", picture[:, first : first + len(parameters)], zlib.crc32(np.ascontiguousarray(parameters)))

    def first_difference(self, other: TraceIO) -> str | None:
        """Where this run and another part, in words; None if they are equal."""
        for number, (a, b) in enumerate(zip(self.steps, other.steps, strict=False)):
            if (a.kind, a.shape) != (b.kind, b.shape):
                return f"call {number}: {a.kind}{list(a.shape)} here, {b.kind}{list(b.shape)} there"
            if a.model != b.model:
                return f"call {number} ({a.kind}{list(a.shape)}): the probabilities differ"
            if a.values != b.values:
                return f"call {number} ({a.kind}{list(a.shape)}): equal probabilities, different symbols"
        if len(self.steps) != len(other.steps):
            return f"one run has {len(self.steps)} calls, the other {len(other.steps)}"
        return None

    def _note(self, kind: str, out: np.ndarray, model: int) -> None:
        self.steps.append(Step(kind, out.shape, model, zlib.crc32(np.ascontiguousarray(out).tobytes())))


class StackIO:
    """The last-in-first-out view of the coder, for bits-back coding: pop what was pushed last.

    Bits-back with a latent z: the encoder pops z with the posterior's tables (taking bits off the stack), pushes
    the data with the likelihood's and z with the prior's; the decoder pops z and the data and pushes z with the
    posterior's.

    Args:
        data: a stack stored by `to_bytes`; None: an empty one.
        clean_bits: when the stack runs out, draw bits from a seeded generator and count them in `clean_bits`, instead
            of raising.
        seed: of that generator.

    Raises:
        BitstreamError: stored data that is not a stack; from `pop`, when more is popped than was pushed. The stack
            is then unchanged.
    """

    def __init__(self, data: bytes | None = None, *, clean_bits: bool = False, seed: int = 0) -> None:
        if data is None:
            self._native = _core.Stack(clean_bits, seed)
        else:
            self._native = _core.Stack.from_bytes(data, clean_bits, seed)

    def push(self, tables: Tables, index: ArrayLike, symbols: ArrayLike) -> None:
        """Push one symbol for every entry of `index`, so that `pop` with the same index returns the array."""
        values = _given(symbols, np.int32, np.shape(index))
        self._native.push(tables.native, _index(index).reshape(-1), values.reshape(-1))

    def pop(self, tables: Tables, index: ArrayLike) -> np.ndarray:
        """Pop one symbol for every entry of `index`; int32 array of that shape."""
        return self._native.pop(tables.native, _index(index))

    def push_binary(self, p1: ArrayLike, bits: ArrayLike) -> None:
        """Push one bit for every probability (uint16)."""
        values = _given(bits, np.uint8, np.shape(p1))
        self._native.push_bits(_probabilities(p1).reshape(-1), values.reshape(-1))

    def pop_binary(self, p1: ArrayLike) -> np.ndarray:
        """Pop one bit for every probability; uint8 array."""
        return self._native.pop_bits(_probabilities(p1))

    def push_bits(self, width: int, values: ArrayLike) -> None:
        """Push unsigned integers of `width` <= 32 bits as they are."""
        self._native.push_raw(width, np.ascontiguousarray(values, np.uint32).reshape(-1))

    def pop_bits(self, width: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Pop unsigned integers of `width` bits; uint32 array of `shape`."""
        return self._native.pop_raw(width, int(np.prod(shape, dtype=np.int64))).reshape(shape)

    @property
    def size_bits(self) -> float:
        """Content of the stack in bits; an empty one holds 32."""
        return self._native.bits

    @property
    def clean_bits(self) -> int:
        """How many bits were drawn from the generator: part of the honest size."""
        return self._native.clean_bits

    def to_bytes(self) -> bytes:
        """The whole stack, to be stored and given to a new `StackIO`."""
        return self._native.to_bytes()


def _given(values: ArrayLike | None, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    if values is None:
        raise UnsupportedInputError("the encoder needs the symbols: values is None")
    array = np.asarray(values)
    if array.shape != shape:
        raise UnsupportedInputError(f"the symbols have shape {array.shape} where {shape} is expected")
    if array.size and array.dtype != dtype:
        limits = np.iinfo(dtype)
        if array.dtype.kind not in "iub" or array.min() < limits.min or array.max() > limits.max:
            raise UnsupportedInputError(f"the symbols must fit {limits.dtype}")
    return np.ascontiguousarray(array, dtype).reshape(shape)


def _index(index: ArrayLike) -> np.ndarray:
    array = np.asarray(index)
    if array.dtype not in (np.uint8, np.uint16, np.int32):
        array = array.astype(np.int32)
    return np.ascontiguousarray(array).reshape(array.shape)


def _probabilities(p1: ArrayLike) -> np.ndarray:
    array = np.asarray(p1)
    if array.size and array.dtype != np.uint16:
        raise UnsupportedInputError(f"probabilities must be uint16 (times 65536), not {array.dtype}")
    return np.ascontiguousarray(array, np.uint16).reshape(array.shape)
