"""Orders of the latent's elements: a label for each, coded by rising label, equal labels together.

An order is an integer array (G, h, w): the channels of y in G groups of equal size, at each position. Element j is in
the context of element i exactly where j lies inside i's window and has a smaller label, so every order is decodable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cbench.errors import ConfigError

TILE = 2
"""Learned orders repeat a square of that side."""
_Grids = tuple[np.ndarray, np.ndarray, np.ndarray]
_ELIC_SLICES = (1, 1, 2, 4)
"""Groups in the first slices of ELIC's uneven grouping; the rest make the last one."""


def _elic(grids: _Grids) -> np.ndarray:
    g, r, c = grids
    return 2 * np.searchsorted(np.cumsum(_ELIC_SLICES), g, side="right") + (r + c) % 2


def _quarter(r: np.ndarray, c: np.ndarray) -> np.ndarray:
    r, c = r % 4, c % 4
    return ~((r == 1) & (c == 3) | (r == 3) & (c == 1))


_NAMED: dict[str, Callable[[_Grids, int, int], np.ndarray]] = {
    "none": lambda grids, h, w: 0 * grids[0],
    "scanline": lambda grids, h, w: grids[1] * w + grids[2],
    "zigzag": lambda grids, h, w: grids[1] + grids[2],
    "checkerboard": lambda grids, h, w: (grids[1] + grids[2]) % 2,
    "half-checkerboard": lambda grids, h, w: 1 - grids[1] % 2 * (grids[2] % 2),
    "halfinv-checkerboard": lambda grids, h, w: grids[1] % 2 * (grids[2] % 2),
    "quarter-checkerboard": lambda grids, h, w: _quarter(grids[1], grids[2]),
    "interlace-checkerboard": lambda grids, h, w: (grids[0] + grids[1] + grids[2] + 1) % 2,
    "raster2x2": lambda grids, h, w: 2 * (grids[1] % 2) + grids[2] % 2,
    "channelwise": lambda grids, h, w: grids[0],
    "channelwise-checkerboard": lambda grids, h, w: 2 * grids[0] + (grids[1] + grids[2]) % 2,
    "channelwise-scanline": lambda grids, h, w: grids[0] * h * w + grids[1] * w + grids[2],
    "channelwise-g10": lambda grids, h, w: np.minimum(grids[0], 9),
    "elic": lambda grids, h, w: _elic(grids),
}
ORDERS = tuple(_NAMED)
"""Names that `named_order` knows."""


def named_order(name: str, groups: int, height: int, width: int) -> np.ndarray:
    """Labels (G, h, w) int64 of a published order.

    Raises:
        ConfigError: no such order.
    """
    if name not in _NAMED:
        raise ConfigError(f"there is no order {name!r}; there are: {', '.join(ORDERS)}")
    grids = np.indices((groups, height, width))
    return _NAMED[name](tuple(grids), height, width).astype(np.int64)


def tiled_order(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Repeat the labels (G, 2, 2) of a learned order over (G, h, w).

    Rows and columns that no whole tile covers get label 0, as published: they are coded first.
    """
    rows, columns = height // TILE, width // TILE
    if not rows or not columns:
        return labels[:, :height, :width].astype(np.int64)
    order = np.zeros((len(labels), height, width), np.int64)
    order[:, : rows * TILE, : columns * TILE] = np.tile(labels, (1, rows, columns))
    return order


def visible(order: np.ndarray, kernel: int) -> np.ndarray:
    """Which neighbours each element may look at, (G, G, k * k, h, w) bool: [g, g', offset, row, column].

    True where the element of group g' at that offset lies inside and has a smaller label than the one of group g.
    """
    _, height, width = order.shape
    half = kernel // 2
    last = np.iinfo(np.int64).max
    padded = np.pad(order, ((0, 0), (half, half), (half, half)), constant_values=last)
    windows = np.stack([padded[:, i : i + height, j : j + width] for i in range(kernel) for j in range(kernel)], axis=1)
    return windows[None] < order[:, None, None]


def visible_groups(order: np.ndarray) -> np.ndarray:
    """Which groups at its own position an element may look at inside the network, (G, G, h, w) bool: [g, g']."""
    return order[None] <= order[:, None]


@dataclass(frozen=True, eq=False)
class Schedule:
    """When each element of a latent is coded; elements of one step are coded together."""

    order: np.ndarray
    """(G, h, w) int64 labels."""
    step: np.ndarray
    """(G, h, w) int32, 0 .. steps - 1."""
    steps: int


@lru_cache(maxsize=16)
def _compiled(labels: bytes, shape: tuple[int, int, int], kernel: int) -> Schedule:
    order = np.frombuffer(labels, np.int64).reshape(shape)
    _, height, width = shape
    half = kernel // 2
    sees, inside = visible(order, kernel), visible_groups(order)
    offsets = np.flatnonzero(sees.any(axis=(0, 1, 3, 4)))
    step = np.zeros(shape, np.int32)
    while True:
        padded = np.pad(step, ((0, 0), (half, half), (half, half)))
        own = np.zeros_like(step)
        for offset in offsets:
            i, j = divmod(int(offset), kernel)
            after = np.where(sees[:, :, offset], padded[:, i : i + height, j : j + width] + 1, 0)
            np.maximum(own, after.max(1), out=own)
        later = np.where(inside, own, 0).max(1)
        if np.array_equal(later, step):
            return Schedule(order, step, int(step.max()) + 1)
        step = later


def compile_order(order: np.ndarray, kernel: int = 5) -> Schedule:
    """The earliest step for every element: one more than the latest that its context waits for (longest path).

    The paths are those through windows of k x k; at one position, elements also wait for those of smaller or equal
    label, whose features the network reads.

    Args:
        order: (G, h, w) labels.
        kernel: k.
    """
    return _compiled(np.ascontiguousarray(order, np.int64).tobytes(), order.shape, kernel)


def label_schedule(order: np.ndarray) -> Schedule:
    """One step for each label: the plain schedule, for comparison."""
    labels, step = np.unique(order, return_inverse=True)
    return Schedule(order, step.reshape(order.shape).astype(np.int32), len(labels))
