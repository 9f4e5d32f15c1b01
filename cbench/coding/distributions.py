"""Normal distributions by integer arithmetic: the same integers on every machine, whatever its maths library.

Tables that an encoder and a decoder build separately must agree to the last unit, so `exp`, `erf` and
every other function whose last bit differs between libraries is out. Here the normal distribution function
is known at 64 nodes a standard deviation, computed once by `decimal` (whose results are defined digit by
digit), and between the nodes by a cubic polynomial in 64-bit integers, with the right slope at the nodes.
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

CDF_BITS = 30
"""`normal_cdf` returns probabilities in units of 2^-30."""
Z_BITS = 24
"""`normal_cdf` takes deviations in units of 2^-24 standard deviations."""

_NODE_BITS = 6
_REACH = 8
_WORK_BITS = 36
_CONTEXT = Context(prec=40)


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Phi and its slope times the node distance at 0, 1/64, ..., 8 (+ 1 node), int64 in units of 2^-36."""
    c = _CONTEXT
    scale = Decimal(2**_WORK_BITS)
    root = c.sqrt(c.multiply(2, Decimal("3.141592653589793238462643383279502884197169")))
    values, slopes = [], []
    for i in range((_REACH << _NODE_BITS) + 2):
        x = c.divide(Decimal(i), Decimal(1 << _NODE_BITS))
        square = c.multiply(x, x)
        density = c.divide(c.exp(c.divide(-square, 2)), root)
        # Phi(x) = 1/2 + density * (x + x^3/3 + x^5/(3*5) + ...)
        term, total, n = x, x, 1
        while term > Decimal("1e-25"):
            n += 2
            term = c.divide(c.multiply(term, square), n)
            total = c.add(total, term)
        phi = c.add(Decimal("0.5"), c.multiply(density, total))
        values.append(int(c.to_integral_value(c.multiply(phi, scale))))
        slopes.append(int(c.to_integral_value(c.divide(c.multiply(density, scale), 1 << _NODE_BITS))))
    return np.array(values, np.int64), np.array(slopes, np.int64)


def normal_cdf(z: ArrayLike) -> np.ndarray:
    """Distribution function of the standard normal at z (int64, units of 2^-24) -> int64 in units of 2^-30.

    Within 2e-9 of the true value; exactly 2^30 - itself under a change of sign; constant beyond 8 standard deviations.
    """
    z = np.asarray(z, np.int64)
    values, slopes = _nodes()
    fraction_bits = Z_BITS - _NODE_BITS
    magnitude = np.minimum(np.abs(z), _REACH << Z_BITS)
    node = magnitude >> fraction_bits
    t = magnitude & ((1 << fraction_bits) - 1)
    rise = values[node + 1] - values[node]
    start, end = slopes[node], slopes[node + 1]
    # cubic Hermite polynomial: v + t (start + t ((3 rise - 2 start - end) + t (start + end - 2 rise)))
    inner = (3 * rise - 2 * start - end) + ((t * (start + end - 2 * rise)) >> fraction_bits)
    upper = values[node] + ((t * (start + ((t * inner) >> fraction_bits))) >> fraction_bits)
    drop = _WORK_BITS - CDF_BITS
    upper = (upper + (1 << (drop - 1))) >> drop
    return np.where(z < 0, (1 << CDF_BITS) - upper, upper)


def exp_fixed(x: Fraction, bits: int) -> int:
    """exp(x) in units of 2^-bits, to the nearest integer; the same on every machine."""
    c = _CONTEXT
    value = c.exp(c.divide(Decimal(x.numerator), Decimal(x.denominator)))
    return int(c.to_integral_value(c.multiply(value, Decimal(2**bits))))


def deviations(distance: ArrayLike, distance_bits: int, inverse_std: int, inverse_bits: int) -> np.ndarray:
    """Distance / std as fixed-point numbers for `normal_cdf`.

    Args:
        distance: int64 in units of 2^-distance_bits.
        distance_bits: as said.
        inverse_std: 1 / std in units of 2^-inverse_bits, for instance from `exp_fixed`.
        inverse_bits: as said; distance_bits + inverse_bits must be at least 24 and the product must fit 63 bits.
    """
    shift = distance_bits + inverse_bits - Z_BITS
    return (np.asarray(distance, np.int64) * inverse_std + (1 << shift >> 1)) >> shift
