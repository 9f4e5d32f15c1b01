"""Building blocks of both models."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

MAX_PERIOD = 48.0
"""Of the sines that tell a U-Net which plane it predicts."""


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3 x 3, zero padding that keeps the sides."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


class GroupNorm(nn.GroupNorm):
    """Group norm with a fast way for channels-last tensors, where torch's own is many times slower."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if x.ndim != 4 or x.is_contiguous():
            # Not through `functional`, which refuses one value a group: a picture of one pixel has that.
            return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        batch, channels, height, width = x.shape
        count = height * width * channels // self.num_groups
        flat = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        moments = torch.stack([flat.sum(1, dtype=torch.float32), (flat * flat).sum(1, dtype=torch.float32)])
        mean, square = (moments.view(2, batch, self.num_groups, -1).sum(-1, keepdim=True) / count).unbind()
        spread = (square - mean * mean).clamp_min(0).add(self.eps).rsqrt()
        scale = spread * self.weight.view(self.num_groups, -1)
        shift = self.bias.view(self.num_groups, -1) - mean * scale
        scale, shift = (value.view(batch, 1, channels).to(x.dtype) for value in (scale, shift))
        return torch.addcmul(shift, flat, scale).view(batch, height, width, channels).permute(0, 3, 1, 2)


def norm_act(channels: int, groups: int) -> list[nn.Module]:
    """Group norm and SiLU."""
    return [GroupNorm(groups, channels), nn.SiLU()]


class ResBlock(nn.Module):
    """x + conv(SiLU(GN(conv(SiLU(GN(x)))))), all of one width."""

    def __init__(self, width: int, groups: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Sequential(*norm_act(width, groups), conv3(width, width))
        self.second = nn.Sequential(*norm_act(width, groups), nn.Dropout(dropout), conv3(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.second(self.first(x))


class TimedBlock(nn.Module):
    """The U-Net's residual block: the embedding of the plane's number is added in the middle."""

    def __init__(self, inputs: int, width: int, groups: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Sequential(*norm_act(inputs, groups), conv3(inputs, width))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(4 * width, width))
        self.second = nn.Sequential(*norm_act(width, groups), nn.Dropout(dropout), conv3(width, width))
        nn.init.zeros_(self.second[-1].weight)
        nn.init.zeros_(self.second[-1].bias)
        self.skip = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps x (B, inputs, H, W), time (B, 4 width) -> (B, width, H, W)."""
        h = self.first(x) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.second(h)


class Attention(nn.Module):
    """Self-attention of all positions, one head, with a residual connection."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.out = nn.Conv1d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; its activations are recomputed for the gradient."""
        if torch.is_grad_enabled():
            return checkpoint(self._attend, x, use_reentrant=False)
        return self._attend(x)

    def _attend(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        q, k, v = self.qkv(self.norm(flat)).chunk(3, 1)
        scale = flat.shape[1] ** -0.25
        share = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(-1)
        return (flat + self.out(torch.einsum("bts,bcs->bct", share, v))).view_as(x)


class TimeEmbedding(nn.Module):
    """The number of a plane as 4 C features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, 4 C)."""
        half = self.width // 2
        steps = torch.arange(half, dtype=time.dtype, device=time.device)
        angles = time[:, None] * torch.exp(steps * (-math.log(MAX_PERIOD) / half))
        return self.net(torch.cat([angles.cos(), angles.sin()], 1))


class ChannelGate(nn.Module):
    """Scale every channel by the sigmoid of a short convolution along the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)
        size += 1 - size % 2
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        gate = self.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()
        return x * gate[:, :, None, None]


class NormalisedConv(nn.Module):
    """3 x 3 convolution whose filters are directions v times lengths: softplus(gain) if `log`, else gain."""

    def __init__(self, inputs: int, outputs: int, *, log: bool) -> None:
        super().__init__()
        self.log = log
        self.v = nn.Parameter(0.05 * torch.randn(outputs, inputs, 3, 3))
        self.gain = nn.Parameter(torch.zeros(outputs) if log else torch.ones(outputs))
        self.b = nn.Parameter(torch.zeros(outputs))

    def weight(self) -> Tensor:
        """The filters, as of an ordinary convolution."""
        length = functional.softplus(self.gain) if self.log else self.gain
        norm = torch.linalg.vector_norm(self.v, dim=(1, 2, 3)) + 1e-10
        return self.v * (length / norm)[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H, W)."""
        return functional.conv2d(x, self.weight(), self.b, padding=1)

    def plain(self) -> nn.Conv2d:
        """The same function as an ordinary convolution."""
        conv = conv3(self.v.shape[1], self.v.shape[0]).to(self.v.dtype)
        with torch.no_grad():
            conv.weight.copy_(self.weight())
            conv.bias.copy_(self.b)
        return conv


class NormalisedBlock(nn.Module):
    """x + conv(SiLU(conv(SiLU(x)))) of normalised convolutions."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = NormalisedConv(width, width, log=True)
        self.second = NormalisedConv(width, width, log=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        h = functional.silu(self.first(functional.silu(x)))
        return x + self.second(self.dropout(h))


class NormalisedStack(nn.Sequential):
    """`depth` normalised blocks of one width, with a convolution in front or behind where the widths differ."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, dropout: float) -> None:
        head = [NormalisedConv(inputs, width, log=True), nn.SiLU()] if inputs != width else []
        tail = [nn.SiLU(), NormalisedConv(width, outputs, log=False)] if outputs != width else []
        body = nn.Sequential(*(NormalisedBlock(width, dropout) for _ in range(depth)))
        super().__init__(*head, body, *tail)
