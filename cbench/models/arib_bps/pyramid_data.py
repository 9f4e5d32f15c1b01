"""Small pictures and photographs in one training set, and photographs as scanners and files leave them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cbench.codec import Sample
from cbench.models.arib_bps.pyramid_config import PHOTOGRAPH, SMALL

SIDE = 64
"""Of the squares that are trained on: four small pictures, or a part of a photograph."""
WHOLE = 4
"""How often a photograph occurs in its own size; once it is reduced to half."""
WEATHERED = 0.44
"""Share of the photographs that are changed."""
LUMA_STEP, CHROMA_STEPS = 1.3584, (1.8215, 2.2179)
"""Units of luma, R - Y and B - Y in 8-bit PhotoCD files."""


class Mixed(Sequence[Sample]):
    """Squares of four pictures of 32 x 32, and half as many photographs; a fourth channel holds the kind.

    Args:
        small: pictures of 32 x 32.
        photographs: pictures of at least 128 x 128.
    """

    def __init__(self, small: Sequence[Sample], photographs: Sequence[Sample]) -> None:
        self.small, self.squares = small, len(small) // 4
        self.large: list[np.ndarray] = []
        for sample in photographs:
            self.large += [_marked(sample.array, PHOTOGRAPH)] * WHOLE + [_marked(_halved(sample.array), PHOTOGRAPH)]

    def __len__(self) -> int:
        """Squares and photographs."""
        return self.squares + self.squares // 2

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """(4, 64, 64) or (4, H, W) uint8."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index >= self.squares:
            return Sample(f"photograph {index}", self.large[(index - self.squares) % len(self.large)])
        four = [np.asarray(self.small[4 * index + part].array) for part in range(4)]
        return Sample(f"square {index}", _marked(np.block([four[:2], four[2:]]), SMALL))


def split(batch: Tensor, generator: torch.Generator) -> list[tuple[Tensor, int]]:
    """A batch (B, 4, 64, 64) uint8 of `Mixed` as pictures (n, 3, H, W) float32 of each kind that is there."""
    kinds, pictures = batch[:, 3, 0, 0], batch[:, :3].float()
    found = []
    if len(squares := pictures[kinds == SMALL]):
        found.append((torch.cat([part for half in squares.chunk(2, 2) for part in half.chunk(2, 3)]), SMALL))
    if len(crops := pictures[kinds == PHOTOGRAPH]):
        found.append((torch.cat([weathered(x, generator) for x in crops.split(1)]), PHOTOGRAPH))
    return found


def weathered(x: Tensor, generator: torch.Generator) -> Tensor:
    """A photograph (1, 3, S, S) in 0..255, often with less detail, chroma of half the resolution, rounding or noise."""

    def draw() -> float:
        return float(torch.rand((), generator=generator))

    if draw() >= WEATHERED:
        return x
    side = x.shape[-1]
    if draw() < 0.6:
        part = round(side * (0.56 + 0.4 * draw()))
        x = functional.interpolate(x[..., :part, :part], size=(side, side), mode="bicubic", align_corners=False)
    luma = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
    chroma = x[:, ::2] - luma
    noise = 2.5 * max(draw() - 0.2, 0.0) * torch.randn(luma.shape, generator=generator)
    luma = luma + (functional.avg_pool2d(noise, 3, 1, 1) * 3 if draw() < 0.5 else noise)
    source = draw()
    if source < 0.6:
        luma, chroma = _as_photo_cd(luma, chroma, averaged=draw() < 0.5)
    elif source < 0.9:
        half = functional.avg_pool2d(chroma, 2)
        chroma = functional.interpolate(half, size=(side, side), mode="bilinear", align_corners=False)
    red, blue = luma + chroma[:, :1], luma + chroma[:, 1:]
    return torch.cat([red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue], 1).round().clamp(0, 255)


def _as_photo_cd(luma: Tensor, chroma: Tensor, *, averaged: bool) -> tuple[Tensor, Tensor]:
    """Chroma of every second pixel of every second row, linear between them, and everything in whole steps."""
    steps = torch.tensor(CHROMA_STEPS).view(1, 2, 1, 1)
    wide = functional.pad(chroma, (1, 1, 1, 1), mode="replicate")
    known = (functional.avg_pool2d(wide, 3, 1) if averaged else chroma)[..., ::2, ::2]
    known = functional.pad((known / steps).round() * steps, (0, 1, 0, 1), mode="replicate")
    side = chroma.shape[-1]
    between = functional.interpolate(known, size=(side + 1, side + 1), mode="bilinear", align_corners=True)
    chroma = (between[..., :side, :side] / steps).round() * steps
    return (luma / LUMA_STEP).round() * LUMA_STEP, chroma


def _halved(x: np.ndarray) -> np.ndarray:
    height, width = (n // 2 for n in x.shape[1:])
    cells = x[:, : 2 * height, : 2 * width].reshape(3, height, 2, width, 2)
    return np.rint(cells.mean((2, 4))).astype(np.uint8)


def _marked(x: np.ndarray, kind: int) -> np.ndarray:
    return np.concatenate([x, np.full((1, *x.shape[1:]), kind, np.uint8)])
