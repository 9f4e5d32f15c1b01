"""The codec of `Coder-ar` models: Gaussians whose means also depend on decoded neighbours; see `linear`.

In the coder all of this is integers, with means in units of 2^-MEAN_BITS pixel values (csrc/engines/linear_ar.hpp). Red
is decoded along the picture's diagonals, green and blue column by column: they do not look at the row above. The order
of the symbols in a stream is that of decoding: colour after colour, step after step, rows top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np

from cbench.coding import CodingIO
from cbench.coding.pixels import LEVEL_SHIFT, MEAN_BITS, LinearModel, PixelMap
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import FsarCodec, _Plan
from cbench.models.fsar.pixels import PixelTables, pixel_tables

WEIGHT_BITS = 16
LARGEST = 64
"""Weights and biases are clipped to it."""
SIGMOID_REACH, SIGMOID_STEPS = 16, 64
"""The sigmoid is known at 64 nodes a unit from -16 to 16, and linear between them."""


@cache
def _sigmoids() -> np.ndarray:
    """255 sigmoid(i / SIGMOID_STEPS - SIGMOID_REACH) in units of 2^-(MEAN_BITS + 8) pixel values, int64."""
    c, scale, last = (Context(prec=30), Decimal(255 << (MEAN_BITS + 8)), SIGMOID_REACH * SIGMOID_STEPS)
    powers = (c.exp(c.divide(Decimal(-i), SIGMOID_STEPS)) for i in range(-last, last + 1))
    values = (c.divide(scale, c.add(1, power)) for power in powers)
    return np.array([int(c.to_integral_value(value)) for value in values], np.int64)


def integer_sigmoid(m: np.ndarray) -> np.ndarray:
    """Floats that are multiples of 2^-40 -> 255 sigmoid(m) in units of 2^-MEAN_BITS, int64, the same anywhere."""
    fine = np.floor((m.clip(-SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH) * (SIGMOID_STEPS << 12)).astype(np.int64)
    fine = np.minimum(fine, (2 * SIGMOID_REACH * SIGMOID_STEPS << 12) - 1)
    table, node, rest = _sigmoids(), fine >> 12, fine & 4095
    return (table[node] + ((table[node + 1] - table[node]) * rest >> 12) + 128) >> 8


def linear_model(tables: PixelTables, weight: np.ndarray, bias: np.ndarray) -> LinearModel:
    """The loop over pixels; weight (3, 3) and bias (3,) as a `LinearHead` has them."""
    exponent = 1 - np.frexp(tables.mean_scale)[1]  # a level's step is 2^exponent pixel values
    places = PixelMap(MEAN_BITS + exponent, tables.mean_low, tables.mean_high, tables.first, tables.row, tables.centre)
    weight = np.rint(weight.clip(-LARGEST, LARGEST) * 2.0**WEIGHT_BITS)
    bias = np.rint(bias.clip(-LARGEST, LARGEST) * (255 * 2.0**WEIGHT_BITS))
    return LinearModel(tables.tables, places, weight, bias)


class LinearCodec(FsarCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        super()._prepare(weights)
        head = weights.network.head
        weight, bias = (t.detach().cpu().double().numpy() for t in (head.weight[:, 0], head.bias))
        self._model = linear_model(pixel_tables(), weight, bias)

    def _chosen(self, mean: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means before the shift, int32, and levels, uint8."""
        return integer_sigmoid(mean).astype(np.int32), level.astype(np.uint8)

    def _parameters(self, symbols: np.ndarray, plan: _Plan) -> Iterable[Any]:
        """(H, W, C) for each picture."""
        mean, level = self._rows(symbols, plan.shape)
        return (level.astype(np.int32) << LEVEL_SHIFT | mean).transpose(0, 2, 3, 1)

    def _code_pixels(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray:
        picture = np.zeros(plan.shape, np.uint8) if x is None else x
        io.pixels(self._model, plan.parameters, picture)
        return picture

    def _pixel_bits(self, plan: _Plan, x: np.ndarray) -> float:
        return self._model.bits(plan.parameters, np.ascontiguousarray(x))
