"""McQuic's decoding networks in exact integer arithmetic, in front of `integer.IntegerDecoder`."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from cbench.models.fsar.integer import BITS, SIGNED, _folded, _IntegerResidual, _IntegerUp
from cbench.models.fsar.mcquic import Level, McQuic, unpack
from cbench.models.fsar.network import Residual
from cbench.nn.exact import ExactConv2d, ExactProduct, snap

REACH = 6
"""Positions of a level around one that influence it there: three residual blocks, the transposed convolution, and
two more layers in front."""


class IntegerLevels(nn.Module):
    """Symbols (B, h, w, planes) -> the decoder's first layer (B, 8h, 8w, C) on the signed grid."""

    def __init__(self, quantizer: McQuic, weight: Tensor, offset: Tensor) -> None:
        """`weight` (O, I) and `offset` (O): the first layer. Raises as `IntegerDecoder`."""
        super().__init__()
        levels = deepcopy(quantizer.levels).cpu()
        self.books = len(levels[0].codebook)
        self.levels = nn.ModuleList(map(_IntegerLevel, levels))
        self.product = ExactProduct(weight.T, offset, SIGNED)

    def forward(self, symbols: Tensor) -> Tensor:
        """Run the levels from the coarsest to the finest."""
        codes = unpack(symbols.permute(0, 3, 1, 2), self.books)
        z = None
        for level, own in zip(reversed(self.levels), reversed(codes), strict=True):
            z = level(own.permute(0, 2, 3, 1), z)
        return snap(self.product(z), self.product.bits - BITS, SIGNED)

    def halo(self, own: int) -> int:
        """Positions of the symbols' grid around a tile, for so many positions of z around it."""
        for _ in self.levels:
            own = -(-own // 2) + REACH
        return own


class _IntegerLevel(nn.Module):
    codebook: Tensor

    def __init__(self, level: Level) -> None:
        super().__init__()
        codebook = (level.codebook.detach().cpu().double() * 2.0**BITS).round()
        self.register_buffer("codebook", codebook.clamp(SIGNED.low, SIGNED.high))
        self.values, self.up = _exact(level.values), _exact(level.up)
        self.side = None if level.side is None else _exact(level.side)

    def forward(self, codes: Tensor, coarser: Tensor | None) -> Tensor:
        """Codes (B, h, w, m), and the next level's result (B, h, w, C) -> (B, 2h, 2w, C)."""
        vectors = self.codebook[torch.arange(len(self.codebook), device=codes.device), codes].flatten(3)
        x = self.values(vectors)
        if coarser is not None:
            x = x.add_(self.side(coarser)).clamp_(SIGNED.low, SIGNED.high)
        return self.up(x)


class _Conv(nn.Module):
    def __init__(self, product: ExactConv2d) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        return snap(self.product(x), self.product.bits - BITS, SIGNED)


class _Up(_IntegerUp):
    def forward(self, x: Tensor) -> Tensor:
        return self.join(super().forward(x))


def _exact(layers: nn.Sequential) -> nn.Sequential:
    """Each layer, with the batch norm behind it, from the signed grid to the signed grid."""
    found: list[nn.Module] = []
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        norm = following if isinstance(following, nn.BatchNorm2d) else None
        if isinstance(layer, Residual):
            found.append(_IntegerResidual(layer))
        elif isinstance(layer, nn.ConvTranspose2d):
            found.append(_Up(layer, norm))
        elif isinstance(layer, nn.Conv2d) and norm is not None:
            found.append(_Conv(_folded(ExactConv2d, layer, norm)))
        elif isinstance(layer, nn.Conv2d):
            weight, bias = layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double()
            found.append(_Conv(ExactConv2d(weight, bias, SIGNED)))
    return nn.Sequential(*found)
