"""Symbols of a grid that are coded some positions at a time, because a network wants to know those before.

What such a network gives are integer logits, in octaves, made exactly; here they become the coder's tables.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from decimal import Context, Decimal
from functools import cache

import numpy as np

from cbench.coding import CodingIO, CountIO, Tables
from cbench.nn.exact import Grid

LOGIT_BITS = 10
"""Fraction bits of the integer logits, which are in octaves."""
WEIGHT_BITS = 24
"""The likeliest symbol has the weight 2^24."""
CODE_GRID = Grid(16, -(1 << 24), 1 << 24)
LOGIT_GRID = Grid(LOGIT_BITS, -(1 << 20), 1 << 20)

Where = tuple[slice | int, np.ndarray, np.ndarray]
"""Groups, rows and columns of a step's symbols."""


@cache
def _fractions() -> np.ndarray:
    """2^-(i / 2^LOGIT_BITS) in units of 2^-WEIGHT_BITS for i = 0, 1, ...; `decimal` gives the same digits anywhere."""
    context, steps = Context(prec=30), 1 << LOGIT_BITS
    powers = (context.power(2, context.divide(Decimal(-i), steps)) for i in range(steps))
    return np.array([int(context.to_integral_value(p * (1 << WEIGHT_BITS))) for p in powers], np.uint32)


def weights_of(logits: np.ndarray) -> np.ndarray:
    """Integer logits (N, K) -> weights (N, K) uint32 for the coder's table rule."""
    below = logits.max(-1, keepdims=True) - logits
    return _fractions()[below & ((1 << LOGIT_BITS) - 1)] >> np.minimum(below >> LOGIT_BITS, 31).astype(np.uint32)


def tables_of(logits: np.ndarray) -> Tables:
    """One table for each row of integer logits (N, K)."""
    return Tables.from_weights(weights_of(logits))


def slanted(height: int, width: int, slope: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the positions on each line slope * y + x = 0, 1, ...: none sees another one of its line."""
    y, x = np.indices((height, width)).reshape(2, -1)
    line = slope * y + x
    order = np.argsort(line, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(line[order])) + 1):
        yield y[own], x[own]


class GridLatent(abc.ABC):
    """Codes symbols (L, h, w) in steps."""

    def __init__(self, reach: int, outside: int) -> None:
        """`reach`: rows and columns that a position sees at most; `outside`: what stands for symbols that are not."""
        self._reach, self._outside = reach, outside

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """See `latents.Latent.code`."""
        groups, height, width = shape
        reach = self._reach
        states = np.full((groups, height + 2 * reach, width + 2 * reach), self._outside, np.int64)
        out = states[:, reach : reach + height, reach : reach + width]
        for where, tables, number in self._steps(states, height, width):
            out[where] = io.code(tables, number, None if symbols is None else symbols[where])
        return np.ascontiguousarray(out)

    def bits(self, symbols: np.ndarray) -> float:
        """See `latents.Latent.bits`."""
        io = CountIO()
        self.code(io, symbols, symbols.shape)
        return io.total

    @abc.abstractmethod
    def _steps(self, states: np.ndarray, height: int, width: int) -> Iterator[tuple[Where, Tables, np.ndarray]]:
        """Symbols that are coded together, tables, and the number of each symbol's table.

        `states` has a margin of `reach` around the grid and fills up from step to step.
        """


class GroupwiseLatent(GridLatent):
    """One group after the other, each along slanted lines."""

    def _steps(self, states: np.ndarray, height: int, width: int) -> Iterator[tuple[Where, Tables, np.ndarray]]:
        for group in range(len(states)):
            for rows, columns in slanted(height, width, self._reach + 1):
                tables = tables_of(self._logits(states, group, rows, columns))
                yield (group, rows, columns), tables, np.arange(len(rows))

    @abc.abstractmethod
    def _logits(self, states: np.ndarray, group: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, K) integer logits of a group's symbols at n positions."""
