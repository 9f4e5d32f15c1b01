"""A pyramid of mixtures: the network of `arib_bps.pyramid`, our own variant beside the paper's model.

It keeps the paper's four-step subsampling and drops bit planes and latents. A level is a picture whose quarter `(0, 0)`
(every second row and column) is known. Three steps give the other quarters, each from all that is known; the next finer
level begins with the picture so completed. A step predicts all of its pixels at once:

    state   what earlier steps and the coarser level found out, C channels on the grid of the quarter
    look    a 3x3 window of every known quarter; the filters add up to zero, so they see differences, and the
            brightness is added as a weak input of its own
    blocks  two residual blocks
    colour  R, then G with the residual of R, then B with both: a hidden layer and a mixture of logistics, whose means
            are linear in those residuals

The weights are shared by all levels; a level only adds a bias. Every input of a product is clamped to [0, 8] (pixels:
to integers), so that integers can do the same on every machine (`pyramid_integer`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.arib_bps.pyramid_config import PyramidConfig

QUARTERS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Row and column of each quarter in its 2x2 cell, in the order in which they become known."""
RANGE = 8
"""Inputs of the layers lie in [0, RANGE]."""
LOOK_SCALE, BRIGHT_SCALE, MEAN_SCALE, RESIDUAL_SCALE = 1 / 16, 1 / 128, 8.0, 1 / 16
"""Units of the weights that meet pixel values, so that one learning rate fits all."""
LOG_SCALE_RANGE = (-2.75, 8.0)
START_LOG_SCALES = (0.3, 3.0)
FAR = 1e6
"""A pixel value that no distribution reaches."""


@dataclass(frozen=True)
class Found:
    """Mixtures of one step, (3, B, K, h, w): natural logarithms of the weights, means, those of the scales."""

    logits: Tensor
    mean: Tensor
    log_scale: Tensor


def quarter(x: Tensor, number: int) -> Tensor:
    """The samples of quarter `number` of x (B, C, H, W); the last row or column may be missing in it."""
    row, column = QUARTERS[number]
    return x[..., row::2, column::2]


def completed(own: Tensor, first: Tensor) -> Tensor:
    """A quarter on the grid of the first one, whose pixels stand for those that it does not have."""
    if own.shape == first.shape:
        return own
    full = first.clone()
    full[..., : own.shape[-2], : own.shape[-1]] = own
    return full


def base(known: list[Tensor]) -> Tensor:
    """The floor of the mean of the four nearest known pixels of the next quarter, from whole-number quarters.

    Args:
        known: one to three quarters (B, 3, h, w), in their order. What lies outside the picture repeats the edge.
    """
    first = functional.pad(known[0], (0, 1, 0, 1), mode="replicate")
    if len(known) == 1:
        four = first[..., :-1, :-1] + first[..., :-1, 1:] + first[..., 1:, :-1] + first[..., 1:, 1:]
    elif len(known) == 2:
        above = functional.pad(known[1], (0, 0, 1, 0), mode="replicate")
        four = first[..., :-1, :-1] + first[..., :-1, 1:] + above[..., :-1, :] + above[..., 1:, :]
    else:
        before = functional.pad(known[1], (1, 0, 0, 0), mode="replicate")
        four = first[..., :-1, :-1] + first[..., 1:, :-1] + before[..., :-1] + before[..., 1:]
    return torch.floor((four + 2) / 4)


