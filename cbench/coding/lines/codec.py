"""Codecs for cubes whose whole coding loop is the engine of adaptive experts (`csrc/engines/block_coder.hpp`).

Here are dtypes, blocks of lines, and threads. Arithmetic has a fixed order, so files are the same on every machine
(level "exact").
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from cbench import _core
from cbench.coding.container import Header
from cbench.coding.cube import CubeCodec
from cbench.coding.lines.blocks import Block, BlockWriter, split_blocks
from cbench.coding.lines.experts import Experts
from cbench.errors import BitstreamError, ConfigError

BATCH_SAMPLES = 1 << 20
"""Samples that are handed to the engine, or taken from it, at a time."""
MAX_LINES = (1 << 32) - 1


@dataclass(frozen=True)
class Format:
    """What an engine must know of a cube."""

    experts: Experts
    bands: int
    columns: int
    dtype: str
    max_error: int
    network: _core.LineNetwork | None = None
    threads: int = 1
    """Share the network's columns; they change the speed only."""

    def encoder(self) -> _core.RlsEncoder:
        """An encoder for one block."""
        return _core.RlsEncoder(*self._arguments(), self.network, self.threads, self.experts.variance)

    def decoder(self) -> _core.RlsDecoder:
        """A decoder for one block."""
        return _core.RlsDecoder(*self._arguments(), self.network, self.threads, self.experts.variance)

    @property
    def batch(self) -> int:
        """Lines to hand over at a time."""
        return max(1, BATCH_SAMPLES // (self.bands * self.columns))

    def _arguments(self) -> tuple[list[tuple[int, float, int, int, int, bool]], int, int, int, int, int]:
        limits = np.iinfo(self.dtype)
        return self.experts.numbers(), self.bands, self.columns, int(limits.min), int(limits.max), self.max_error


class LinesCodec(CubeCodec):
    """Lossless or near-lossless codec for cubes of any size; the same bytes on every machine."""

    network: _core.LineNetwork | None = None
    """What experts that look at a network look at."""

    def __init__(self, name: str, experts: Experts, max_error: int = 0, threads: int = 1, block: int = 0) -> None:
        """`block` lines are coded independently of all others (0: the whole cube); `threads` share the blocks."""
        super().__init__(name, max_error, threads)
        if not 0 <= block <= MAX_LINES:
            raise ConfigError(f"block (={block}) must be 0 or a number of lines")
        self.experts, self.block = experts, block

    def with_block(self, lines: int) -> Self:
        """The same codec with blocks of so many lines, each decodable without the others; 0: one block."""
        other = copy.copy(self)
        LinesCodec.__init__(other, self.name, self.experts, self.max_error, self.threads, lines)
        return other

    def format_of(self, bands: int, columns: int, dtype: str, max_error: int, threads: int = 1) -> Format:
        """What the engine must know of a cube; `threads` work on one block."""
        return Format(self.experts, bands, columns, dtype, max_error, self.network, threads)

    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """See `CubeCodec.encode`."""
        bands, height, columns = x.shape
        length = self.block or height
        form = self.format_of(bands, columns, x.dtype.name, self.max_error, self._inside(-(-height // length)))
        decoded = np.empty_like(x, order="C")

        def one(first: int) -> bytes:
            last = min(first + length, height)
            return encode_block(form, first, x[:, first:last], decoded[:, first:last])

        with ThreadPoolExecutor(self.threads) as pool:
            return b"".join(pool.map(one, range(0, height, length))), decoded

    def band_bits(self, x: np.ndarray) -> np.ndarray:
        """Bits of each band (C,) of (C, H, W) samples: how far it narrows the interval of the range coder."""
        bands, height, columns = x.shape
        length = self.block or height
        form = self.format_of(bands, columns, x.dtype.name, self.max_error, self._inside(1))
        bits = np.zeros(bands)
        for first in range(0, height, length):
            encoder, last = form.encoder(), min(first + length, height)
            for start in range(first, last, form.batch):
                lines = x[:, start : min(start + form.batch, last)]
                encoder.encode(lines.transpose(1, 0, 2).astype(np.int32, order="C"))
            bits += encoder.band_bits
        return bits

    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """See `CubeCodec.decode`."""
        bands, height, columns = head.shape
        blocks = list(_complete(split_blocks(payload), height))
        form = self.format_of(bands, columns, head.dtype, max_error, self._inside(len(blocks)))
        array = np.empty(head.shape, head.dtype)
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(lambda b: decode_block(form, b, array), blocks):
                pass
        return array

    def _inside(self, blocks: int) -> int:
        """Threads for one block: where there are several, they run beside each other instead."""
        return self.threads if blocks == 1 else 1


def encode_block(form: Format, first: int, x: np.ndarray, decoded: np.ndarray) -> bytes:
    """Lines (C, L, W) from line `first` of the cube on -> one block; `decoded` takes what it decodes to."""
    encoder, writer, parts = form.encoder(), BlockWriter(first), []
    for start in range(0, x.shape[1], form.batch):
        lines = slice(start, start + form.batch)
        data, back = encoder.encode(x[:, lines].transpose(1, 0, 2).astype(np.int32, order="C"))
        decoded[:, lines] = back.transpose(1, 0, 2)
        parts.append(writer.write(data))
    parts.append(writer.write(encoder.finish()))
    return b"".join((*parts, writer.finish(x.shape[1])))


def decode_block(form: Format, block: Block, array: np.ndarray) -> None:
    """Decode one block into its lines of `array` (C, H, W)."""
    decoder = form.decoder()
    decoder.feed(block.data, True)
    for start in range(block.first_line, block.first_line + block.lines, form.batch):
        stop = min(start + form.batch, block.first_line + block.lines)
        array[:, start:stop] = decoder.decode(stop - start).transpose(1, 0, 2)
    decoder.finish()


def _complete(blocks: Iterator[Block], height: int) -> Iterator[Block]:
    """The same blocks; raises `BitstreamError` unless they are all lines of the cube in order."""
    next_line = 0
    for block in blocks:
        if block.first_line != next_line or block.lines == 0:
            raise BitstreamError("the blocks of lines are out of order or incomplete")
        next_line += block.lines
        yield block
    if next_line != height:
        raise BitstreamError(f"the file holds {next_line} lines, its header says {height}")
