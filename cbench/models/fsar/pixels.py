"""Integer tables for the Gaussian of a sub-pixel, and which of them belongs to a mean and a log standard deviation.

Finer than the original's 256 x 15 rows, yet smaller: the log standard deviation l has steps of 1/8 (57
levels from -7 to 0), and the mean's step is the power of two between 1/8 and 1/4 of the standard deviation.
Away from black and white the table depends on the mean's fraction only, so those rows are shared. Near 0
and 255 every mean has its own row, where the outer value gets the whole tail. A row reaches 4.5 standard
deviations; rarer values are coded by the escape slot.

Everything here is integer arithmetic (see `cbench.coding.distributions`), so encoder and decoder build the
same tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

import numpy as np

from cbench.coding.distributions import CDF_BITS, deviations, exp_fixed, normal_cdf
from cbench.coding.tables import Tables

LOG_STD_LOW = -7
LOG_STD_STEPS = 8
"""Levels of the log standard deviation in one unit."""
LEVELS = -LOG_STD_LOW * LOG_STD_STEPS + 1
FINENESS = 2
"""The mean's step is the largest power of two that is at most std / 2^2."""
OVERSHOOT = 32
"""Means may lie outside [0, 255] by so many pixel values, or by 4 standard deviations if that is less."""

FINE_BITS = 5
"""Byte format 2 rounds means to 2^-5 pixel values, the smallest step of all, before it looks for a table."""
FINE_LOW = -OVERSHOOT << FINE_BITS
FINE_MEANS = (255 << FINE_BITS) - 2 * FINE_LOW + 1

_UNIT = 6
"""Distances are in units of 1/64 pixel value."""
_WORK_BITS = 36


@dataclass(frozen=True)
class PixelTables:
    """All rows, and the map from the two parameters to a row and the value that its symbol 0 stands for."""

    tables: Tables
    mean_scale: np.ndarray
    """(LEVELS,) float64: 1 / step of the mean, a power of two."""
    mean_low: np.ndarray
    """(LEVELS,) smallest mean, in steps."""
    mean_high: np.ndarray
    """(LEVELS,) largest mean, in steps."""
    first: np.ndarray
    """(LEVELS,) where each level begins in `row` and `centre`."""
    row: np.ndarray
    """Row of `tables` for (level, mean), int32."""
    centre: np.ndarray
    """The pixel value that is coded as 0, int32."""

    @cached_property
    def fine(self) -> tuple[np.ndarray, np.ndarray]:
        """Row (uint16) and centre (int16) of every pair of level and fine mean, (LEVELS * FINE_MEANS,)."""
        level = np.repeat(np.arange(LEVELS), FINE_MEANS)
        mean = np.tile(np.arange(FINE_MEANS) + FINE_LOW, LEVELS) * 2.0**-FINE_BITS
        row, centre = self.select(mean, level)
        return row.astype(np.uint16), centre.astype(np.int16)

    def select(self, mean: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (float64, pixel values, exact) and level (int) of each sub-pixel -> (row, centre), int32."""
        steps = np.rint(mean * self.mean_scale[level])
        steps = np.clip(steps, self.mean_low[level], self.mean_high[level]).astype(np.int64)
        place = self.first[level] + steps - self.mean_low[level]
        return self.row[place], self.centre[place]


@dataclass(frozen=True)
class _Level:
    row: np.ndarray
    centre: np.ndarray
    low: int
    high: int
    exponent: int
    weights: list[np.ndarray]
    offsets: list[int]


@cache
def pixel_tables() -> PixelTables:
    """Build everything, once in a process (about 0.1 s)."""
    levels = [_level(number) for number in range(LEVELS)]
    rows_before = np.cumsum([0] + [len(level.weights) for level in levels])
    return PixelTables(
        tables=Tables.from_weights(
            [w for level in levels for w in level.weights],
            np.array([o for level in levels for o in level.offsets], np.int32),
            escape=True,
        ),
        mean_scale=np.array([2.0**-level.exponent for level in levels]),
        mean_low=np.array([level.low for level in levels]),
        mean_high=np.array([level.high for level in levels]),
        first=np.cumsum([0] + [len(level.row) for level in levels])[:-1],
        row=np.concatenate([level.row + n for level, n in zip(levels, rows_before, strict=False)]).astype(np.int32),
        centre=np.concatenate([level.centre for level in levels]).astype(np.int32),
    )


def _level(number: int) -> _Level:
    """Rows of one log standard deviation."""
    log_std = Fraction(LOG_STD_LOW * LOG_STD_STEPS + number, LOG_STD_STEPS)
    std = 255 * exp_fixed(log_std, _WORK_BITS)
    inverse = exp_fixed(-log_std, _WORK_BITS) // 255
    exponent = std.bit_length() - 1 - _WORK_BITS - FINENESS
    window = -(-9 * std >> (_WORK_BITS + 1)) + 1
    overshoot = min(OVERSHOOT << _UNIT, 4 * std >> (_WORK_BITS - _UNIT))
    step = 1 << (_UNIT + exponent)
    low, high = -(overshoot // step), ((255 << _UNIT) + overshoot) // step
    mean = np.arange(low, high + 1, dtype=np.int64) * step
    centre = mean >> _UNIT
    fraction = mean - (centre << _UNIT)
    below, above = np.maximum(centre - window, 0), np.minimum(centre + window + 1, 255)
    inner = (below > 0) & (above < 255)
    phases = np.unique(fraction[inner])
    row = np.empty(len(mean), np.int64)
    row[inner] = np.searchsorted(phases, fraction[inner])
    row[~inner] = len(phases) + np.arange(np.count_nonzero(~inner))
    distinct = np.concatenate([[np.flatnonzero(inner & (fraction == p))[0] for p in phases], np.flatnonzero(~inner)])
    distinct = distinct.astype(np.int64)
    return _Level(
        row=row,
        centre=centre,
        low=low,
        high=high,
        exponent=exponent,
        weights=_weights(mean[distinct], below[distinct], above[distinct], inverse),
        offsets=(below - centre)[distinct].tolist(),
    )


def _weights(mean: np.ndarray, below: np.ndarray, above: np.ndarray, inverse: int) -> list[np.ndarray]:
    """Masses of the values below..above (each row its own range) and, last, of everything else; uint32."""
    edges = np.arange(below.min(), above.max() + 2)
    distance = (edges << _UNIT) - (1 << (_UNIT - 1)) - mean[:, None]
    cdf = normal_cdf(deviations(distance, _UNIT, inverse, _WORK_BITS))
    cdf[:, edges == 0] = 0
    cdf[:, edges == 256] = 1 << CDF_BITS
    rows = []
    for values, first, last in zip(cdf, below - edges[0], above - edges[0], strict=True):
        inside = values[first : last + 2]
        rest = (1 << CDF_BITS) - (inside[-1] - inside[0])
        rows.append(np.append(np.diff(inside), rest).astype(np.uint32))
    return rows
