"""Pictures in tiles, and tiles in chunks that are coded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from cbench.models.arib_bps.latents import Posterior
from cbench.models.arib_bps.planes import STEPS

TILE = 32
"""Side of a tile: the pictures that the shipped weights were trained on. Statistics over a tile enter the networks."""
CHUNK_TILES = 16


class Tile(NamedTuple):
    """Where a tile lies in its picture."""

    item: int
    channels: slice
    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Height and width before filling up."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass
class Chunk:
    """Some tiles of one stream that are coded together."""

    stream: int
    tiles: list[Tile]
    side: tuple[int, int]
    """Size of the tiles after filling up."""
    x: np.ndarray = field(repr=False, default=None)  # type: ignore[assignment]
    """(n, 3, H, W) uint8."""
    qp: int = 0
    direct: bool = False
    bins: dict[int, np.ndarray] = field(default_factory=dict)
    """Latents of each scale."""
    posteriors: dict[int, Posterior] = field(default_factory=dict)

    @property
    def colours(self) -> int:
        """1 or 3."""
        channels = self.tiles[0].channels
        return channels.stop - channels.start

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return self.colours * sum(height * width for height, width in (tile.size for tile in self.tiles))

    def inside(self, step: int) -> np.ndarray | None:
        """(n, H/2, W/2) bool: which pixels of a step exist; None: all."""
        sizes = [tile.size for tile in self.tiles]
        if all(size == self.side for size in sizes):
            return None
        row, column = STEPS[step]
        rows, columns = np.arange(row, self.side[0], 2), np.arange(column, self.side[1], 2)
        return np.stack([(rows < height)[:, None] & (columns < width) for height, width in sizes])

    def latent_shape(self, i: int, channels: int) -> tuple[int, int, int, int]:
        """Of z_i of all tiles."""
        return len(self.tiles), channels, self.side[0] >> (i + 1), self.side[1] >> (i + 1)


def streams_of(shapes: Sequence[tuple[int, int, int]]) -> list[list[int]]:
    """Which items of an archive share a stack: up to 16 small pictures in a row, of one shape and without alpha."""
    found: list[list[int]] = []
    for item, shape in enumerate(shapes):
        small = shape[0] in (1, 3) and max(shape[1:]) <= TILE
        if small and found and shapes[found[-1][-1]] == shape and len(found[-1]) < CHUNK_TILES:
            found[-1].append(item)
        else:
            found.append([item])
    return found


def chunks_of(stream: int, items: Sequence[int], shape: tuple[int, int, int], stride: int) -> list[Chunk]:
    """The chunks of a stream of pictures of one shape (C, H, W).

    Colours come before alpha; in these, tiles of equal size go together, up to 16 of them.
    """
    channels, height, width = shape
    colours = 3 if channels >= 3 else 1
    chunks = []
    for part in [slice(0, colours), slice(colours, channels)][: 1 + (channels > colours)]:
        by_side: dict[tuple[int, int], list[Tile]] = {}
        for item in items:
            for top in range(0, height, TILE):
                for left in range(0, width, TILE):
                    rows, columns = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
                    tile = Tile(item, part, rows, columns)
                    side = (_filled(tile.size[0], stride), _filled(tile.size[1], stride))
                    by_side.setdefault(side, []).append(tile)
        for side, tiles in by_side.items():
            cuts = range(0, len(tiles), CHUNK_TILES)
            chunks += [Chunk(stream, tiles[cut : cut + CHUNK_TILES], side) for cut in cuts]
    return chunks


def rows_of(batch: Sequence[Chunk]) -> list[slice]:
    """Which tiles of a batch belong to each chunk."""
    ends = np.cumsum([0] + [len(chunk.tiles) for chunk in batch]).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]


def cut_tiles(chunk: Chunk, arrays: Sequence[np.ndarray]) -> None:
    """Cut a chunk's tiles out of their pictures, filled up with zeros; grey becomes R = G = B."""
    chunk.x = np.zeros((len(chunk.tiles), 3, *chunk.side), np.uint8)
    for x, tile in zip(chunk.x, chunk.tiles, strict=True):
        height, width = tile.size
        x[:, :height, :width] = arrays[tile.item][tile.channels, tile.rows, tile.columns]


def place_tiles(chunk: Chunk, arrays: Sequence[np.ndarray]) -> None:
    """Inverse of `cut_tiles`."""
    for x, tile in zip(chunk.x, chunk.tiles, strict=True):
        height, width = tile.size
        arrays[tile.item][tile.channels, tile.rows, tile.columns] = x[: chunk.colours, :height, :width]


def _filled(length: int, stride: int) -> int:
    return -(-length // stride) * stride
