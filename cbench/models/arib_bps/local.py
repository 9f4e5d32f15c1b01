"""Ours: differences to the nearest pixels, in units of the plane's own interval, and a small network over them.

What decides a bit is where the neighbours lie within the interval that the planes above leave to its pixel. A U-Net has
to find that in numbers from 0 to 1. Here the differences come ready, and large ones, of which little more than the sign
matters, are bent.
"""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional

from cbench.models.arib_bps.planes import PLANES, STEPS, known, sub_image

REACH = 2
"""Neighbours lie at most so many pixels away in each direction."""
OFFSETS = tuple((dy, dx) for dy in range(2 * REACH + 1) for dx in range(2 * REACH + 1) if (dy, dx) != (REACH, REACH))
"""(row, column) of the neighbours in a picture that has `REACH` more pixels on every side."""
BEND = 4.0
"""Limit of a bent difference, in intervals."""


def differences(x: Tensor, plane: int, step: int, plane_signs: Tensor) -> Tensor:
    """How far neighbours lie above the pixels of a sub-image, as far as both are known.

    Args:
        x: (B, 3, H, W) uint8; only the planes above `plane` are looked at.
        plane: 1..8, the one that is coded.
        step: 0..3.
        plane_signs: (B, 3, H, W) signs of the plane's bits; only the steps before are looked at.

    Returns:
        (B, 72, H/2, W/2): every neighbour in every colour. What is known of a value counts as the middle of its range.
    """
    values = (x >> (PLANES + 1 - plane)).to(plane_signs.dtype) + known(plane_signs, step) / 4
    around = functional.pad(values, (REACH,) * 4, mode="replicate")
    own = sub_image(values, step)
    (row, column), (height, width) = STEPS[step], values.shape[2:]
    starts = ((row + dy, column + dx) for dy, dx in OFFSETS)
    found = cat([around[..., top : top + height : 2, left : left + width : 2] - own for top, left in starts], 1)
    return found / (1 + found.abs() / BEND)


class LocalNet(nn.Module):
    """Parameters of a plane's pixels from differences: a first layer of each step, then two for all steps."""

    def __init__(self, seen: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(3 * len(OFFSETS), width, 1) for _ in STEPS)
        self.guide = nn.Conv2d(seen, len(STEPS) * width, 1, bias=False)
        self.second = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, outputs, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, found: Tensor, seen: Tensor, step: int) -> Tensor:
        """Maps differences (B, 72, h, w) and the parameter net's features (B, seen, h, w) -> (B, outputs, h, w)."""
        width = self.second.in_channels
        guide = functional.conv2d(seen, self.guide.weight[step * width : (step + 1) * width])
        h = functional.silu(self.first[step](found) + guide)
        return self.last(functional.silu(self.second(h)))
