"""The paper's `Coder-ar` models: the mean of each Gaussian is shifted by a linear function of three decoded neighbours.

    mean' = clip(sigmoid(mean) + b_c + sum_o w_co x_o)        on the scale where 255 is 1

    red           x at (row - 1, column - 1), (row - 1, column), (row, column - 1) of red
    green, blue   the colour before: at the pixel, at its left neighbour; the own colour: at the left neighbour

Neighbours outside the picture count as 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.fsar.config import FsarConfig

NEIGHBOURS = (((0, -1, -1), (0, -1, 0), (0, 0, -1)), *(((-1, 0, 0), (-1, 0, -1), (0, 0, -1)),) * 2)
"""(colour, row, column) of each colour's neighbours, in the order of the weights."""
SMALLEST = 1e-6
"""Means stay so far from 0 and 1 in training."""


class LinearHead(nn.Module):
    """Weights of the neighbours."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 1, 3))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, params: Tensor, x: Tensor) -> Tensor:
        """The decoder's params (B, 3, H, W, 2) and pictures x (B, 3, H, W) in [0, 1] -> means and log-stds."""
        around = torch.stack([torch.stack([_shifted(x, c, o) for o in NEIGHBOURS[c]], -1) for c in range(3)], 1)
        shift = (around * self.weight[:, 0, None, None]).sum(-1) + self.bias[:, None, None]
        mean = (params[..., 0].sigmoid() + shift).clamp(SMALLEST, 1 - SMALLEST)
        return torch.stack([mean, params[..., 1]], -1)


def _shifted(x: Tensor, colour: int, offset: tuple[int, int, int]) -> Tensor:
    """(B, H, W): each pixel's neighbour, zero outside."""
    dc, dy, dx = offset
    h, w = x.shape[2:]
    return functional.pad(x[:, colour + dc], (-dx, 0, -dy, 0))[:, :h, :w]
