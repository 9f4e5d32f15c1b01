"""A good start for the transforms: that of a linear transform coder.

The principal components of a model picture (`cbench/nn/components.py`) are put into the four steps that halve the
resolution; synthesis is the transpose.

Conv models: GDN starts close to no normalisation. Swin models: blocks start close to the identity; the last channel
starts as a constant that is large beside the signals, so that a LayerNorm divides by nearly the same everywhere, and
the one before it as minus the sum of the signals, so that it also subtracts the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cbench.errors import ConfigError
from cbench.models.tbtc.network import TbtcNetwork
from cbench.models.tbtc.swin import Stage
from cbench.nn.components import MEAN, components, covariances
from cbench.nn.torchvision_guard import guard

guard()
from compressai.layers import GDN  # noqa: E402 - must follow guard()

NOISE = 0.1
"""Share of the usual random start that stays, for the channels without a component."""
QUIET = 0.03
"""Share of it that stays in the last layers of Swin blocks."""
LINEAR = 0.1
"""Factor on GDN's stored gamma."""
HYPER_GAIN = 8.0
"""z that a usual picture has is 0.4 times this."""
CONSTANT = 4.0
"""Value of the constant channel for each pixel of a block's side; signals grow with that side as well."""


@torch.no_grad()
def start_linear(network: TbtcNetwork, gain: float) -> None:
    """Set g_a and g_s to principal components; Conv models' h_a and h_s as `start_hyper` does.

    Args:
        network: changed in place.
        gain: y in units of a pixel's range, [0, 1]: 1 / gain is the step that rounding y makes.

    Raises:
        ConfigError: a Swin model of the variant "tbtc", whose pixels come out of a norm.
    """
    if network.config.transform == "conv":
        _start_conv(network, gain)
    elif network.config.variant == "paper":
        _start_swin(network, gain)
    else:
        raise ConfigError('a linear start needs the variant "paper"')


