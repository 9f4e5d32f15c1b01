r"""Line by line: for a sensor that delivers lines, and a receiver that wants them as they come.

A stream is a prologue, the blocks of the codec's files, and an end:

    prologue  "RLL" 0x1A, varint + codec name, u8 dtype (as in containers), varints: bands, columns, error bound;
              u32 CRC-32 of these. Codecs with weights begin with "RLN" 0x1A, and have the 4 bytes of their
              fingerprint before the dtype
    blocks    as in `cbench.coding.lines.blocks`
    end       "RLE" 0x1A, u32 number of lines, u32 CRC-32 of these

Memory does not grow with the number of lines.
"""

from __future__ import annotations

import zlib

import numpy as np

from cbench.coding.container import DTYPES
from cbench.coding.cube import CubeCodec
from cbench.coding.lines.blocks import BlockReader, BlockWriter
from cbench.coding.lines.codec import MAX_LINES, Format, LinesCodec
from cbench.coding.varint import MAX_VARINT_BYTES, Reader, varint
from cbench.errors import BitstreamError, ConfigError, UnsupportedInputError, WrongModelError

PROLOGUE = b"RLL\x1a"
WITH_WEIGHTS = b"RLN\x1a"
_FINGERPRINT = 4
END = b"RLE\x1a"
_END_SIZE = 12
_LONGEST_PROLOGUE = 4 + 1 + 127 + _FINGERPRINT + 1 + 3 * MAX_VARINT_BYTES + 4


class LineEncoder:
    """Lines (C, W) in, bytes out; `finish` ends the stream."""

    def __init__(self, codec: LinesCodec, bands: int, columns: int, dtype: str = "uint16") -> None:
        """The codec gives experts, error bound and block length. Raises `UnsupportedInputError` for other dtypes."""
        if dtype not in codec.dtypes:
            raise UnsupportedInputError(f"{codec.name} codes samples of 8 or 16 bits, not {dtype}")
        self._format = codec.format_of(bands, columns, dtype, codec.max_error, codec.threads)
        self._engine = self._format.encoder()
        self._block, self._lines, self._in_block = codec.block or MAX_LINES, 0, 0
        self._writer = BlockWriter(0)
        self._start = _prologue(codec, self._format)
        self._ended = False

    def push(self, line: np.ndarray) -> bytes:
        """One line (C, W) of the stream's dtype; returns the bytes that became final, often none.

        Raises:
            UnsupportedInputError: another shape or dtype.
            ConfigError: the stream has ended.
        """
        form = self._format
        if self._ended:
            raise ConfigError("the stream has ended: a new one needs a new encoder")
        if not isinstance(line, np.ndarray) or line.shape != (form.bands, form.columns) or line.dtype != form.dtype:
            shape = (form.bands, form.columns)
            raise UnsupportedInputError(f"lines of this stream have the shape {shape} and are {form.dtype}")
        out = self._take_start()
        if self._in_block == self._block:
            out += self._end_block()
        data, _ = self._engine.encode(line[None].astype(np.int32, order="C"))
        self._lines += 1
        self._in_block += 1
        return out + self._writer.write(data)

    def finish(self) -> bytes:
        """The rest of the stream.

        Raises:
            ConfigError: there was no line, or the stream has ended before.
        """
        if self._ended or not self._lines:
            raise ConfigError("there is no line to end the stream after")
        self._ended = True
        end = END + self._lines.to_bytes(4, "little")
        return self._end_block() + end + zlib.crc32(end).to_bytes(4, "little")

    def _take_start(self) -> bytes:
        start, self._start = self._start, b""
        return start

    def _end_block(self) -> bytes:
        out = self._writer.write(self._engine.finish()) + self._writer.finish(self._in_block)
        self._writer, self._in_block = BlockWriter(self._lines), 0
        return out


