"""What a model costs and what its latents look like: multiply-accumulates, correlation of y, receptive field.

Counting rule (the truth, not what some profilers report): a convolution multiplies outputs * C_in * k^2 times, a
transposed one *inputs* * C_out * k^2, GDN pixels * C^2, a linear layer outputs * C_in, attention
2 * positions * w^2 * C. Norms, softmax and activations are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cbench.models.tbtc.config import SIDE
from cbench.models.tbtc.network import TbtcNetwork
from cbench.models.tbtc.swin import WindowAttention
from cbench.nn.pictures import round_up
from cbench.nn.torchvision_guard import guard

guard()
from compressai.layers import GDN  # noqa: E402 - must follow guard()


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one picture by part; attention products apart, as published counts leave them out."""

    g_a: int
    h_a: int
    h_s: int
    charm: int
    g_s: int
    attention: int
    """Included in the parts above."""
    published_g_s: int
    """g_s as counted by a profiler that takes a transposed convolution's outputs for inputs, C_out for C_in."""

    @property
    def encoder(self) -> int:
        """Everything that the encoder runs."""
        return self.g_a + self.h_a + self.h_s + self.charm

    @property
    def decoder(self) -> int:
        """Everything that the decoder runs."""
        return self.h_s + self.charm + self.g_s


@torch.no_grad()
def macs(network: TbtcNetwork, height: int, width: int) -> Macs:
    """Count what coding a picture of that size takes, by running the network on one; windows with their padding."""
    totals = {name: 0 for name in ("g_a", "h_a", "h_s", "charm", "g_s")}
    extra = {"attention": 0, "published": 0}
    hooks = [
        layer.register_forward_hook(_counter(totals, extra, _part(name)))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | GDN | WindowAttention)
    ]
    try:
        device = next(network.parameters()).device
        network(torch.zeros(1, 3, round_up(height, SIDE), round_up(width, SIDE), device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return Macs(**totals, attention=extra["attention"], published_g_s=totals["g_s"] + extra["published"])


def _part(name: str) -> str:
    first = name.split(".")[0]
    return "charm" if first.startswith("charm") else first


def _counter(totals: dict[str, int], extra: dict[str, int], part: str) -> Any:
    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0]
        if isinstance(layer, nn.ConvTranspose2d):
            taps = layer.kernel_size[0] ** 2
            done = x.numel() * layer.out_channels * taps
            if part == "g_s":
                extra["published"] += output.shape[2] * output.shape[3] * layer.in_channels**2 * taps // 4 - done
        elif isinstance(layer, nn.Conv2d):
            done = output.numel() * layer.in_channels * layer.kernel_size[0] ** 2
        elif isinstance(layer, nn.Linear):
            done = output.numel() * layer.in_features
        elif isinstance(layer, GDN):
            done = x.numel() * x.shape[1]
        else:
            positions = round_up(x.shape[1], layer.window) * round_up(x.shape[2], layer.window)
            done = 2 * x.shape[0] * positions * layer.window**2 * x.shape[3]
            extra["attention"] += done
        totals[part] += done

    return count


@torch.no_grad()
def spatial_correlation(network: TbtcNetwork, x: Tensor, reach: int = 2) -> Tensor:
    """Correlation of y's normalised residual, (y - mu) / sigma, with itself at distances up to `reach`.

    Args:
        network: in evaluation mode.
        x: (B, 3, H, W) in [0, 1], sides multiples of 64.
        reach: in positions of y.

    Returns:
        (2 reach + 1, 2 reach + 1), 1 in the middle; the closer to zero around it, the better the prior.
    """
    y = network.g_a(x)
    z_hat = network.entropy_bottleneck.rounded(network.h_a(y))
    p = network.parameters_of(z_hat, lambda own, mu: (y[:, own] - mu).round() + mu)
    u = (y - p.mu) / p.scale.clamp_min(0.11)
    u = u - u.mean((2, 3), keepdim=True)
    h, w = u.shape[2:]
    middle = u[:, :, reach : h - reach, reach : w - reach]
    side = range(2 * reach + 1)
    rows = [
        torch.stack([(middle * u[:, :, i : h - 2 * reach + i, j : w - 2 * reach + j]).mean() for j in side])
        for i in side
    ]
    found = torch.stack(rows)
    return found / found[reach, reach]


def receptive_field(network: TbtcNetwork, x: Tensor, part: str = "g_a") -> Tensor:
    """Effective receptive field: mean absolute gradient of the central position's sum over channels.

    Args:
        network: in evaluation mode.
        x: input of that part, (B, C, H, W).
        part: "g_a" or "g_s".

    Returns:
        (H, W), largest value 1.
    """
    x = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        out = getattr(network, part)(x)
        out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    field = x.grad.abs().mean((0, 1))
    return field / field.max()