@torch.no_grad()
def start_hyper(network: TbtcNetwork, deviations: Tensor) -> None:
    """Set h_a and h_s of a Conv model to a local mean of y's magnitude and its way back, all means to zero.

    At random, z soon carries nothing, and it takes a long training to bring it back to life.

    Args:
        network: changed in place.
        deviations: (C4,) standard deviation of each channel of y.
    """
    h, each = network.config.hyper_latent, -(-len(deviations) // network.config.hyper_latent)
    group = torch.arange(len(deviations)) // each
    mix, first, second = (network.h_a[i] for i in (0, 2, 4))
    ups, last = (network.h_s[0], network.h_s[2]), network.h_s[4]
    for layer in (mix, first, second, *ups, last):
        layer.weight.mul_(NOISE)
        layer.bias.zero_()
    signs = 1 - 2 * (torch.arange(len(deviations)) % 2)
    mix.weight[group, torch.arange(len(deviations)), 1, 1] += signs / (deviations * math.sqrt(each))
    rise = torch.tensor([0.25, 0.5, 0.5, 0.5, 0.25])
    diagonal = torch.arange(h)
    for layer, factor in ((first, 0.25), (second, 0.25 * HYPER_GAIN), (ups[0], 1.0), (ups[1], 1.0)):
        layer.weight[diagonal, diagonal] += torch.outer(rise, rise) * factor
    # Half of a Gaussian's mean magnitude is what a ReLU leaves of it.
    usual = HYPER_GAIN / math.sqrt(2 * math.pi)
    last.weight[: len(deviations), :, 1, 1][torch.arange(len(deviations)), group] += deviations / usual


def model_deviations(channels: Sequence[int]) -> Tensor:
    """Standard deviation of each of the last components in the model picture, (m,) float32."""
    return torch.from_numpy(np.sqrt(covariances(channels, 0)[:, 0, 0])).float()


def _start_conv(network: TbtcNetwork, gain: float) -> None:
    analysis = [layer for layer in network.g_a if isinstance(layer, nn.Conv2d)]
    synthesis = [layer for layer in network.g_s if isinstance(layer, nn.ConvTranspose2d)][::-1]
    for layer in (*network.g_a, *network.g_s):
        if isinstance(layer, GDN):
            layer.gamma.mul_(LINEAR)
    for kernel, *pair in zip(components(network.config.channels), analysis, synthesis, strict=True):
        for layer in pair:
            layer.weight.mul_(NOISE)
            layer.bias.zero_()
            layer.weight[: kernel.shape[0], : kernel.shape[1], 2:4, 2:4] += kernel
    analysis[0].bias.copy_(-MEAN * analysis[0].weight.sum((1, 2, 3)))
    synthesis[0].bias.fill_(MEAN)
    analysis[-1].weight.mul_(gain)
    synthesis[-1].weight.div_(gain)
    start_hyper(network, gain * model_deviations(network.config.channels))


def _start_swin(network: TbtcNetwork, gain: float) -> None:
    kernels = components([c - 2 for c in network.config.channels[:3]] + [network.config.latent - 1])
    for stage in (*network.g_a.layers, *network.g_s.layers):
        _quieten(stage)
    embed = network.g_a.patch_embed.proj
    embed.weight.mul_(NOISE)
    embed.weight[: len(kernels[0])] += kernels[0]
    embed.weight[-1].zero_()
    embed.weight[-2] = -embed.weight[:-2].sum(0)
    embed.bias.copy_(-MEAN * embed.weight.sum((1, 2, 3)))
    embed.bias[-1] = 2 * CONSTANT
    for level, kernel in enumerate(kernels[1:]):
        stage = network.g_a.layers[level]
        _start_merging(stage, kernel, side=2 << level, gain=gain if level == 2 else None)
    network.g_s.layers[0].blocks[-1].mlp.fc2.bias[-1] += 16 * CONSTANT
    for level, kernel in enumerate(reversed(kernels[1:])):
        _start_splitting(network.g_s.layers[level], kernel, gain=gain if level == 0 else 1.0, side=8 >> level)
    unpack = network.g_s.layers[-1].downsample.reduction
    unpack.weight.mul_(NOISE)
    unpack.weight[:, : len(kernels[0])] += kernels[0].flatten(1).T
    unpack.weight[:, -1].zero_()
    unpack.bias.fill_(MEAN)


def _quieten(stage: Stage) -> None:
    """Blocks that change little and leave the last two channels alone."""
    for block in stage.blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.weight.mul_(QUIET)
            layer.bias.mul_(QUIET)
            layer.weight[-2:].zero_()
            layer.bias[-2:].zero_()


def _start_merging(stage: Stage, kernel: Tensor, side: int, gain: float | None) -> None:
    """Norm and reduction together: the kernel; with a gain no constant is passed on, as y has none."""
    weight = stage.downsample.reduction.weight
    m, n = kernel.shape[:2]
    c = weight.shape[1] // 4
    deviation = CONSTANT * side * math.sqrt((1 - 1 / c) / c)
    weight.mul_(NOISE / side)
    places = weight.view(-1, 2, 2, c)  # (out, column, row, in)
    places[:m, :, :, :n] += kernel.permute(0, 3, 2, 1) * deviation * (gain or 1.0)
    # The norm takes the constant's mean off every channel; the constant itself gives it back.
    places[..., -1] = 0
    places[..., -1] += places.sum((1, 2, 3), keepdim=True)[..., 0] / (4 * (c - 1))
    if gain is None:
        places[-2] = -places[:-2].sum(0)
        places[-1] = 0
        places[-1, :, :, -1] = 2 * CONSTANT * side / (4 * math.sqrt(c - 1))


def _start_splitting(stage: Stage, kernel: Tensor, gain: float, side: int) -> None:
    """Reduction and norm together: the kernel's transpose."""
    layer = stage.downsample
    m, n = kernel.shape[:2]
    c = layer.reduction.weight.shape[0] // 4
    layer.reduction.weight.mul_(NOISE / gain)
    places = layer.reduction.weight.view(c, 4, -1)  # (out, row and column, in)
    places[:n, :, :m] += kernel.flatten(2).permute(1, 2, 0) / gain
    places[..., -1] = 0
    places[-2] = -places[:-2].sum(0)
    places[-1] = 0
    places[-1, :, -1] = 0.5
    layer.norm.weight.fill_(CONSTANT * side * math.sqrt((1 - 1 / c) / c))
    layer.norm.bias.fill_(CONSTANT * side / c)
