"""8-bit pictures to what networks take, and back: padding to a multiple, grey as R = G = B."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cbench.errors import UnsupportedInputError


def check_picture(array: np.ndarray, name: str) -> None:
    """Refuse what a codec for 8-bit RGB and grey pictures does not take.

    Args:
        array: (C, H, W).
        name: the codec, for the message.

    Raises:
        UnsupportedInputError: another dtype or number of channels.
    """
    if array.dtype != np.uint8:
        raise UnsupportedInputError(f"{name} codes 8-bit pictures (uint8), not {array.dtype}")
    if array.shape[0] in (2, 4):
        raise UnsupportedInputError(f"{name} codes no alpha channel: pass the colours without it")
    if array.shape[0] not in (1, 3):
        raise UnsupportedInputError(f"{name} codes grey or RGB pictures, not {array.shape[0]} channels")


def round_up(length: int, multiple: int) -> int:
    """The smallest multiple that is not below `length`."""
    return -(-length // multiple) * multiple


def to_tensor(pictures: Sequence[np.ndarray], multiple: int = 1) -> Tensor:
    """Pictures of one shape (C, H, W) uint8, C = 1 or 3 -> (B, 3, H', W') float32 in [0, 1].

    H' and W' are multiples; the last row and column are repeated at the bottom and at the right.
    """
    x = np.stack(pictures)
    rest = [round_up(length, multiple) - length for length in x.shape[2:]]
    x = np.pad(x, ((0, 0), (0, 0), (0, rest[0]), (0, rest[1])), mode="edge")
    return torch.from_numpy(x).float().div_(255).expand(-1, 3, -1, -1).contiguous()


def to_pictures(x: Tensor, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """(B, 3, H', W') in [0, 1] -> B arrays of `shape` (C, H, W) uint8: cropped, clamped, rounded; grey is the mean."""
    channels, height, width = shape
    x = x[:, :, :height, :width]
    if channels == 1:
        x = x.mean(1, keepdim=True)
    levels = x.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return list(levels.cpu().contiguous().numpy())
