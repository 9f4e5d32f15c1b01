"""The codec of `Coder-ar` models: Gaussians whose means also depend on decoded neighbours; see `linear`.

In the coder all of this is integers, with means in units of 2^-MEAN_BITS pixel values. Red is decoded along the
picture's diagonals, green and blue column by column: they do not look at the row above. The order of the symbols in a
stream is that of decoding: colour after colour, step after step, rows top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal
from functools import cache

import numpy as np

from cbench.coding import CodingIO
from cbench.errors import BitstreamError
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import FsarCodec, _Plan
from cbench.models.fsar.linear import NEIGHBOURS

MEAN_BITS = 10
WEIGHT_BITS = 16
SIGMOID_REACH, SIGMOID_STEPS = 16, 64
"""The sigmoid is known at 64 nodes a unit from -16 to 16, and linear between them."""


@cache
def _sigmoids() -> np.ndarray:
    """255 sigmoid(i / SIGMOID_STEPS - SIGMOID_REACH) in units of 2^-(MEAN_BITS + 8) pixel values, int64."""
    c, scale, last = Context(prec=30), Decimal(255 << (MEAN_BITS + 8)), SIGMOID_REACH * SIGMOID_STEPS
    powers = (c.exp(c.divide(Decimal(-i), SIGMOID_STEPS)) for i in range(-last, last + 1))
    values = (c.divide(scale, c.add(1, power)) for power in powers)
    return np.array([int(c.to_integral_value(value)) for value in values], np.int64)


def integer_sigmoid(m: np.ndarray) -> np.ndarray:
    """Floats that are multiples of 2^-40 -> 255 sigmoid(m) in units of 2^-MEAN_BITS, int64, the same anywhere."""
    fine = np.floor((m.clip(-SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH) * (SIGMOID_STEPS << 12)).astype(np.int64)
    fine = np.minimum(fine, (2 * SIGMOID_REACH * SIGMOID_STEPS << 12) - 1)
    table, node, rest = _sigmoids(), fine >> 12, fine & 4095
    return (table[node] + ((table[node + 1] - table[node]) * rest >> 12) + 128) >> 8


class LinearCodec(FsarCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        super()._prepare(weights)
        head = weights.network.head
        weight, bias = (t.detach().cpu().double().numpy() for t in (head.weight[:, 0], head.bias))
        self._weight = np.rint(weight.clip(-64, 64) * 2.0**WEIGHT_BITS).astype(np.int64)
        self._bias = np.rint(bias.clip(-64, 64) * (255 * 2.0**WEIGHT_BITS)).astype(np.int64)

    def _chosen(self, mean: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means before the shift, int32, and levels, uint8."""
        return integer_sigmoid(mean).astype(np.int32), level.astype(np.uint8)

    def _code_pixels(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray:
        mean, level = plan.parameters
        if x is not None:
            row, centre = self._select(mean, level, x)
            for steps in self._orders(plan.shape):
                for place in steps:
                    io.code(self._pixels.tables, row[place], (x - centre)[place])
            return x
        out = np.zeros(plan.shape, np.int32)
        for steps in self._orders(plan.shape):
            for place in steps:
                shifted = mean[place] + self._shift(out, place)
                row, centre = self._pixels.select(_clipped(shifted), level[place])
                out[place] = io.code(self._pixels.tables, row) + centre
        if out.min() < 0 or out.max() > 255:
            raise BitstreamError("the data decodes to pixel values outside 0..255")
        return out.astype(np.uint8)

    def _pixel_bits(self, plan: _Plan, x: np.ndarray) -> float:
        row, centre = self._select(*plan.parameters, x)
        return self._pixels.tables.bits(x - centre, row)

    def _select(self, mean: np.ndarray, level: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and centres of all samples of x (C, H, W)."""
        place = tuple(np.indices(x.shape))
        return self._pixels.select(_clipped(mean + self._shift(x.astype(np.int32), place)), level)

    def _shift(self, x: np.ndarray, place: tuple[np.ndarray, ...]) -> np.ndarray:
        """What the neighbours in x (C, H, W) add to the means at places (colour, row, column)."""
        colour, row, column = place
        total = self._bias[colour]
        for number in range(3):
            offsets = np.array([offsets[number] for offsets in NEIGHBOURS])[colour]
            at = colour + offsets[..., 0], row + offsets[..., 1], column + offsets[..., 2]
            inside = np.minimum(np.minimum(*at[:2]), at[2]) >= 0
            total = total + np.where(inside, x[at], 0) * self._weight[colour, number]
        return (total + (1 << (WEIGHT_BITS - MEAN_BITS - 1))) >> (WEIGHT_BITS - MEAN_BITS)

    def _orders(self, shape: tuple[int, int, int]) -> Iterator[list[tuple[np.ndarray, ...]]]:
        """Places that are decoded together: for each colour a list of (colour, row, column)."""
        colours, height, width = shape
        y, x = np.indices((height, width)).reshape(2, -1)
        for colour in range(colours):
            step = x + y if colour == 0 else x
            order = np.argsort(step, kind="stable")
            lines = np.split(order, np.flatnonzero(np.diff(step[order])) + 1)
            yield [(np.full(len(line), colour), y[line], x[line]) for line in lines]


def _clipped(mean: np.ndarray) -> np.ndarray:
    """Means in units of 2^-MEAN_BITS -> pixel values, float64, exact."""
    return mean.clip(0, 255 << MEAN_BITS) * 2.0**-MEAN_BITS
