"""What is left of a damaged file: all blocks of lines that are intact."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cbench.coding.container import Header, unpack
from cbench.coding.lines.blocks import SYNC, BlockReader, Piece, end_of_block
from cbench.coding.lines.codec import Format, LinesCodec
from cbench.coding.varint import Reader
from cbench.errors import BitstreamError, WrongModelError


@dataclass(frozen=True)
class Recovered:
    """A cube with holes."""

    array: np.ndarray
    """(C, H, W); lost lines are zero."""
    lost: tuple[tuple[int, int], ...]
    """Ranges [first, behind the last) of lost lines, in order."""


def recover(codec: LinesCodec, data: bytes) -> Recovered:
    """Decode every line that the damage to a file has left: whole blocks, and lines of a block before its first damage.

    Only lines whose bytes have the right checksum are returned. The header at the start of the file must be intact.

    Raises:
        BitstreamError: the header is damaged, or the file is not of this codec.
        WrongModelError: the file was made with other weights.
    """
    head, payload = _open(data)
    if head.codec != codec.name:
        raise BitstreamError(f"the file was made by {head.codec}, not by {codec.name}")
    if (head.format, head.fingerprint) != (codec.format, codec.fingerprint):
        raise WrongModelError(f"the file was made with other weights, or in another byte format, of {codec.name}")
    bound = Reader(head.params).varint("error bound")
    form = codec.format_of(head.shape[0], head.shape[2], head.dtype, bound, codec.threads)
    array = np.zeros(head.shape, head.dtype)
    found = np.zeros(head.shape[1], bool)
    for first, pieces in _intact(payload):
        _decode(form, first, pieces, array, found)
    return Recovered(array, _ranges(~found))


def _open(data: bytes) -> tuple[Header, bytes]:
    """Header and section of a container whose CRC-32 need not match."""
    body = bytes(data[:-4])
    head, sections = unpack(body + zlib.crc32(body).to_bytes(4, "little"))
    return head, sections[-1]


def _intact(payload: bytes) -> Iterator[tuple[int, list[Piece]]]:
    """First line and intact pieces of everything that looks like a block."""
    at = payload.find(SYNC)
    while at >= 0:
        reader, pieces = BlockReader(), []
        end = end_of_block(payload, at)
        reader.feed(payload[at:end])
        try:
            for piece in reader.pieces():
                pieces.append(piece)
        except BitstreamError:
            pass
        if pieces and reader.first_line is not None:
            yield reader.first_line, pieces
        at = payload.find(SYNC, end if reader.finished else at + 1)


def _decode(form: Format, first: int, pieces: list[Piece], array: np.ndarray, found: np.ndarray) -> None:
    """Decode what the pieces hold into the lines from `first` on."""
    decoder, line = form.decoder(), first
    height = len(found) if pieces[-1].lines is None else min(len(found), first + pieces[-1].lines)
    for piece in pieces:
        decoder.feed(piece.data, piece.lines is not None)
    try:
        while line < height and len(some := decoder.decode(min(form.batch, height - line))):
            array[:, line : line + len(some)] = some.transpose(1, 0, 2)
            found[line : line + len(some)] = True
            line += len(some)
    except BitstreamError:
        return


def _ranges(lost: np.ndarray) -> tuple[tuple[int, int], ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))
