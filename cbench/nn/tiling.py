"""Large pictures in tiles with a margin, so that memory stays bounded and the result is that of the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Part of one axis: read `outer`, of what comes out keep `inner`, it belongs to `target`."""

    outer: tuple[int, int]
    inner: tuple[int, int]
    target: tuple[int, int]

    def of(self, which: str, scale: int = 1) -> slice:
        """`outer`, `inner` or `target` as a slice of an axis that is `scale` times as long."""
        start, stop = getattr(self, which)
        return slice(start * scale, stop * scale)


def spans(length: int, side: int, margin: int) -> list[Span]:
    """Cut an axis into parts of at most `side`, each with up to `margin` neighbours on both sides.

    The margin ends at the ends of the axis, so a network's own border padding happens only there.
    """
    cut = []
    for start in range(0, length, side):
        stop = min(start + side, length)
        low, high = max(0, start - margin), min(length, stop + margin)
        cut.append(Span((low, high), (start - low, stop - low), (start, stop)))
    return cut


def tiles(height: int, width: int, side: int, margin: int) -> Iterator[tuple[Span, Span]]:
    """All tiles (rows, columns) of a grid, top to bottom and left to right."""
    for rows in spans(height, side, margin):
        for columns in spans(width, side, margin):
            yield rows, columns