class LineDecoder:
    """Bytes in, in pieces of any size, and lines out as soon as they are certain."""

    def __init__(self, codec: LinesCodec) -> None:
        """The codec of the stream's name; bound and dtype come with the stream."""
        self._codec = codec
        self._format: Format | None = None
        self._buffer = b""
        self._reader = BlockReader()
        self._lines = 0
        self._first = 0
        self.ended = False
        """Whether the end of the stream was seen, and as many lines as it announces."""

    def push(self, data: bytes) -> np.ndarray:
        """Returns lines (n, C, W), n >= 0.

        Raises:
            BitstreamError: damaged, or bytes behind the end.
            WrongModelError: a stream of another codec.
        """
        if self._format is None:
            self._buffer += data
            if not self._read_prologue():
                return np.empty((0, 0, 0), np.uint16)
            data, self._buffer = self._buffer, b""
        form = self._form()
        self._reader.feed(data)
        found = [np.empty((0, form.bands, form.columns), form.dtype)]
        while not self.ended and not self._read_end():
            for piece in self._reader.pieces():
                self._engine.feed(piece.data, piece.lines is not None)
                found.append(self._decode(piece.lines))
            if self._reader.first_line not in (None, self._first):
                raise BitstreamError("a block of lines is missing or out of order")
            if not self._reader.finished:
                break
            rest, self._reader, self._first = self._reader.rest(), BlockReader(), self._lines
            self._reader.feed(rest)
        if self.ended and self._reader.rest():
            raise BitstreamError("there are bytes behind the end of the stream")
        return np.concatenate(found)

    def finish(self) -> None:
        """Raise `BitstreamError` unless the stream has come to its end."""
        if not self.ended:
            raise BitstreamError("the stream of lines is cut off")

    def _form(self) -> Format:
        if self._format is None:
            raise BitstreamError("the stream of lines has not begun")
        return self._format

    def _decode(self, lines: int | None) -> np.ndarray:
        form, found = self._form(), []
        left = None if lines is None else lines - (self._lines - self._first)
        while left is None or left > 0:
            some = self._engine.decode(form.batch if left is None else min(form.batch, left))
            if not len(some):
                break
            found.append(some.astype(form.dtype))
            self._lines += len(some)
            left = None if left is None else left - len(some)
        if lines is not None:
            if left != 0:
                raise BitstreamError("a block holds other lines than it says")
            self._engine.finish()
        return np.concatenate(found) if found else np.empty((0, form.bands, form.columns), form.dtype)

    def _read_prologue(self) -> bool:
        """Set up the engine once the prologue is complete; returns whether it is."""
        try:
            self._format, used = _read_prologue(self._codec, self._buffer)
        except BitstreamError:
            begun = any(start.startswith(self._buffer[:4]) for start in (PROLOGUE, WITH_WEIGHTS))
            if len(self._buffer) >= _LONGEST_PROLOGUE or not begun:
                raise
            return False
        self._buffer = self._buffer[used:]
        self._engine = self._format.decoder()
        return True

    def _read_end(self) -> bool:
        """Whether what follows is the end of the stream, or its first bytes."""
        rest = self._reader.rest()
        if self._reader.first_line is not None or not rest or not END.startswith(rest[:4]):
            return False
        if len(rest) < _END_SIZE:
            return True
        if zlib.crc32(rest[:8]) != int.from_bytes(rest[8:_END_SIZE], "little"):
            raise BitstreamError("the end of the stream is damaged")
        if int.from_bytes(rest[4:8], "little") != self._lines:
            raise BitstreamError("the stream announces another number of lines than it holds")
        self._reader = BlockReader()
        self._reader.feed(rest[_END_SIZE:])
        self.ended = True
        return True


def _start(codec: LinesCodec) -> bytes:
    return WITH_WEIGHTS if codec.fingerprint else PROLOGUE


def _prologue(codec: LinesCodec, form: Format) -> bytes:
    text = codec.name.encode("ascii")
    sizes = b"".join(varint(n) for n in (form.bands, form.columns, form.max_error))
    dtype = bytes([DTYPES.index(form.dtype)])
    body = _start(codec) + varint(len(text)) + text + codec.fingerprint + dtype + sizes
    return body + zlib.crc32(body).to_bytes(4, "little")


def _read_prologue(codec: LinesCodec, data: bytes) -> tuple[Format, int]:
    reader = Reader(data)
    start = reader.take(4, "prologue")
    if start not in (PROLOGUE, WITH_WEIGHTS):
        raise BitstreamError("this is not a stream of lines")
    name = reader.take(reader.varint("codec name"), "codec name")
    fingerprint = reader.take(_FINGERPRINT, "fingerprint") if start == WITH_WEIGHTS else b""
    kind = reader.uint(1, "dtype")
    bands, columns, bound = (reader.varint(what) for what in ("bands", "columns", "error bound"))
    end = reader.position
    if reader.uint(4, "checksum") != zlib.crc32(data[:end]):
        raise BitstreamError("the prologue of the stream is damaged")
    if name.decode("ascii", "replace") != codec.name:
        raise WrongModelError(f"the stream was made by {name.decode('ascii', 'replace')}, not by {codec.name}")
    if fingerprint != codec.fingerprint:
        raise WrongModelError(f"the stream was made with other weights of {codec.name}")
    if kind >= len(DTYPES) or DTYPES[kind] not in CubeCodec.dtypes:
        raise BitstreamError("the stream announces samples of an unknown kind")
    return codec.format_of(bands, columns, DTYPES[kind], bound, codec.threads), reader.position
