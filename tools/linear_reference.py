"""The loop over pixels of `Coder-ar` models in numpy: what csrc/engines/linear_ar.cpp must do, and its rival."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cbench.coding import CodingIO
from cbench.coding.pixels import LEVEL_SHIFT, MEAN_BITS
from cbench.errors import BitstreamError
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import _Plan
from cbench.models.fsar.linear import NEIGHBOURS
from cbench.models.fsar.linear_codec import WEIGHT_BITS, LinearCodec
from cbench.models.fsar.pixels import pixel_tables


class NumpyLinearCodec(LinearCodec):
    """Samples that do not depend on each other are handled together."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        super()._prepare(weights)
        self._pixels = pixel_tables()
        head = weights.network.head
        weight, bias = (t.detach().cpu().double().numpy() for t in (head.weight[:, 0], head.bias))
        self._weight = np.rint(weight.clip(-64, 64) * 2.0**WEIGHT_BITS).astype(np.int64)
        self._bias = np.rint(bias.clip(-64, 64) * (255 * 2.0**WEIGHT_BITS)).astype(np.int64)

    def _code_pixels(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray:
        out = np.zeros(plan.shape, np.int32) if x is None else x.astype(np.int32)
        for place in orders(plan.shape):
            row, centre = self._select(plan, out, place)
            out[place] = centre + io.code(self._pixels.tables, row, None if x is None else out[place] - centre)
        if out.min() < 0 or out.max() > 255:
            raise BitstreamError("the data decodes to pixel values outside 0..255")
        return out.astype(np.uint8)

    def _pixel_bits(self, plan: _Plan, x: np.ndarray) -> float:
        row, centre = self._select(plan, x.astype(np.int32), tuple(np.indices(x.shape)))
        return self._pixels.tables.bits(x - centre, row)

    def _select(self, plan: _Plan, x: np.ndarray, place: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Rows and centres of samples of x (C, H, W) at places (colour, row, column)."""
        parameters = plan.parameters.transpose(2, 0, 1)[place]
        mean, level = parameters & ((1 << LEVEL_SHIFT) - 1), parameters >> LEVEL_SHIFT
        moved = (mean + self._shift(x, place)).clip(0, 255 << MEAN_BITS)
        return self._pixels.select(moved * 2.0**-MEAN_BITS, level)

    def _shift(self, x: np.ndarray, place: tuple[np.ndarray, ...]) -> np.ndarray:
        """What the neighbours add to the means."""
        colour, row, column = place
        total = self._bias[colour]
        for number in range(3):
            offsets = np.array([offsets[number] for offsets in NEIGHBOURS])[colour]
            at = (colour + offsets[..., 0], row + offsets[..., 1], column + offsets[..., 2])
            inside = np.minimum(np.minimum(*at[:2]), at[2]) >= 0
            total = total + np.where(inside, x[at], 0) * self._weight[colour, number]
        return (total + (1 << (WEIGHT_BITS - MEAN_BITS - 1))) >> (WEIGHT_BITS - MEAN_BITS)


def orders(shape: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, ...]]:
    """Places that are decoded together, as (colour, row, column): diagonals of red, columns of the others."""
    colours, height, width = shape
    y, x = np.indices((height, width)).reshape(2, -1)
    for colour in range(colours):
        step = x + y if colour == 0 else x
        order = np.argsort(step, kind="stable")
        for line in np.split(order, np.flatnonzero(np.diff(step[order])) + 1):
            yield np.full(len(line), colour), y[line], x[line]
