"""The Gaussian conditional of a latent y: likelihood for training, integer tables and scale indices for coding.

A symbol is round(y - mu), coded with a Gaussian around zero whose scale is one of 64. Rows of the tables come from
integer arithmetic, and a row is chosen by comparing integers, so nothing here differs between machines.
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from cbench.coding import Tables
from cbench.coding.distributions import CDF_BITS, deviations, exp_fixed, normal_cdf
from cbench.nn.torchvision_guard import guard

guard()
from compressai.ops.bound_ops import LowerBoundFunction  # noqa: E402 - must follow guard()

SCALES = 64
"""Number of scales, evenly spaced in their logarithm."""
LOWEST, HIGHEST = "0.11", "256"
LIKELIHOOD_BOUND = 1e-9
_REACH = 4
"""A row ends this many scales (at least one symbol) from zero; the rest belongs to the escape symbol."""
_INVERSE_BITS = 28


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound); the gradient passes where x >= bound or where a step would raise x."""
    return LowerBoundFunction.apply(x, x.new_tensor(bound))


def gaussian_likelihood(v: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    """Probability of [v - 1/2, v + 1/2] under N(mu, max(scale, 0.11)^2), at least 1e-9; all of one shape."""
    inverse = -(0.5**0.5) / lower_bound(scale, float(LOWEST))
    distance = (v - mu).abs()
    upper = torch.erfc((0.5 - distance) * inverse)
    lower = torch.erfc((-0.5 - distance) * inverse)
    return lower_bound((upper - lower) / 2, LIKELIHOOD_BOUND)


@cache
def _log_scales() -> tuple[Fraction, ...]:
    c = Context(prec=40)
    low, high = (Fraction(c.ln(Decimal(value))) for value in (LOWEST, HIGHEST))
    return tuple(low + (high - low) * k / (SCALES - 1) for k in range(SCALES))


@cache
def thresholds(bits: int) -> np.ndarray:
    """(63,) int64: a scale of n units of 2^-bits belongs to row k if thresholds[k - 1] < n <= thresholds[k]."""
    return np.array([exp_fixed(log, bits + 32) >> 32 for log in _log_scales()[:-1]], np.int64)


def scale_index(scale: np.ndarray, bits: int) -> np.ndarray:
    """Row of the tables for scales of any shape, integers in units of 2^-bits: the next scale that is not smaller."""
    return np.searchsorted(thresholds(bits), scale, side="left").astype(np.uint8)


@cache
def gaussian_tables() -> Tables:
    """64 rows around zero, with escape; a row's Gaussian has the (logarithmic) middle of the scales that choose it.

    With the largest of them instead, as is usual, files are 1 % larger.
    """
    rows, offsets = [], []
    logs = _log_scales()
    middles = [logs[0], *((below + log) / 2 for below, log in pairwise(logs[:-1])), logs[-1]]
    for log in middles:
        inverse = exp_fixed(-log, _INVERSE_BITS)
        reach = max(1, int(np.ceil(_REACH * exp_fixed(log, 20) / (1 << 20))))
        # Distances from zero to the edges of the symbols, in half units.
        edges = normal_cdf(deviations(2 * np.arange(-reach, reach + 2) - 1, 1, inverse, _INVERSE_BITS))
        tail = edges[0] + (1 << CDF_BITS) - edges[-1]
        rows.append(np.maximum(np.append(np.diff(edges), tail), 1))
        offsets.append(-reach)
    return Tables.from_weights(rows, offsets, escape=True)
