"""The networks that decide which table codes a symbol, in arithmetic that gives the same integers on every machine.

Everything is an integer in units of 2^-BITS held in float64, (B, h, w, C). Convolutions (ChARM, the Conv models' h_s)
are exact (`cbench.nn.exact`). A Swin h_s has norms and softmax, which are not: it is evaluated in float64, and its
output is rounded after an offset that the encoder chooses so that no value lies near a rounding boundary. Machines
whose float64 differs by less than that margin, 200 times what was seen, then round alike.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from cbench.models.tbtc.network import TbtcNetwork, Tower
from cbench.nn.exact import ExactStack, Grid

BITS = 14
GRID = Grid(BITS, -(1 << 25), 1 << 25)
"""Values up to 2048."""
OFFSETS = 256
"""Offsets are multiples of 1 / OFFSETS of the grid's unit."""
MARGIN = 1e-8
"""Distance from a rounding boundary, in units, that the encoder looks for: 6e-13 of a value."""


class TowerPair(nn.Module):
    """ChARM's towers of one slice; their first layers read the same earlier slices, so they are one product."""

    def __init__(self, mean: Tower, scale: Tower, own: int) -> None:
        """Copy the weights; the first `own` inputs of each tower are its own part of h_s's output."""
        super().__init__()
        self.mean, self.scale = ExactStack(mean.layers, GRID), ExactStack(scale.layers, GRID)
        self.first, other = self.mean.layers[0], self.scale.layers[0]
        m, s = (layer.weight.unflatten(0, (layer.size**2, -1)) for layer in (self.first, other))
        taps, inputs, self.hidden = m.shape
        both = m.new_zeros(taps, own + inputs, 2 * self.hidden)
        both[:, :own, : self.hidden] = m[:, :own]
        both[:, own : 2 * own, self.hidden :] = s[:, :own]
        both[:, 2 * own :] = torch.cat([m[:, own:], s[:, own:]], -1)
        self.first.weight, self.first.bias = both.flatten(0, 1), torch.cat([self.first.bias, other.bias])
        self.mean.layers[0] = self.scale.layers[0] = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, h, w, both own parts, earlier slices) -> mean and scale, (B, h, w, s) each."""
        sums = self.first(x)
        return self.mean(sums[..., : self.hidden]), self.scale(sums[..., self.hidden :])


class ExactPrior(nn.Module):
    """h_s and ChARM as integers."""

    def __init__(self, network: TbtcNetwork) -> None:
        """Copy the weights.

        Raises:
            ConfigError: weights too large for exact sums.
        """
        super().__init__()
        self.config = network.config
        swin = self.config.transform == "swin"
        self.h_s = deepcopy(network.h_s).double() if swin else ExactStack(network.h_s, GRID)
        if self.config.prior == "charm":
            pairs = zip(network.charm_mean_transforms, network.charm_scale_transforms, strict=True)
            self.towers = nn.ModuleList(TowerPair(mean, scale, self.config.slice) for mean, scale in pairs)

    @property
    def needs_offset(self) -> bool:
        """Whether `hyper` is not exact by itself."""
        return self.config.transform == "swin"

    def hyper(self, z_hat: Tensor) -> Tensor:
        """z_hat (B, h, w, C6) -> h_s's output (B, 4h, 4w, 2 C4): scales first, then means; Swin's not yet rounded."""
        z_hat = z_hat.clamp(GRID.low, GRID.high)
        if not self.needs_offset:
            return self.h_s(z_hat)
        out = self.h_s((z_hat * 2.0**-BITS).permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1) * 2.0**BITS

    def slice(self, i: int, scales: Tensor, means: Tensor, done: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and scale of ChARM's i-th slice, (B, h, w, s) each, from h_s's halves and the slices before."""
        own = slice(i * self.config.slice, (i + 1) * self.config.slice)
        return self.towers[i](torch.cat([means[..., own], scales[..., own], *done], -1))


def safe_offset(values: Tensor) -> int:
    """The first offset that keeps all values (any shape, float64, in units) MARGIN away from a rounding boundary.

    Where there is none, in pictures of very many values, the offset that leaves the largest distance.
    """
    phase = values - values.floor()
    best, most = 0, -1.0
    for offset in range(OFFSETS):
        shifted = phase + (offset / OFFSETS - 0.5)
        distance = float((shifted - shifted.round()).abs().min())
        if distance >= MARGIN:
            return offset
        if distance > most:
            best, most = offset, distance
    return best


def round_with(values: Tensor, offset: int) -> Tensor:
    """Values in units -> integers on the grid."""
    return (values + offset / OFFSETS).round().clamp_(GRID.low, GRID.high)
