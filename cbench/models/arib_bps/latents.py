"""Latents as integers: bins of equal prior mass, and the posterior's probabilities of them by integer arithmetic.

With K = 2^qp bins the prior Logistic(mu_p, 1) gives each bin the mass 1/K, so it costs qp raw bits. The posterior is
Logistic(mu_q, 1); its distribution function at the lower edge of bin k is k / (k + (K - k) exp(delta)) with
delta = mu_q - mu_p. A bin's number is coded bit by bit, the most significant first. Once the bits so far say that it
lies in [low, low + 2 n), it lies in the upper half with probability

    D(low) / (2 D(low + n)),    D(k) = k + (K - k) exp(delta),

which needs one table of exp on the grid of delta and one integer division; no table of bins is ever made.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from cbench.coding import StackIO
from cbench.coding.distributions import exp_fixed

MAX_QP = 10
DELTA_STEPS = 256
"""delta is known to 1 / 256."""
DELTA_LIMIT = 11
"""and kept within +- 11."""
LOGIT_STEPS = 64
LOGIT_LIMIT = 11
"""Logits of bits are known to 1 / 64 and kept within +- 11."""
_EXP_BITS = 18


def grid(values: np.ndarray, steps: int, limit: int) -> np.ndarray:
    """Real numbers -> int64 in units of 1 / steps, clamped to +- limit."""
    return np.rint(np.clip(values, -limit, limit) * steps).astype(np.int64)


@cache
def _exponentials() -> np.ndarray:
    """exp(i / 256) in units of 2^-18."""
    return np.array([exp_fixed(Fraction(i, DELTA_STEPS), _EXP_BITS) for i in range(DELTA_LIMIT * DELTA_STEPS + 1)])


@cache
def _bit_table() -> np.ndarray:
    """65536 / (1 + exp(-i / 64)) for i = -704 .. 704, as uint16."""
    one = 1 << 40
    found = []
    for i in range(-LOGIT_LIMIT * LOGIT_STEPS, LOGIT_LIMIT * LOGIT_STEPS + 1):
        falling = exp_fixed(Fraction(-i, LOGIT_STEPS), 40)
        found.append(((one << 16) + (one + falling) // 2) // (one + falling))
    return np.array(found, np.uint16)


def bit_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logits of P(bit = 1) -> uint16 probabilities times 65536."""
    return _bit_table()[grid(logits, LOGIT_STEPS, LOGIT_LIMIT) + LOGIT_LIMIT * LOGIT_STEPS]


class Posterior:
    """The posterior of some latents, for the stack.

    Args:
        delta: mu_q - mu_p, any shape.
        qp: log2 of the number of bins.
    """

    def __init__(self, delta: np.ndarray, qp: int) -> None:
        index = grid(delta, DELTA_STEPS, DELTA_LIMIT)
        grown = _exponentials()[np.abs(index)]
        self._rise = np.where(index < 0, grown, 1 << _EXP_BITS)
        self._fall = np.where(index < 0, 1 << _EXP_BITS, grown)
        self._qp = qp

    def pop(self, stack: StackIO) -> np.ndarray:
        """Bin numbers (int64) out of the bits on the stack; `BitstreamError` if there are too few."""
        low = np.zeros(self._rise.shape, np.int64)
        for level in range(self._qp):
            upper = stack.pop_binary(self._upper(low, level))
            low += upper.astype(np.int64) << (self._qp - 1 - level)
        return low

    def push(self, stack: StackIO, bins: np.ndarray) -> None:
        """Inverse of `pop`."""
        for level in reversed(range(self._qp)):
            half = self._qp - 1 - level
            stack.push_binary(self._upper(bins >> (half + 1) << (half + 1), level), bins >> half & 1)

    def _upper(self, low: np.ndarray, level: int) -> np.ndarray:
        """Probability of the upper half of the 2^(qp - level) bins from `low` on."""
        bins = 1 << self._qp
        middle = low + (1 << (self._qp - 1 - level))
        numerator = (low * self._rise + (bins - low) * self._fall) << 15
        share = numerator // (middle * self._rise + (bins - middle) * self._fall)
        return np.clip(share, 1, 65535).astype(np.uint16)


def centres(bins: np.ndarray, qp: int) -> np.ndarray:
    """The middle of each bin as z - mu_p , float64."""
    count = float(1 << qp)
    return np.log((bins + 0.5) / (count - 0.5 - bins))


def nearest_bins(delta: np.ndarray, qp: int) -> np.ndarray:
    """The bin in which the mode of the posterior lies, int64."""
    share = 1 / (1 + np.exp(-delta))
    return np.minimum((share * (1 << qp)).astype(np.int64), (1 << qp) - 1)
