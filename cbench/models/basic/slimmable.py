"""Layers that run at several widths with one set of weights (slimmable layers).

The weights are those of the widest layer; a narrower one is its leading part. `level` numbers the widths from the
narrowest. A layer whose width never changes has a single one. Tensors are (B, C, H, W).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.nn.gaussian import lower_bound

OFFSET = 2.0**-36
"""Of the reparametrisation that keeps the parameters of GDN positive."""


def non_negative(v: Tensor, minimum: float = 0.0) -> Tensor:
    """What a raw parameter stands for: max(v, sqrt(minimum + 2^-36))^2 - 2^-36, with a gradient that can leave the
    bound.
    """
    return lower_bound(v, (minimum + OFFSET) ** 0.5).square() - OFFSET


class Slimmable(nn.Module, abc.ABC):
    """A layer with a list of output widths; `macs` counts what one call costs."""

    widths: tuple[int, ...]

    def width(self, level: int) -> int:
        """Output channels at that level."""
        return self.widths[min(level, len(self.widths) - 1)]

    @abc.abstractmethod
    def macs(self, x: Tensor, out: Tensor) -> int:
        """Multiply-adds of a call that turned x into out, biases not counted."""

    @abc.abstractmethod
    def published_operations(self, x: Tensor, out: Tensor) -> int:
        """What the original's counter says for the same call: too much where the layer upsamples."""


class SlimConv2d(Slimmable):
    """Convolution, y = conv(x, W[:o, :i], b[:o]) for the i channels that x has; padding keeps x's size / stride."""

    def __init__(self, inputs: int, widths: Sequence[int], size: int = 5, stride: int = 2) -> None:
        super().__init__()
        self.widths, self.size, self.stride = tuple(widths), size, stride
        layer = nn.Conv2d(inputs, max(widths), size)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, i, H, W) -> (B, o, H / stride, W / stride)."""
        out = self.width(level)
        weight = self.weight[:out, : x.shape[1]]
        return functional.conv2d(x, weight, self.bias[:out], self.stride, self.size // 2)

    def macs(self, x: Tensor, out: Tensor) -> int:
        """See `Slimmable.macs`."""
        return out.numel() * x.shape[1] * self.size**2

    def published_operations(self, x: Tensor, out: Tensor) -> int:
        """See `Slimmable.published_operations`."""
        return out.numel() * (x.shape[1] * self.size**2 + 1)


class SlimConvTranspose2d(SlimConv2d):
    """Transposed convolution that doubles both sides; weight (inputs, outputs, k, k)."""

    def __init__(self, inputs: int, widths: Sequence[int], size: int = 5) -> None:
        super().__init__(inputs, widths, size, 2)
        layer = nn.ConvTranspose2d(inputs, max(widths), size)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, i, H, W) -> (B, o, 2H, 2W)."""
        out, half = self.width(level), self.size // 2
        weight = self.weight[: x.shape[1], :out]
        return functional.conv_transpose2d(x, weight, self.bias[:out], 2, half, output_padding=1)

    def macs(self, x: Tensor, out: Tensor) -> int:
        """Every input sample is multiplied with every kernel element once."""
        return x.numel() * out.shape[1] * self.size**2


