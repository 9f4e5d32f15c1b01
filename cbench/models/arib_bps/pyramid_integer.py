"""The pyramid's network in exact integer arithmetic: the same mixtures on every machine.

Features are multiples of 2^-FEATURE_BITS; `cbench.nn.exact` proves that no sum is rounded. Convolutions run in float32
(sums below 2^24), the small last layers, whose outputs are the coder's parameters, in float64.

Layout: (B, h, w, C).
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.coding.mixture import MEAN_UNIT, SCALE_STEP, SCALE_ZERO
from cbench.models.arib_bps.pyramid import MEAN_SCALE, RANGE, RESIDUAL_SCALE, Colours, Look, Pyramid, Step, base
from cbench.nn.exact import ExactConv2d, ExactProduct, Grid, snap

FEATURE_BITS = 7
"""Fraction bits of features; 6 to 9 cost the same to 0.001 bpd, fewer leave more for the weights."""
SLOPE_BITS = 10
"""Fraction bits of the coefficients of earlier colours' residuals."""
PIXELS = Grid(0, 0, 255)
FEATURES = Grid(FEATURE_BITS, 0, RANGE << FEATURE_BITS)
"""What a layer sees."""
SIGNED = Grid(FEATURE_BITS, -(1 << 20), 1 << 20)
"""What residual blocks add to; far more than they reach."""
MEANS = Grid(8, -(1 << 20), 1 << 20)
SLOPES = Grid(SLOPE_BITS, -(1 << 13), 1 << 13)
SCALES = Grid(0, 0, 255)
LOGITS = Grid(0, -4096, 4096)
OCTAVE = SCALE_STEP / math.log(2)
"""Logits and logarithms of scales are in 1/16 octave."""
WEIGHTS = np.array([round(2 ** (14 - r / 16)) >> octave for octave in range(15) for r in range(16)] + [0], np.uint16)
"""Weight of a component that is so many sixteenths of an octave below the heaviest."""


@dataclass(frozen=True)
class Pending:
    """One step's network output while its colours are coded."""

    hidden: Tensor
    """(B, h, w, 3 * hidden) on the features' grid, before the clamp."""
    below: np.ndarray
    """(B, 3, h, w) int32, bases."""
    line: np.ndarray
    """(B, 3, h, w) int32, linear correction of the means in 1/256."""

    def cropped(self, rows: slice, columns: slice) -> Pending:
        """A part of the grid."""
        return Pending(self.hidden[:, rows, columns], self.below[..., rows, columns], self.line[..., rows, columns])


