"""The integer mixture distributions in plain Python: the definition that csrc/mixture.cpp must match bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from cbench.coding.reference import TOTAL, Event

STEPS = 512
INVERSE = [round(2 ** (14 - r / 16)) for r in range(16)]


def _exponential(x: float) -> float:
    y = x / 1024
    term = total = 1.0
    for i in range(1, 12):
        term *= y / i
        total += term
    for _ in range(10):
        total *= total
    return total


def _cdf(z: float, family: str) -> float:
    if family == "logistic":
        return 1 / (1 + _exponential(-z))
    if z > 7:
        return 1.0
    term = total = z
    for i in range(3, 200, 2):
        term *= z * z / i
        total += term
    return 0.5 + total * _exponential(-z * z / 2) * 0.3989422804014327


@cache
def table(family: str) -> tuple[int, ...]:
    """The distribution function at 0, 1/32, .. 16, in 1/65536."""
    return tuple(min(65535, int(_cdf(i / 32, family) * 65536 + 0.5)) for i in range(STEPS + 1))


def component(distance: int, scale: int, family: str) -> int:
    """G at `distance` / 256 symbols from the mean, 1..65535."""
    power = scale >> 4
    a = (min(abs(distance), 1 << (power + 9)) << 7) >> power
    z = min((a * INVERSE[scale & 15]) >> 14, STEPS * 64 - 1)
    values = table(family)
    below, above = values[z >> 6], values[(z >> 6) + 1]
    g = below + ((above - below) * (z & 63) >> 6)
    return TOTAL - g if distance < 0 else g


def normalise(weights: Sequence[int]) -> list[int]:
    """Weights in 1/65536, rounded down; the rest goes to the first of the heaviest."""
    out = [(w << 16) // sum(weights) for w in weights]
    out[max(range(len(weights)), key=lambda j: (weights[j], -j))] += TOTAL - sum(out)
    return out


def mixture_event(
    symbol: int,
    mean: Sequence[int],
    scale: Sequence[int],
    weight: Sequence[int],
    low: int,
    size: int,
    family: str,
) -> Event:
    """The interval of one symbol."""
    shares = normalise(weight)

    def cumulative(k: int) -> int:
        if k in (0, size):
            return TOTAL if k else 0
        edge = (low + k) * 256 - 128
        parts = zip(shares, mean, scale, strict=True)
        f = sum(w * component(edge - mu, s, family) for w, mu, s in parts) >> 16
        return k + (f * (TOTAL - size) >> 16)

    start = cumulative(symbol - low)
    return start, cumulative(symbol - low + 1) - start
