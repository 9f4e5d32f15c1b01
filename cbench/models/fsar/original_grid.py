"""The original's tables for the Gaussians of the pixels, for comparison with those of `pixels`.

256 means (the pixel values) by 15 log standard deviations (-7, -6.5, ..., 0), every row over all 256 values. The mass
outside 0..255 is dropped; counts are floor(max(65536 p, 1)), as in the original.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from cbench.coding.distributions import deviations, exp_fixed, normal_cdf
from cbench.coding.tables import Tables
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import FsarCodec
from cbench.models.fsar.pixels import LEVELS, LOG_STD_LOW, LOG_STD_STEPS, PixelTables

LOG_STDS = 15
VALUES = 256
_WORK_BITS = 36


@cache
def original_tables() -> PixelTables:
    """All 3,840 rows, chosen from the same parameters as ours."""
    values, rows = np.arange(VALUES), []
    distance = 2 * np.arange(VALUES + 1) - 1 - 2 * values[:, None]  # to the edges of the bins, in half pixel values
    for number in range(LOG_STDS):
        inverse = exp_fixed(-(LOG_STD_LOW + Fraction(number, 2)), _WORK_BITS) // 255
        mass = np.diff(normal_cdf(deviations(distance, 1, inverse, _WORK_BITS)))
        rows.append(np.maximum((mass << 16) // mass.sum(1, keepdims=True), 1))
    level = np.rint(np.arange(LEVELS) * (2 / LOG_STD_STEPS)).astype(np.int64)
    return PixelTables(
        tables=Tables.from_weights(np.concatenate(rows), np.tile(-values, LOG_STDS)),
        mean_scale=np.ones(LEVELS),
        mean_low=np.zeros(LEVELS, np.int64),
        mean_high=np.full(LEVELS, VALUES - 1),
        first=level * VALUES,
        row=np.arange(LOG_STDS * VALUES, dtype=np.int32),
        centre=np.tile(values, LOG_STDS).astype(np.int32),
    )


class OriginalGrid(FsarCodec):
    """The codec with those tables."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        self._pixels = original_tables()
