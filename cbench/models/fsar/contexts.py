"""Convolutions over the latent grid as context models: what FSAR's tables are compared with.

"masked" is one convolution that sees the positions before, up and left, so that a decoder goes through the grid along
slanted lines. With "checkerboard" the odd positions (y + x odd) have no context and the even ones see the odd ones
around them: two steps. There are few symbols, so what each of them adds through each tap of the kernel is known
beforehand, and the network becomes a sum of rows of an integer table: exact, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding import CodingIO, CountIO, Tables
from cbench.models.fsar.config import FsarConfig
from cbench.nn.exact import ExactProduct, Grid, snap

LOGIT_BITS = 10
"""Fraction bits of the integer logits, which are in octaves."""
WEIGHT_BITS = 24
"""The likeliest symbol has the weight 2^24."""
CODE_GRID = Grid(16, -(1 << 24), 1 << 24)
LOGIT_GRID = Grid(LOGIT_BITS, -(1 << 20), 1 << 20)


def seen_taps(config: FsarConfig) -> np.ndarray:
    """(k, k) bool: which neighbours the convolution sees; the middle is the position itself."""
    reach = config.kernel // 2
    y, x = np.indices((config.kernel, config.kernel)) - reach
    if config.convolution == "checkerboard":
        return (y + x) % 2 == 1
    return (y < 0) | ((y == 0) & (x < 0))


class ConvPrior(nn.Module):
    """Code vectors of the neighbours -> logits of a position's symbols, all groups at once."""

    mask: Tensor

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv2d(config.channels, config.groups * config.codes, config.kernel, padding=config.kernel // 2)
        self.register_buffer("mask", torch.from_numpy(seen_taps(config)).float())

    def forward(self, q: Tensor, start: Tensor | None, positions: Tensor | None = None) -> Tensor:
        """Logits (N, L, K) of code vectors q (B, h, w, L, E), at all positions or at some of the rows (b, y, x).

        `start`: (L, K), the logits of positions that have no context; None: there are none.
        """
        h, w, groups = q.shape[1:4]
        around = q.flatten(3).permute(0, 3, 1, 2)
        weight = self.conv.weight * self.mask
        logits = nn.functional.conv2d(around, weight, self.conv.bias, padding=self.config.kernel // 2)
        logits = logits.permute(0, 2, 3, 1).unflatten(-1, (groups, -1))
        if start is not None:
            odd = torch.from_numpy(np.indices((h, w)).sum(0) % 2 == 1).to(q.device)
            logits = torch.where(odd[:, :, None, None], start, logits)
        logits = logits.flatten(0, 2)
        return logits if positions is None else logits[positions]


@dataclass(frozen=True)
class ConvTables:
    """The convolution as integers in units of 2^-LOGIT_BITS octaves."""

    taps: np.ndarray
    """(T, 2): row and column of each neighbour."""
    lookup: np.ndarray
    """(T, L, K + 1, L * K) int32: what a code of a group at a tap adds; the last code stands for outside."""
    bias: np.ndarray
    """(L * K,) int32."""


def conv_tables(prior: ConvPrior, codebook: Tensor) -> ConvTables:
    """Multiply every tap's weights with every code vector of codebook (L, K, E), exactly.

    Raises:
        ConfigError: weights that are not finite or too large.
    """
    octaves = 1 / np.log(2)
    codebook = (codebook.detach().cpu().double() * 2.0**CODE_GRID.bits).round().clamp(CODE_GRID.low, CODE_GRID.high)
    weight = prior.conv.weight.detach().cpu().double() * octaves
    groups, codes, embedding = codebook.shape
    places = np.argwhere(seen_taps(prior.config))
    lookup = np.zeros((len(places), groups, codes + 1, len(weight)), np.int32)
    for tap, (row, column) in enumerate(places):
        for group in range(groups):
            part = weight[:, group * embedding : (group + 1) * embedding, row, column].T
            product = ExactProduct(part, None, CODE_GRID)
            lookup[tap, group, :codes] = snap(product(codebook[group]), product.bits - LOGIT_BITS, LOGIT_GRID).numpy()
    bias = prior.conv.bias.detach().cpu().double() * (octaves * 2.0**LOGIT_BITS)
    bias = bias.round().clamp(LOGIT_GRID.low, LOGIT_GRID.high).numpy().astype(np.int32)
    return ConvTables(places - prior.config.kernel // 2, lookup, bias)


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


class ConvLatent:
    """Symbols whose tables a convolution over the symbols around them gives."""

    def __init__(self, tables: ConvTables, start: Tables | None) -> None:
        """`start`: tables of the groups for the odd positions of a checkerboard; None: a masked convolution."""
        self._tables, self._start = tables, start
        self._reach = int(-tables.taps.min())
        self._outside = tables.lookup.shape[2] - 1
        self._groups = tables.lookup.shape[1]

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols (L, h, w), through the coder."""
        groups, height, width = shape
        reach = self._reach
        states = np.full((groups, height + 2 * reach, width + 2 * reach), self._outside, np.int64)
        out = states[:, reach : reach + height, reach : reach + width]
        for rows, columns, tables, table in self._steps(states, height, width):
            given = None if symbols is None else symbols[:, rows, columns]
            out[:, rows, columns] = io.code(tables, table, given)
        return np.ascontiguousarray(out)

    def bits(self, symbols: np.ndarray) -> float:
        """Their code length."""
        io = CountIO()
        self.code(io, symbols, symbols.shape)
        return io.total

    def _steps(
        self, states: np.ndarray, height: int, width: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Tables, np.ndarray]]:
        """Positions that are coded together, and their tables with the number of each symbol's, (L, n)."""
        y, x = np.indices((height, width)).reshape(2, -1)
        group = np.arange(self._groups)[:, None]
        if self._start is not None:
            odd = (y + x) % 2 == 1
            yield y[odd], x[odd], self._start, np.broadcast_to(group, (self._groups, np.count_nonzero(odd)))
            lines = [~odd]
        else:
            slanted = (self._reach + 1) * y + x
            order = np.argsort(slanted, kind="stable")
            lines = np.split(order, np.flatnonzero(np.diff(slanted[order])) + 1)
        for line in lines:
            rows, columns = y[line], x[line]
            logits = self._logits(states, rows, columns)
            number = group * len(rows) + np.arange(len(rows))
            yield rows, columns, Tables.from_weights(weights_of(logits)), number

    def _logits(self, states: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(L * n, K) integer logits at n positions, group after group."""
        tables = self._tables
        found = np.tile(tables.bias, (len(rows), 1))
        for lookup, (dy, dx) in zip(tables.lookup, tables.taps + self._reach, strict=True):
            for group in range(self._groups):
                found += lookup[group, states[group, rows + dy, columns + dx]]
        return found.reshape(len(rows), self._groups, -1).swapaxes(0, 1).reshape(self._groups * len(rows), -1)
