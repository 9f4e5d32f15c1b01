"""Learning rates as a pure function of the step, so that resuming needs no state."""

from __future__ import annotations

import math

WARM_UP = 0.05
"""Share of the steps in which "one-cycle" rises."""


def rate(schedule: str, progress: float) -> float:
    """Factor of the peak learning rate at `progress` in 0..1.

    "constant": 1. "one-cycle": a cosine from 1/25 up to 1 during the first 5 %, then a cosine down to 1/1000.
    """
    if schedule == "constant":
        return 1.0
    if progress < WARM_UP:
        return _cosine(1 / 25, 1, progress / WARM_UP)
    return _cosine(1, 1 / 1000, min(1.0, (progress - WARM_UP) / (1 - WARM_UP)))


def _cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * at))