class GroupConv2d(SlimConv2d):
    """Convolution in groups of channels that do not see each other; a narrower candidate runs the leading groups."""

    def __init__(self, inputs: int, widths: Sequence[int], groups: int) -> None:
        super().__init__(inputs, widths)
        self.group = max(widths) // groups
        layer = nn.Conv2d(inputs, max(widths), self.size, groups=groups)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, level: int) -> Tensor:
        """See `SlimConv2d.forward`; x may have more channels than its groups that run."""
        out = self.width(level)
        groups = out // self.group
        used = x[:, : groups * self.weight.shape[1]]
        return functional.conv2d(used, self.weight[:out], self.bias[:out], 2, self.size // 2, groups=groups)

    def macs(self, x: Tensor, out: Tensor) -> int:
        """See `Slimmable.macs`."""
        return out.numel() * self.weight.shape[1] * self.size**2


class GroupConvTranspose2d(GroupConv2d):
    """The same, transposed; weight (inputs, outputs / groups, k, k)."""

    def __init__(self, inputs: int, widths: Sequence[int], groups: int) -> None:
        super().__init__(inputs, widths, groups)
        layer = nn.ConvTranspose2d(inputs, max(widths), self.size, groups=groups)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, level: int) -> Tensor:
        """See `SlimConvTranspose2d.forward`; x may have more channels than its groups that run."""
        out, half = self.width(level), self.size // 2
        groups = out // self.group
        used = x[:, : groups * (len(self.weight) * self.group // max(self.widths))]
        weight = self.weight[: used.shape[1]]
        return functional.conv_transpose2d(used, weight, self.bias[:out], 2, half, output_padding=1, groups=groups)

    def macs(self, x: Tensor, out: Tensor) -> int:
        """Every input sample of the groups that run is multiplied with every kernel element once."""
        used = len(self.weight) * out.shape[1] // max(self.widths)
        return x[:, :1].numel() * used * self.weight.shape[1] * self.size**2


class Fill(nn.Module):
    """Zeros for the channels that no group has filled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, i, H, W) -> (B, channels, H, W)."""
        return functional.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


class SlimGDN(Slimmable):
    """Generalised divisive normalisation, x / sqrt(beta + gamma x^2), or its inverse, with four scalars a level.

    With one width, or in groups, there are no scalars: the usual GDN.
    """

    def __init__(self, widths: Sequence[int], inverse: bool = False, groups: int = 1) -> None:
        super().__init__()
        self.widths, self.inverse = tuple(widths), inverse
        channels, self.group = max(widths), max(widths) // groups
        self.beta = nn.Parameter((torch.ones(channels) + OFFSET).sqrt())
        self.gamma = nn.Parameter((0.1 * torch.eye(self.group).repeat(groups, 1) + OFFSET).sqrt())
        levels = len(widths) if len(widths) > 1 and groups == 1 else 0
        self.beta_scales, self.gamma_scales = (nn.Parameter(torch.ones(levels)) for _ in range(2))
        self.beta_biases, self.gamma_biases = (nn.Parameter(torch.zeros(levels)) for _ in range(2))

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, o, H, W) -> the same shape."""
        o = x.shape[1]
        groups = max(1, o // self.group)
        beta, gamma = non_negative(self.beta[:o], 1e-6), non_negative(self.gamma[:o, : o // groups])
        if len(self.beta_scales):
            beta = non_negative(self.beta_scales[level]) * beta + non_negative(self.beta_biases[level])
            gamma = non_negative(self.gamma_scales[level]) * gamma + non_negative(self.gamma_biases[level])
        norm = functional.conv2d(x.square(), gamma[:, :, None, None], beta, groups=groups)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())

    def macs(self, x: Tensor, out: Tensor) -> int:
        """See `Slimmable.macs`."""
        return out.numel() * min(out.shape[1], self.group)

    def published_operations(self, x: Tensor, out: Tensor) -> int:
        """See `Slimmable.published_operations`."""
        return out.numel() * (out.shape[1] + 1)


class SlimSubpel(nn.Sequential):
    """3 x 3 convolution to four times the channels, then pixel shuffle: doubles both sides."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__(SlimConv2d(inputs, [4 * w for w in widths], 3, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, i, H, W) -> (B, o, 2H, 2W)."""
        return self[1](self[0](x, level))


class SlimResidual(nn.Module):
    """Two 3 x 3 convolutions with a 1 x 1 skip; optionally halving (then ending in GDN)."""

    def __init__(self, inputs: int, widths: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        self.conv1 = SlimConv2d(inputs, widths, 3, stride)
        self.conv2 = SlimConv2d(max(widths), widths, 3, 1)
        self.gdn = SlimGDN(widths) if stride > 1 else None
        self.skip = SlimConv2d(inputs, widths, 1, stride)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, i, H, W) -> (B, o, H / stride, W / stride)."""
        inner = self.conv2(functional.leaky_relu(self.conv1(x, level)), level)
        inner = functional.leaky_relu(inner) if self.gdn is None else self.gdn(inner, level)
        return inner + self.skip(x, level)


class SlimResidualUp(nn.Module):
    """Doubling residual block with inverse GDN."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.subpel_conv = SlimSubpel(inputs, widths)
        self.conv = SlimConv2d(max(widths), widths, 3, 1)
        self.igdn = SlimGDN(widths, inverse=True)
        self.upsample = SlimSubpel(inputs, widths)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, i, H, W) -> (B, o, 2H, 2W)."""
        inner = self.conv(functional.leaky_relu(self.subpel_conv(x, level)), level)
        return self.igdn(inner, level) + self.upsample(x, level)


class SlimBottleneck(nn.Module):
    """1 x 1 to half the width, 3 x 3, 1 x 1 back, added to the input."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        half = [w // 2 for w in widths]
        self.conv1 = SlimConv2d(max(widths), half, 1, 1)
        self.conv2 = SlimConv2d(max(half), half, 3, 1)
        self.conv3 = SlimConv2d(max(half), widths, 1, 1)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, o, H, W) -> the same shape."""
        inner = functional.relu(self.conv2(functional.relu(self.conv1(x, level)), level))
        return x + self.conv3(inner, level)
