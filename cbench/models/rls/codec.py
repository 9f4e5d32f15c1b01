"""The adaptive hyperspectral codec, byte format 1: `rls.fast`, `rls.e5`, `rls.slow`.

The whole coding loop is `csrc/engines/rls*.hpp`; here are dtypes, blocks of lines, and threads over blocks. Arithmetic
is double precision in a fixed order, so files are the same on every machine (level "exact").
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbench import _core
from cbench.coding.container import Header
from cbench.coding.cube import CubeCodec
from cbench.errors import BitstreamError, ConfigError
from cbench.models.rls import config as configs
from cbench.models.rls.blocks import BlockReader, BlockWriter
from cbench.models.rls.config import RlsConfig

BATCH_SAMPLES = 1 << 20
"""Samples that are handed to the engine, or taken from it, at a time."""
MAX_LINES = (1 << 32) - 1


@dataclass(frozen=True)
class Format:
    """What an engine must know of a cube."""

    config: RlsConfig
    bands: int
    columns: int
    dtype: str
    max_error: int

    def encoder(self) -> _core.RlsEncoder:
        """An encoder for one block."""
        return _core.RlsEncoder(*self._arguments())

    def decoder(self) -> _core.RlsDecoder:
        """A decoder for one block."""
        return _core.RlsDecoder(*self._arguments())

    @property
    def batch(self) -> int:
        """Lines to hand over at a time."""
        return max(1, BATCH_SAMPLES // (self.bands * self.columns))

    def _arguments(self) -> tuple[list[tuple[int, float, int, int, int]], int, int, int, int, int]:
        limits = np.iinfo(self.dtype)
        return self.config.numbers(), self.bands, self.columns, int(limits.min), int(limits.max), self.max_error


class RlsCodec(CubeCodec):
    """Lossless or near-lossless codec for cubes of any size; the same bytes on every machine."""

    def __init__(self, name: str, config: RlsConfig, max_error: int = 0, threads: int = 1, block: int = 0) -> None:
        """`block` lines are coded independently of all others (0: the whole cube); `threads` share the blocks."""
        super().__init__(name, max_error, threads)
        if not 0 <= block <= MAX_LINES:
            raise ConfigError(f"block (={block}) must be 0 or a number of lines")
        self.config, self.block = config, block

    def with_block(self, lines: int) -> RlsCodec:
        """The same codec with blocks of so many lines, each decodable without the others; 0: one block."""
        other = copy.copy(self)
        RlsCodec.__init__(other, self.name, self.config, self.max_error, self.threads, lines)
        return other

    def format_of(self, shape: tuple[int, ...], dtype: str, max_error: int) -> Format:
        """What the engine must know of a (C, H, W) cube."""
        return Format(self.config, shape[0], shape[2], dtype, max_error)

    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """See `CubeCodec.encode`."""
        form = self.format_of(x.shape, x.dtype.name, self.max_error)
        decoded = np.empty_like(x, order="C")
        height = x.shape[1]
        length = self.block or height

        def one(first: int) -> bytes:
            last = min(first + length, height)
            return encode_block(form, first, x[:, first:last], decoded[:, first:last])

        with ThreadPoolExecutor(self.threads) as pool:
            return b"".join(pool.map(one, range(0, height, length))), decoded

    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """See `CubeCodec.decode`."""
        form = self.format_of(head.shape, head.dtype, max_error)
        height, next_line = head.shape[1], 0
        blocks = list(split_blocks(payload))
        for block in blocks:
            if block.first_line != next_line or block.lines == 0:
                raise BitstreamError("the blocks of lines are out of order or incomplete")
            next_line += block.lines
        if next_line != height:
            raise BitstreamError(f"the file holds {next_line} lines, its header says {height}")
        array = np.empty(head.shape, head.dtype)
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(lambda b: decode_block(form, b, array), blocks):
                pass
        return array


@dataclass(frozen=True)
class Block:
    """A block whose checks were right."""

    first_line: int
    lines: int
    data: bytes


def split_blocks(payload: bytes) -> Iterator[Block]:
    """The blocks one behind the other; raises `BitstreamError` where one is damaged."""
    while payload:
        reader = BlockReader()
        reader.feed(payload)
        pieces = list(reader.pieces())
        if not reader.finished:
            raise BitstreamError("the coded lines are cut off inside a block")
        yield Block(reader.first_line or 0, pieces[-1].lines or 0, b"".join(piece.data for piece in pieces))
        payload = reader.rest()


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


def _build(name: str, config: RlsConfig, weights: Path | None, threads: int) -> RlsCodec:
    if weights is not None:
        raise ConfigError(f"{name} learns while it codes and takes no weights ({weights.name})")
    return RlsCodec(name, config, threads=threads)


def fast(weights: Path | None, device: str, threads: int) -> RlsCodec:
    """`rls.fast`: two experts; the default for cubes."""
    return _build("rls.fast", configs.fast(), weights, threads)


def e5(weights: Path | None, device: str, threads: int) -> RlsCodec:
    """`rls.e5`: five experts."""
    return _build("rls.e5", configs.e5(), weights, threads)


def slow(weights: Path | None, device: str, threads: int) -> RlsCodec:
    """`rls.slow`: six experts."""
    return _build("rls.slow", configs.slow(), weights, threads)
