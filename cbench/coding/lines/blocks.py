r"""Independent blocks of lines as bytes: every block, and every piece of one, can be checked before it is decoded.

A block:

    4 bytes   0xB5 "RL" 0x1A
    u32       number of its first line, little-endian like everything
    pieces    u16 size, that many bytes, [u32 number of lines: last piece only], u32 CRC-32 of everything in the block
              so far but the other CRCs; all pieces but the last have 65,535 bytes
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from cbench.errors import BitstreamError

SYNC = b"\xb5RL\x1a"
HEAD = len(SYNC) + 4
PIECE = 65535


@dataclass
class BlockWriter:
    """Collects the bytes of one block and gives them out in checked pieces."""

    first_line: int
    _pending: bytearray = field(default_factory=bytearray)
    _check: int = 0
    _opened: bool = False

    def write(self, data: bytes) -> bytes:
        """Add bytes of the coder; returns what is complete."""
        self._pending += data
        out = bytearray(self._open())
        while len(self._pending) >= PIECE:
            out += self._piece(b"")
        return bytes(out)

    def finish(self, lines: int) -> bytes:
        """The rest of the block, which holds so many lines."""
        return self._open() + self._piece(lines.to_bytes(4, "little"))

    def _open(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        head = SYNC + self.first_line.to_bytes(4, "little")
        self._check = zlib.crc32(head)
        return head

    def _piece(self, end: bytes) -> bytes:
        body = bytes(self._pending[:PIECE])
        del self._pending[:PIECE]
        piece = len(body).to_bytes(2, "little") + body + end
        self._check = zlib.crc32(piece, self._check)
        return piece + self._check.to_bytes(4, "little")


@dataclass(frozen=True)
class Piece:
    """A piece whose check was right."""

    data: bytes
    lines: int | None
    """Lines of the block; None: more pieces follow."""


@dataclass
class BlockReader:
    """Takes bytes as they come and gives out the pieces of one block."""

    first_line: int | None = None
    """Known once the block has begun."""
    finished: bool = False
    _buffer: bytearray = field(default_factory=bytearray)
    _check: int = 0

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._buffer += data

    def pieces(self) -> Iterator[Piece]:
        """Every piece that is complete.

        Raises:
            BitstreamError: this is not a block, or a piece is damaged.
        """
        if self.first_line is None:
            if not SYNC.startswith(self._buffer[: len(SYNC)]):
                raise BitstreamError("the coded lines are damaged: there is no block where one should begin")
            if len(self._buffer) < HEAD:
                return
            head = self._cut(HEAD)
            self.first_line = int.from_bytes(head[4:], "little")
            self._check = zlib.crc32(head)
        while not self.finished and len(self._buffer) >= 2:
            size = int.from_bytes(self._buffer[:2], "little")
            end = 2 + size + (4 if size < PIECE else 0)
            if len(self._buffer) < end + 4:
                return
            body = self._cut(end)
            self._check = zlib.crc32(body, self._check)
            if int.from_bytes(self._cut(4), "little") != self._check:
                raise BitstreamError("the coded lines are damaged: the checksum of a piece does not match")
            self.finished = size < PIECE
            lines = int.from_bytes(body[-4:], "little") if self.finished else None
            yield Piece(body[2 : 2 + size], lines)

    def rest(self) -> bytes:
        """Bytes behind what was used."""
        return bytes(self._buffer)

    def _cut(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


@dataclass(frozen=True)
class Block:
    """A block whose checks were right."""

    first_line: int
    lines: int
    data: bytes


def split_blocks(payload: bytes) -> Iterator[Block]:
    """The blocks one behind the other; raises `BitstreamError` where one is damaged."""
    start = 0
    while start < len(payload):
        end = end_of_block(payload, start)
        reader = BlockReader()
        reader.feed(payload[start:end])
        pieces = list(reader.pieces())
        if not reader.finished:
            raise BitstreamError("the coded lines are cut off inside a block")
        yield Block(reader.first_line or 0, pieces[-1].lines or 0, b"".join(piece.data for piece in pieces))
        start = end


def end_of_block(payload: bytes, start: int) -> int:
    """Where the block that begins at `start` ends by the sizes of its pieces, which are not checked here."""
    at, size = start + HEAD, PIECE
    while size == PIECE and at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "little")
        at += 2 + size + (4 if size < PIECE else 0) + 4
    return min(at, len(payload))
