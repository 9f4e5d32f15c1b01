"""Which experts predict. The published trade-offs as functions."""

from __future__ import annotations

from cbench.coding.lines import Expert, Experts


def fast() -> Experts:
    """A long and a quick memory; the practical default."""
    return Experts((Expert(40, 0.9995), Expert(4, 0.99)))


def e5() -> Experts:
    """Five experts, E5."""
    return Experts(
        (
            Expert(20, 0.999),
            Expert(48, 0.9995),
            Expert(8, 0.997),
            Expert(4, 0.99),
            Expert(2, 0.999, spatial=8, near=8, own=6),
        )
    )


def slow() -> Experts:
    """Six experts up to 80 bands back."""
    return Experts(
        (
            Expert(80, 0.9998),
            Expert(48, 0.9995),
            Expert(20, 0.998),
            Expert(8, 0.997),
            Expert(4, 0.99),
            Expert(2, 0.999, spatial=8, near=3, own=6),
        )
    )
