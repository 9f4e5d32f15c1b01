"""Swin transformer pieces on maps (B, H, W, C) of any size.

A map that windows do not cover exactly is padded at the bottom and at the right, and the attention of real positions
ignores the padding. The rearrangement into windows, cyclic shift and padding are one gather, planned once a size; the
windows whose attention needs a mask (those of the last row and column) come last in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.tbtc.config import TbtcConfig

CACHED = 1024
"""Positions handled at a time without gradients, so that what is computed of them stays in cache."""
MASKED = -100.0
"""Added to the logits of pairs that must not see each other."""


@dataclass(frozen=True)
class WindowPlan:
    """How a map becomes windows of N = w * w positions, and back."""

    gather: Tensor
    """(n * N,) position of the map (H * W) that each place of the windows shows; any position for padding."""
    scatter: Tensor
    """(H * W,) place that each position has."""
    free: int
    """So many windows come first that need no mask."""
    mask: Tensor
    """(n - free, 1, N, N): 0, or MASKED for pairs of different regions."""


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def window_plan(height: int, width: int, w: int, shift: int, device: torch.device) -> WindowPlan:
    """The plan for one size of map; windows and positions are row-major, apart from masked windows coming last."""
    rows, columns = -(-height // w) * w, -(-width // w) * w
    y = (torch.arange(rows) + shift) % rows
    x = (torch.arange(columns) + shift) % columns
    region = 3 * _bands(rows, w, shift)[:, None] + _bands(columns, w, shift)
    outside = (y >= height)[:, None] | (x >= width)
    region = region.masked_fill(outside, 9)
    position = (y.clamp_max(height - 1) * width)[:, None] + x.clamp_max(width - 1)
    position, region, outside = (_cut(part, w) for part in (position, region, outside))
    mixed = (region != region[:, :1]).any(1)
    order = torch.argsort(mixed, stable=True)
    position, region, outside = position[order], region[order], outside[order]
    places = torch.arange(position.numel()).view_as(position)
    scatter = torch.empty(height * width, dtype=torch.long)
    scatter[position[~outside]] = places[~outside]
    free = int((~mixed).sum())
    border = region[free:]
    mask = (border[:, :, None] != border[:, None, :]).float().mul_(MASKED)[:, None]
    return WindowPlan(position.flatten().to(device), scatter.to(device), free, mask.to(device))


def _bands(length: int, w: int, shift: int) -> Tensor:
    """0, 1, 2: which of three bands each position of a shifted axis belongs to; all 0 without shift."""
    at = torch.arange(length)
    return (at >= length - w).long() + (at >= length - shift).long() if shift else torch.zeros_like(at)


def _cut(plane: Tensor, w: int) -> Tensor:
    """(H, W) -> (n, w * w)."""
    h, v = plane.shape[0] // w, plane.shape[1] // w
    return plane.view(h, w, v, w).transpose(1, 2).reshape(h * v, w * w)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def relative_index(w: int) -> Tensor:
    """(N, N) row of the bias table for each pair (query, key) of a window."""
    y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij"))
    return (y[:, None] - y + w - 1) * (2 * w - 1) + (x[:, None] - x + w - 1)


class WindowAttention(nn.Module):
    """Shifted-window self-attention with a learned bias for each relative position."""

    def __init__(self, channels: int, window: int, shift: int, config: TbtcConfig) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.heads = config.heads(channels)
        self.scale = config.head**-0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same."""
        b, h, w, c = x.shape
        plan = window_plan(h, w, self.window, self.shift, x.device)
        size = self.window**2
        windows = x.view(b, h * w, c)[:, plan.gather].view(b, -1, size, c)
        bias = self.bias().to(x.dtype)
        masked = bias + plan.mask.to(x.dtype)
        free, rest = windows[:, : plan.free], windows[:, plan.free :]
        few = windows.shape[1] if torch.is_grad_enabled() else max(1, CACHED // size)
        parts = [self.proj(self.attend(some, bias)) for some in free.split(few, 1)]
        parts += [
            self.proj(self.attend(some, own)) for some, own in zip(rest.split(few, 1), masked.split(few), strict=True)
        ]
        return torch.cat(parts, 1).view(b, -1, c)[:, plan.scatter].view(b, h, w, c)

    def bias(self) -> Tensor:
        """(1, heads, N, N)."""
        index = relative_index(self.window).to(self.relative_position_bias_table.device)
        return self.relative_position_bias_table[index].permute(2, 0, 1)[None]

    def attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention inside each of the windows (B, n, N, C); bias (1 or n, heads, N, N)."""
        b, n, size, c = windows.shape
        if n == 0:
            return windows
        q, k, v = self.qkv(windows).view(b * n, size, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if len(bias) > 1:
            bias = bias.expand(b, *bias.shape).flatten(0, 1)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return out.transpose(1, 2).reshape(b, n, size, c)


class Mlp(nn.Module):
    """Linear, exact GELU, Linear; four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside a connection."""

    def __init__(self, channels: int, window: int, shift: int, config: TbtcConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, window, shift, config)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same."""
        # Sums of maps of one position need not be contiguous.
        x = (x + self.attn(self.norm1(x))).contiguous()
        if torch.is_grad_enabled():
            return x + self.mlp(self.norm2(x))
        for some in x.view(-1, x.shape[-1]).split(CACHED):
            some += self.mlp(self.norm2(some))
        return x


class PatchEmbed(nn.Module):
    """(B, C, H, W) -> (B, H / 2, W / 2, C')."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.proj(x).permute(0, 2, 3, 1).contiguous()


class PatchMerging(nn.Module):
    """(B, H, W, C) -> (B, H / 2, W / 2, C')."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * inputs)
        self.reduction = nn.Linear(4 * inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        b, h, w, c = x.shape
        # Column pairs outermost: (even, even), (odd row, even), (even, odd column), (odd, odd).
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).reshape(b, h // 2, w // 2, 4 * c)
        return self.reduction(self.norm(x))


class PatchSplitting(nn.Module):
    """(B, H, W, C) -> (B, 2H, 2W, C'), with the norm in "front" (tbtc), "behind" (paper), or "none" (to pixels)."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.behind = norm == "behind"
        if norm != "none":
            self.norm = nn.LayerNorm(4 * outputs if self.behind else inputs)
        else:
            self.norm = None
        self.reduction = nn.Linear(inputs, 4 * outputs, bias=norm == "none")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.norm is not None and not self.behind:
            x = self.norm(x)
        x = self.reduction(x)
        if self.norm is not None and self.behind:
            x = self.norm(x)
        b, h, w, c = x.shape
        return x.view(b, h, w, c // 4, 2, 2).permute(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c // 4)


class Stage(nn.Module):
    """Blocks, every second one shifted, and then a change of resolution."""

    def __init__(self, channels: int, depth: int, window: int, resample: nn.Module | None, config: TbtcConfig) -> None:
        super().__init__()
        shifts = [0 if j % 2 == 0 else window // 2 for j in range(depth)]
        self.blocks = nn.ModuleList(Block(channels, window, shift, config) for shift in shifts)
        self.downsample = resample

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H', W', C')."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class SwinAnalysis(nn.Module):
    """g_a or h_a: an embedding and stages with a merging between each two; (B, C, H, W) to (B, C', H', W')."""

    def __init__(
        self,
        embedding: str,
        inputs: int,
        channels: tuple[int, ...],
        depths: tuple[int, ...],
        window: int,
        config: TbtcConfig,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.add_module(embedding, PatchEmbed(inputs, channels[0]))
        merges = [PatchMerging(c, o) for c, o in pairwise(channels)]
        self.layers = nn.ModuleList(
            Stage(c, depth, window, merge, config)
            for c, depth, merge in zip(channels, depths, (*merges, None), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.get_submodule(self.embedding)(x)
        for layer in self.layers:
            x = layer(x)
        return x.permute(0, 3, 1, 2)


class SwinSynthesis(nn.Module):
    """g_s or h_s: stages with a splitting after each; (B, C, H, W) to (B, C', H', W')."""

    def __init__(
        self, channels: tuple[int, ...], outputs: int, depths: tuple[int, ...], window: int, config: TbtcConfig
    ) -> None:
        super().__init__()
        ends = (*channels[1:], outputs)
        paper = config.variant == "paper"
        norms = ["behind" if paper else "front"] * len(channels)
        if paper:
            norms[-1] = "none"
        self.layers = nn.ModuleList(
            Stage(c, depth, window, PatchSplitting(c, o, norm), config)
            for c, o, depth, norm in zip(channels, ends, depths, norms, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x.permute(0, 2, 3, 1).contiguous()
        for layer in self.layers:
            x = layer(x)
        return x.permute(0, 3, 1, 2)
