"""Convolutions over the latent grid as context models: what FSAR's tables are compared with.

"masked" is one convolution that sees the positions before, up and left, so that a decoder goes through the grid along
slanted lines. With "checkerboard" the odd positions (y + x odd) have no context and the even ones see the odd ones
around them: two steps. There are few symbols, so what each of them adds through each tap of the kernel is known
beforehand, and the network becomes a sum of rows of an integer table: exact, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding import Tables
from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.grids import (
    CODE_GRID,
    LOGIT_BITS,
    LOGIT_GRID,
    GridLatent,
    Where,
    slanted,
    tables_of,
)
from cbench.nn.exact import ExactProduct, snap

OCTAVES = 1.4426950408889634
"""In a nat: 1 / ln 2, written out because logarithms depend on the machine."""


def causal_taps(kernel: int) -> np.ndarray:
    """(k, k) bool: which neighbours are coded before the position in the middle."""
    y, x = np.indices((kernel, kernel)) - kernel // 2
    return (y < 0) | ((y == 0) & (x < 0))


def seen_taps(config: FsarConfig) -> np.ndarray:
    """(k, k) bool: which neighbours the convolution sees."""
    if config.convolution == "checkerboard":
        return (np.indices((config.kernel, config.kernel)) - config.kernel // 2).sum(0) % 2 == 1
    return causal_taps(config.kernel)


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


def conv_tables(conv: nn.Conv2d, mask: Tensor, codebook: Tensor) -> ConvTables:
    """Multiply every tap's weights with every code vector, exactly.

    Args:
        conv: L * E channels -> L * K channels.
        mask: (k, k), not 0 where the convolution sees something.
        codebook: (L, K, E).

    Raises:
        ConfigError: weights that are not finite or too large.
    """
    vectors, weight = integers(codebook), conv.weight.detach().cpu().double() * OCTAVES
    places, embedding = np.argwhere(mask.cpu().numpy() != 0), codebook.shape[2]
    lookup = [
        [added(weight[:, g * embedding : (g + 1) * embedding, y, x].T, own) for g, own in enumerate(vectors)]
        for y, x in places
    ]
    return ConvTables(places - len(mask) // 2, np.array(lookup), logits_of(conv.bias))


def integers(codebook: Tensor) -> Tensor:
    """Code vectors on the code grid."""
    vectors = codebook.detach().cpu().double() * 2.0**CODE_GRID.bits
    return vectors.round().clamp(CODE_GRID.low, CODE_GRID.high)


def logits_of(bias: Tensor) -> np.ndarray:
    """A bias in nats as integer logits, int32."""
    octaves = bias.detach().cpu().double() * (OCTAVES * 2.0**LOGIT_BITS)
    return octaves.round().clamp(LOGIT_GRID.low, LOGIT_GRID.high).numpy().astype(np.int32)


def added(weight: Tensor, vectors: Tensor) -> np.ndarray:
    """What each code adds to the logits: weight (E, O) in octaves, integer vectors (K, E) -> (K + 1, O) int32.

    The last row stands for a code outside the picture, which adds nothing.
    """
    product = ExactProduct(weight, None, CODE_GRID)
    rows = snap(product(vectors), product.bits - LOGIT_BITS, LOGIT_GRID)
    return nn.functional.pad(rows, (0, 0, 0, 1)).numpy().astype(np.int32)


class ConvLatent(GridLatent):
    """Symbols whose tables a convolution over the symbols around them gives."""

    def __init__(self, tables: ConvTables, start: Tables | None) -> None:
        """`start`: tables of the groups for the odd positions of a checkerboard; None: a masked convolution."""
        super().__init__(int(-tables.taps.min()), tables.lookup.shape[2] - 1)
        self._tables, self._start = tables, start
        self._groups = tables.lookup.shape[1]

    def _steps(self, states: np.ndarray, height: int, width: int) -> Iterator[tuple[Where, Tables, np.ndarray]]:
        every, group = slice(None), np.arange(self._groups)[:, None]
        lines = slanted(height, width, self._reach + 1)
        if self._start is not None:
            odd = np.indices((height, width)).sum(0) % 2 == 1
            rows, columns = odd.nonzero()
            yield (every, rows, columns), self._start, np.broadcast_to(group, (self._groups, len(rows)))
            lines = iter([(~odd).nonzero()])
        for rows, columns in lines:
            number = group * len(rows) + np.arange(len(rows))
            yield (every, rows, columns), tables_of(self._logits(states, rows, columns)), number

    def _logits(self, states: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(L * n, K) integer logits at n positions, group after group."""
        tables = self._tables
        found = np.tile(tables.bias, (len(rows), 1))
        for lookup, (dy, dx) in zip(tables.lookup, tables.taps + self._reach, strict=True):
            for group in range(self._groups):
                found += lookup[group, states[group, rows + dy, columns + dx]]
        return found.reshape(len(rows), self._groups, -1).swapaxes(0, 1).reshape(self._groups * len(rows), -1)