class IntegerLook(nn.Module):
    """`Look` in integers."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        weight, bias = (t.detach() for t in deepcopy(look).double().kernels())
        self.features = ExactConv2d(weight[:-3], bias[:-3], PIXELS, dtype=torch.float32)
        self.line = ExactConv2d(weight[-3:], bias[-3:], PIXELS, dtype=torch.float32)

    def forward(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """Quarters (B, 3 * quarters, h, w) -> features on their grid and mean corrections in 1/256, (B, h, w, .)."""
        x = functional.pad(known, (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
        features, line = self.features.windowed(x, 3), self.line.windowed(x, 3)
        return (
            snap(features, self.features.bits - FEATURE_BITS, SIGNED),
            snap(line, self.line.bits - MEANS.bits, MEANS),
        )


class IntegerColours(nn.Module):
    """`Colours` in integers."""

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        k = self.mixtures = colours.mixtures
        self.inner = _pointwise(colours.inner)
        hidden = self.inner.weight.shape[1] // 3
        self.residual = nn.ModuleList(
            ExactProduct(weight.double().T * RESIDUAL_SCALE, None, Grid(0, -255, 255), dtype=torch.float32)
            for weight in colours.residual
        )
        self.outer = nn.ModuleList()
        for i, layer in enumerate(colours.outer):
            unit = torch.tensor([OCTAVE] * k + [MEAN_SCALE * MEAN_UNIT] * k + [OCTAVE] * k + [1 << SLOPE_BITS] * i)
            zero = torch.tensor([0.0] * (2 * k) + [SCALE_ZERO] * k + [0.0] * i)
            weight = layer.weight.detach().double().view(-1, hidden).T * unit.double()
            self.outer.append(ExactProduct(weight, layer.bias.detach().double() * unit + zero, FEATURES))
        self.hidden = hidden

    def start(self, features: Tensor) -> Tensor:
        """What does not depend on the pixels of this step: (B, h, w, 3 * hidden)."""
        return snap(self.inner(features), self.inner.bits - FEATURE_BITS, SIGNED)

    def distributions(self, pending: Pending, colour: int, residual: np.ndarray) -> tuple[np.ndarray, ...]:
        """Means, scales and weights of one colour's mixtures, each (B, K, h * w), as `Mixture` takes them.

        Args:
            pending: what the step found.
            colour: 0, 1, 2.
            residual: (B, colour, h, w), residuals of the colours before it.
        """
        k, items = self.mixtures, len(residual)
        hidden = pending.hidden[..., colour * self.hidden : (colour + 1) * self.hidden]
        hidden = hidden.reshape(-1, self.hidden)
        if colour:
            layer = self.residual[colour - 1]
            seen = np.moveaxis(residual, 1, -1).reshape(-1, colour).astype(np.float32)
            more = layer(torch.from_numpy(seen))
            hidden = hidden + snap(more, layer.bits - FEATURE_BITS, SIGNED)
        layer = self.outer[colour]
        out = layer(hidden.clamp(FEATURES.low, FEATURES.high).double()).view(items, -1, layer.weight.shape[1])
        logits, means, scales, slopes = out.transpose(1, 2).split((k, k, k, colour), 1)
        centre = MEAN_UNIT * pending.below[:, colour] + pending.line[:, colour]
        mean = snap(means.contiguous(), layer.bits, MEANS).to(torch.int32).numpy() + centre.reshape(items, 1, -1)
        if colour:
            slope = snap(slopes.contiguous(), layer.bits, SLOPES).to(torch.int32).numpy()
            shift = slope * residual.reshape(items, colour, -1)
            mean += shift.sum(1, keepdims=True, dtype=np.int32) >> (SLOPE_BITS - MEANS.bits)
        whole = snap(logits.contiguous(), layer.bits, LOGITS)
        less = (whole.amax(1, keepdim=True) - whole).clamp_(max=len(WEIGHTS) - 1)
        return (
            mean.astype(np.int32, copy=False),
            snap(scales.contiguous(), layer.bits, SCALES).to(torch.uint8).numpy(),
            WEIGHTS[less.to(torch.int32).numpy()],
        )


class IntegerStep(nn.Module):
    """`Step` in integers."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.look = IntegerLook(step.look)
        self.carry = _pointwise(step.carry)
        self.register_buffer("bias", (step.bias.detach().double() * 2.0**FEATURE_BITS).round().float())
        self.blocks = nn.ModuleList(IntegerBlock(block.wide, block.narrow) for block in step.blocks)
        self.colours = IntegerColours(step.colours)

    @property
    def halo(self) -> int:
        """Positions around a tile that its results depend on."""
        return 1 + len(self.blocks)

    def forward(self, known: list[Tensor], state: Tensor, level: int, kind: Tensor) -> tuple[Tensor, Pending]:
        """The next state, clamped, and what the colours need; arguments as for `Step`, the state already clamped."""
        x, line = self.look(torch.cat(known, 1))
        bias = self.bias[kind, min(level, self.bias.shape[1] - 1)]
        x += snap(self.carry(state), self.carry.bits - FEATURE_BITS, SIGNED)
        x += bias[:, None, None]
        for block in self.blocks:
            x = block(x)
        x.clamp_(FEATURES.low, FEATURES.high)
        below, line = (t.to(torch.int32).numpy() for t in (base(known), line.permute(0, 3, 1, 2)))
        return x, Pending(self.colours.start(x), below, line)


class IntegerBlock(nn.Module):
    """`Block` in integers."""

    def __init__(self, wide: nn.Conv2d, narrow: nn.Conv2d) -> None:
        super().__init__()
        self.wide, self.narrow = _conv(wide), _pointwise(narrow)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) integers -> the same."""
        inner = self.wide(x.clamp(FEATURES.low, FEATURES.high))
        inner = snap(inner, self.wide.bits - FEATURE_BITS, FEATURES)
        return snap(self.narrow(inner), self.narrow.bits - FEATURE_BITS, SIGNED).add_(x)


class IntegerPyramid(nn.Module):
    """The steps and the way from a level's state to the next finer one."""

    def __init__(self, network: Pyramid) -> None:
        """Round the network's weights.

        Raises:
            ConfigError: weights too large for exact sums.
        """
        super().__init__()
        self.channels = network.config.channels
        self.steps = nn.ModuleList(IntegerStep(step) for step in network.steps)
        self.up = _pointwise(network.up)

    def raised(self, state: Tensor) -> Tensor:
        """A clamped state (B, h, w, C) -> (B, 2h, 2w, C), clamped."""
        b, h, w, c = state.shape
        x = snap(self.up(state), self.up.bits - FEATURE_BITS, FEATURES)
        return x.view(b, h, w, c, 2, 2).permute(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c)


def _conv(layer: nn.Conv2d) -> ExactConv2d:
    return ExactConv2d(layer.weight, layer.bias, FEATURES, dtype=torch.float32)


def _pointwise(layer: nn.Conv2d) -> ExactProduct:
    return ExactProduct(layer.weight[:, :, 0, 0].T, layer.bias, FEATURES, dtype=torch.float32)
