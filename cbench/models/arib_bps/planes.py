"""Pictures as bit planes: the one place where integers become the numbers that networks see.

Plane 1 is the most significant bit, plane 8 the least. Encoder and decoder keep planes as integers and call `top` for
every network input, so both see the same numbers to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

PLANES = 8
STEPS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""(row, column) of the first pixel of each of the four sub-images, in coding order."""


def top(x: Tensor, k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The k most significant bits of x (uint8) divided by 255, the other bits zero."""
    shift = PLANES - k
    return (x >> shift << shift).to(dtype) / 255.0


def bit(x: Tensor, plane: int) -> Tensor:
    """Plane 1..8 of x (uint8) as 0 or 1 (uint8)."""
    return (x >> (PLANES - plane)) & 1


def signs(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bits 0, 1 -> -1, +1."""
    return bits.to(dtype) * 2 - 1


def sub_image(x: Tensor, step: int) -> Tensor:
    """View of one of the four interleaved sub-images, (..., H, W) -> (..., H/2, W/2)."""
    row, column = STEPS[step]
    return x[..., row::2, column::2]


def known(plane_signs: Tensor, steps: int) -> Tensor:
    """Full-resolution map (B, 3, H, W) of a plane's signs in the first `steps` sub-images, 0 elsewhere."""
    seen = torch.zeros_like(plane_signs)
    for step in range(steps):
        sub_image(seen, step).copy_(sub_image(plane_signs, step))
    return seen


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4 C, H/2, W/2): 2 x 2 pixels become channels 4 c + 2 dy + dx."""
    return torch.nn.functional.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """Inverse of `squeeze`."""
    return torch.nn.functional.pixel_shuffle(x, 2)