class Look(nn.Module):
    """The windows of the known quarters -> C features and three mean corrections in pixel values."""

    def __init__(self, quarters: int, channels: int) -> None:
        super().__init__()
        inputs = 3 * quarters
        self.weight = nn.Parameter(torch.randn(channels, inputs, 3, 3) / math.sqrt(3 * inputs))
        self.bright = nn.Parameter(0.1 * torch.randn(channels, 3))
        self.line = nn.Parameter(torch.zeros(3, inputs, 3, 3))

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Effective weights (C + 3, 3 * quarters, 3, 3) and bias (C + 3) for pixel values 0..255."""
        weight = torch.cat([self.weight * LOOK_SCALE, self.line])
        inputs = weight.shape[1]
        colours = weight.view(len(weight), inputs // 3, 3, 9)
        # A sum of half-precision weights is exact in float64, so that every machine finds the same integers for it.
        mean = colours.sum((1, 3), keepdim=True) / (3 * inputs)
        weight = (colours - mean).view(len(weight), inputs, 3, 3)
        centre = functional.pad(self.bright * BRIGHT_SCALE, (0, inputs - 3, 0, 3))
        bias = functional.pad(-self.bright.sum(1), (0, 3))
        return weight + functional.pad(centre[..., None, None], (1, 1, 1, 1)), bias

    def forward(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """Quarters (B, 3 * quarters, h, w) in 0..255 -> (B, C, h, w) and (B, 3, h, w)."""
        weight, bias = self.kernels()
        with torch.autocast(known.device.type, enabled=False):  # pixels have more bits than bfloat16
            out = functional.conv2d(functional.pad(known, (1, 1, 1, 1), mode="replicate"), weight, bias)
        return out[:, :-3], out[:, -3:]


class Block(nn.Module):
    """x + conv1(clamp(conv3(clamp(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1)
        self.narrow = nn.Conv2d(channels, channels, 1)
        nn.init.kaiming_normal_(self.wide.weight, nonlinearity="relu")
        nn.init.normal_(self.narrow.weight, std=0.3 / math.sqrt(channels))
        nn.init.zeros_(self.wide.bias)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return x + self.narrow(clamped(self.wide(clamped(x))))


class Colours(nn.Module):
    """Features and the residuals of earlier colours -> mixtures."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        c, hidden, k = config.channels, config.hidden, config.mixtures
        self.mixtures = k
        self.inner = nn.Conv2d(c, 3 * hidden, 1)
        self.residual = nn.ParameterList([nn.Parameter(0.2 * torch.randn(hidden, i)) for i in range(1, 3)])
        self.outer = nn.ModuleList([nn.Conv2d(hidden, 3 * k + i, 1) for i in range(3)])
        with torch.no_grad():
            nn.init.kaiming_normal_(self.inner.weight, nonlinearity="relu")
            self.inner.bias.zero_()
            for i, layer in enumerate(self.outer):
                layer.weight.normal_(std=0.02)
                layer.bias.zero_()
                layer.bias[k : 2 * k] = torch.linspace(-1, 1, k) if k > 1 else 0.0
                layer.bias[2 * k : 3 * k] = torch.linspace(*START_LOG_SCALES, k)
                layer.bias[3 * k + max(i - 1, 0) :] = 0.8  # the colour before this one

    def forward(self, features: Tensor, centre: Tensor, residual: Tensor) -> Found:
        """Mixtures under the features (B, C, h, w).

        Args:
            features: clamped.
            centre: (B, 3, h, w) base and linear correction, pixel values.
            residual: (B, 3, h, w) true values less their bases.
        """
        k, parts = self.mixtures, []
        hidden = self.inner(features).chunk(3, 1)
        for i, (layer, inner) in enumerate(zip(self.outer, hidden, strict=True)):
            if i:
                seen = residual[:, :i] * RESIDUAL_SCALE
                inner = inner + functional.conv2d(seen, self.residual[i - 1][..., None, None])
            with torch.autocast(features.device.type, enabled=False):  # means need more bits than bfloat16 has
                out = layer(clamped(inner).float())
            shift = (out[:, 3 * k :] * residual[:, :i]).sum(1, keepdim=True) if i else 0.0
            mean = centre[:, i : i + 1] + shift + MEAN_SCALE * out[:, k : 2 * k]
            parts.append((out[:, :k], mean, out[:, 2 * k : 3 * k]))
        return Found(*(torch.stack(same) for same in zip(*parts, strict=True)))


class Step(nn.Module):
    """One quarter from those before it."""

    def __init__(self, config: PyramidConfig, number: int) -> None:
        super().__init__()
        c = config.channels
        self.look = Look(number, c)
        self.carry = nn.Conv2d(c, c, 1, bias=False)
        nn.init.eye_(self.carry.weight[:, :, 0, 0].data)
        self.bias = nn.Parameter(torch.zeros(config.kinds, config.levels, c))
        self.blocks = nn.ModuleList(Block(c) for _ in range(config.blocks))
        self.colours = Colours(config)

    def forward(self, known: list[Tensor], state: Tensor, level: int, kind: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """State (B, C, h, w), base (B, 3, h, w) and means (B, 3, h, w) of the next quarter.

        Args:
            known: quarters (B, 3, h, w), whole numbers 0..255.
            state: from the step before.
            level: 0 the finest.
            kind: (B) of each picture.
        """
        features, line = self.look(torch.cat(known, 1))
        bias = self.bias[kind, min(level, self.bias.shape[1] - 1)]
        x = features + self.carry(clamped(state)) + bias[..., None, None]
        for block in self.blocks:
            x = block(x)
        below = base(known)
        return x, below, below + line


class Pyramid(nn.Module):
    """All levels and steps."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.steps = nn.ModuleList(Step(config, number) for number in (1, 2, 3))
        self.up = nn.Conv2d(config.channels, 4 * config.channels, 1)
        nn.init.normal_(self.up.weight, std=1 / math.sqrt(config.channels))
        nn.init.zeros_(self.up.bias)

    def nats(self, x: Tensor, kind: Tensor) -> list[Tensor]:
        """-ln P of the pixels of x (B, 3, H, W), whole numbers 0..255, that each step gives; coarsest level first."""
        levels = max(max(x.shape[-2:]) - 1, 0).bit_length()
        state, found = None, []
        for level in reversed(range(levels)):
            picture = x[..., :: 1 << level, :: 1 << level]
            known = [quarter(picture, 0)]
            h, w = known[0].shape[-2:]
            state = (
                x.new_zeros(len(x), self.config.channels, h, w) if state is None else self.raised(state)[..., :h, :w]
            )
            for number, step in enumerate(self.steps, 1):
                state, below, centre = step(known, state, level, kind)
                own = quarter(picture, number)
                known.append(completed(own, known[0]))
                mixture = step.colours(clamped(state), centre, known[number] - below)
                found.append(nats(mixture, known[number])[..., : own.shape[-2], : own.shape[-1]])
        return found

    def raised(self, state: Tensor) -> Tensor:
        """A level's state on the grid of the next finer level."""
        return functional.pixel_shuffle(self.up(clamped(state)), 2)


def clamped(x: Tensor) -> Tensor:
    """What every layer does to its input."""
    return functional.hardtanh(x, 0.0, float(RANGE))


def nats(found: Found, x: Tensor) -> Tensor:
    """-ln P of x (B, 3, h, w) in 0..255; (3, B, h, w). The outermost values get the tails, as in the coder."""
    value = x.transpose(0, 1)[:, :, None]
    above = torch.where(value > 254.5, torch.full_like(value, FAR), value + 0.5)
    below = torch.where(value < 0.5, torch.full_like(value, -FAR), value - 0.5)
    rate = torch.exp(-found.log_scale.clamp(*LOG_SCALE_RANGE))
    inside = torch.sigmoid((above - found.mean) * rate) - torch.sigmoid((below - found.mean) * rate)
    p = (functional.softmax(found.logits, 2) * inside).sum(2)
    return -(p * (1 - 256 / 65536) + 1 / 65536).log()
