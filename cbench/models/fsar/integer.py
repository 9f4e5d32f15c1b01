"""The decoder network in exact integer arithmetic: the same pixel parameters on every machine.

Batch norms are folded into the convolutions, weights are rounded to integers, activations to multiples of
2^-16 in [-256, 256]; `cbench.nn.exact` proves that no sum is ever rounded. The first layer sees only sums
of code vectors, one of each group, so it becomes a table look-up.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from cbench.models.fsar.network import FsarNetwork, Residual
from cbench.models.fsar.pixels import LEVELS, LOG_STD_LOW, LOG_STD_STEPS
from cbench.nn.exact import (
    ExactConv2d,
    ExactConvTranspose2d,
    ExactProduct,
    Grid,
    fold_batch_norm,
    interleave,
    snap,
)

BITS = 16
RANGE = 256
SIGNED = Grid(BITS, -RANGE << BITS, RANGE << BITS)
POSITIVE = Grid(BITS, 0, RANGE << BITS)
"""Clamping to it is the ReLU, too."""


class IntegerDecoder(nn.Module):
    """Symbols (B, L, h, w) -> exact mean (float64, in pixel values) and log-std level (int64), (B, 3, H, W)."""

    def __init__(self, network: FsarNetwork) -> None:
        """Derive everything from a trained network, by exact or correctly rounded steps only.

        Raises:
            ConfigError: weights too large for exact sums.
        """
        super().__init__()
        layers = list(network.decoder)
        self.register_buffer("lookup", _first_layer(network, layers[0], layers[1]))
        self.residuals = nn.ModuleList(_IntegerResidual(layer) for layer in layers if isinstance(layer, Residual))
        self.ups = nn.ModuleList(
            _folded(ExactConvTranspose2d, layer, norm)
            for layer, norm in pairwise(layers)
            if isinstance(layer, nn.ConvTranspose2d)
        )
        self.head = _head(layers[-1])

    @property
    def halo(self) -> int:
        """Latent positions around a tile that influence its pixels."""
        return len(self.residuals) + len(self.ups)

    def forward(self, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network."""
        groups = torch.arange(symbols.shape[1], device=symbols.device)
        sums = self.lookup[groups, symbols.permute(0, 2, 3, 1)].sum(-2)
        x = sums.clamp_(SIGNED.low, SIGNED.high)
        for residual in self.residuals:
            x = residual(x)
        for i, up in enumerate(self.ups):
            x = snap(up(x), up.bits - BITS, POSITIVE)
            if i + 1 < len(self.ups):
                x = interleave(x)
        # The head sees single pixels, so it runs before the (now much smaller) phases are put together.
        x = interleave(self.head(x)).unflatten(-1, (3, 2)).permute(0, 3, 1, 2, 4)
        level = snap(x[..., 1].clone(), self.head.bits, Grid(0, 0, LEVELS - 1))
        return x[..., 0] * 2.0**-self.head.bits, level.long()


class _IntegerResidual(nn.Module):
    def __init__(self, layer: Residual) -> None:
        super().__init__()
        wide, wide_norm, _, narrow, narrow_norm = layer.block
        self.wide = _folded(ExactConv2d, wide, wide_norm)
        self.narrow = _folded(ExactConv2d, narrow, narrow_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp_min(0)
        inner = snap(self.wide(x), self.wide.bits - BITS, POSITIVE)
        return snap(self.narrow(inner), self.narrow.bits - BITS, SIGNED).add_(x).clamp_(SIGNED.low, SIGNED.high)


def _folded(kind: type[ExactConv2d | ExactConvTranspose2d], layer: nn.Module, norm: nn.Module) -> nn.Module:
    factor, offset = fold_batch_norm(norm)
    weight = layer.weight.detach().cpu().double()
    shape = (1, -1, 1, 1) if kind is ExactConvTranspose2d else (-1, 1, 1, 1)
    return kind(weight * factor.view(shape), offset, SIGNED)


def _head(layer: nn.Conv2d) -> ExactConv2d:
    """Scale the outputs: means to pixel values, log-stds to levels of the tables."""
    scale = torch.tensor([255.0, LOG_STD_STEPS]).double().repeat(3)
    shift = torch.tensor([0.0, -LOG_STD_LOW * LOG_STD_STEPS]).double().repeat(3)
    weight, bias = layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double()
    return ExactConv2d(weight * scale.view(-1, 1, 1, 1), bias * scale + shift, SIGNED)


def _first_layer(network: FsarNetwork, layer: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """(L, K, C): what each code adds to the first layer's output, on the signed grid."""
    factor, offset = fold_batch_norm(norm)
    codebook = network.quantizer.codebook.detach().cpu().double()
    weight = layer.weight.detach().cpu().double()[:, :, 0, 0] * factor[:, None]
    groups, codes, embedding = codebook.shape
    tables = codebook.new_empty(groups, codes, len(factor))
    for g in range(groups):
        part = weight[:, g * embedding : (g + 1) * embedding].T
        product = ExactProduct(part, offset if g == 0 else None, SIGNED)
        rounded = (codebook[g] * 2.0**BITS).round().clamp(SIGNED.low, SIGNED.high)
        tables[g] = snap(product(rounded), product.bits - BITS, SIGNED)
    return tables


def to_numpy(mean: Tensor, level: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Move the decoder's result to arrays."""
    return mean.cpu().numpy(), level.cpu().numpy()
