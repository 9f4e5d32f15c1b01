"""A good start for a short training: that of a linear transform coder with linear prediction (plain backbone).

Analysis and synthesis hold principal components, the largest first, so that a narrower candidate, which runs the
leading channels, is a coarser transform coder. The hyper networks start as a local mean of y's magnitude and its way
back; a context model starts with the best linear prediction of each channel of y from its neighbours in raster order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cbench.errors import ConfigError
from cbench.models.basic.config import BasicConfig
from cbench.models.basic.context import ContextModel
from cbench.models.basic.network import BasicNetwork
from cbench.models.basic.orders import named_order, visible
from cbench.models.basic.slimmable import SlimConv2d, SlimGDN
from cbench.nn.components import MEAN, components, covariances
from cbench.nn.factorized import FactorizedPrior

NOISE = 0.02
"""Share of the usual random start that stays."""
LINEAR = 0.1
"""Factor on GDN's stored gamma."""
HYPER_GAIN = 8.0
"""z that a usual picture has is 0.4 times this."""
HELD, IDLE = 3.0, 1.0
"""Scales of the prior of z where a channel holds magnitudes and where it does not; CompressAI starts with 10."""
REACH = 2
"""Neighbours of y, to each side, that a first prediction uses."""
STEP = 2.94
"""Rounding y in steps of STEP / sqrt(lambda) of a pixel's range is about the best for R + lambda D."""


@torch.no_grad()
def start_linear(network: BasicNetwork, rd_lambda: float) -> None:
    """Set a joint model of the plain backbone to a linear transform coder.

    Args:
        network: changed in place; coders of y of variant "A" with one group become linear predictors, others stay
            random.
        rd_lambda: weight of the squared error, which decides how large y is.

    Raises:
        ConfigError: another framework or backbone.
    """
    config = network.config
    _check(config)
    gain = math.sqrt(rd_lambda) / STEP
    channels = _channels(config)
    _start_transforms(network, components(channels), gain)
    spread = covariances(channels, REACH) * gain**2
    _start_hyper(network, torch.from_numpy(np.sqrt(spread[:, REACH, REACH])).float())
    for coder in network.y_coders:
        if coder.config.variant == "A" and coder.config.groups == 1 and coder.config.kernel == 2 * REACH + 1:
            _start_context(coder.model, spread)


@torch.no_grad()
def scale_latent(network: BasicNetwork, factor: float) -> None:
    """Make y and its Gaussians that many times as large and leave everything else as it was: weights of one lambda
    become a start for another one, for which y should grow like the square root of lambda.

    Raises:
        ConfigError: another framework or backbone.
    """
    _check(network.config)
    x_y, y_z, y_x = (network.edges[name].layers for name in ("x_y", "y_z", "y_x"))
    outputs = [x_y[-1], *(coder.model.mix[-1] for coder in network.y_coders)]
    for layer in outputs:
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)
    for layer in (y_z[0], y_x[0], *(coder.model.context for coder in network.y_coders)):
        layer.weight.div_(factor)


def _check(config: BasicConfig) -> None:
    plain = config.framework == "joint" and config.backbone == "balle" and not config.plain_prior
    if not plain or any(coder.variant == "sum" for coder in config.coders):
        raise ConfigError("a linear start needs a joint model with the plain backbone")


def _channels(config: BasicConfig) -> list[int]:
    return [config.widths[-1]] * 3 + [config.latent]


def _start_transforms(network: BasicNetwork, kernels: list[Tensor], gain: float) -> None:
    there, back = (
        [layer for layer in network.edges[name].layers if isinstance(layer, SlimConv2d)] for name in ("x_y", "y_x")
    )
    for name in ("x_y", "y_x"):
        for layer in network.edges[name].layers:
            if isinstance(layer, SlimGDN):
                layer.gamma.mul_(LINEAR)
    for kernel, forth, again in zip(kernels, there, reversed(back), strict=True):
        m, n = kernel.shape[:2]
        # What ends in a channel without a component harms nothing: the next layer hardly listens to it.
        forth.weight[:m].mul_(NOISE)
        forth.weight[m:, n:].mul_(NOISE)
        again.weight[m:].mul_(NOISE)
        again.weight[:m, :n].mul_(NOISE)
        for layer in (forth, again):
            layer.bias.zero_()
            layer.weight[:m, :n, 2:4, 2:4] += kernel
    there[0].bias.copy_(-MEAN * there[0].weight.sum((1, 2, 3)))
    back[-1].bias.fill_(MEAN)
    there[-1].weight.mul_(gain)
    back[0].weight.div_(gain)


def _start_hyper(network: BasicNetwork, deviations: Tensor) -> None:
    """Each channel of z that the narrowest candidates reach holds the magnitude of a few successive ones of y."""
    held = min(network.edges["y_z"].widths[0], network.edges["z_y"].widths[0], network.config.hyper)
    each = -(-len(deviations) // held)
    channel = torch.arange(len(deviations))
    group, diagonal = channel // each, torch.arange(held)
    mix, first, second = (network.edges["y_z"].layers[i] for i in (0, 2, 4))
    up, up_again, last = (network.edges["z_y"].layers[i] for i in (0, 2, 4))
    for layer in (mix, first, second, up, up_again, last):
        layer.weight.mul_(NOISE)
        layer.bias.zero_()
    signs = 1 - 2 * (channel % 2)
    mix.weight[group, channel, 1, 1] += signs / (deviations * math.sqrt(each))
    usual = HYPER_GAIN / math.sqrt(2 * math.pi)  # half of a Gaussian's mean magnitude is what a rectifier leaves of it
    rise = torch.tensor([0.25, 0.5, 0.5, 0.5, 0.25])
    for layer, factor in ((first, 0.25), (second, 0.25 * HYPER_GAIN), (up, 1.0), (up_again, 1.0)):
        layer.weight[diagonal, diagonal] += torch.outer(rise, rise) * factor
    second.bias[diagonal] -= usual
    up.bias[diagonal] += usual
    last.weight[channel, group, 1, 1] += deviations / usual
    (prior,) = network.z_coders
    _narrow(prior, torch.where(torch.arange(network.config.hyper) < held, HELD, IDLE))
    prior.settle()


def _narrow(prior: FactorizedPrior, scale: Tensor) -> None:
    """Give the untrained distributions that scale (Z,) instead of the one they have."""
    factor = (prior.init_scale / scale).pow(1 / len(prior.matrices))
    for matrix in prior.matrices:
        steeper = functional.softplus(matrix) * factor[:, None, None]
        matrix.copy_(torch.expm1(steeper).log())


def _start_context(model: ContextModel, spread: np.ndarray) -> None:
    """Means: linear prediction through pairs of units of both signs. Scales: those of the prior."""
    taps, ratio = _prediction(spread)
    channel = torch.arange(model.channels)
    first, second, last = model.mix
    for layer in (model.context, *model.mix):
        layer.weight.mul_(NOISE)
        layer.bias.zero_()
    model.context.weight[channel, channel] += torch.from_numpy(taps).float()
    means = min(model.channels, (second.weight.shape[0] - model.channels) // 2)
    kept, signs = channel[:means], ((0, 1.0), (means, -1.0))
    at = model.channels
    for offset, sign in signs:
        first.weight[at + offset + kept, kept, 0, 0] += sign
        second.weight[at + offset + kept, at + offset + kept, 0, 0] += 1.0
        last.weight[2 * kept, at + offset + kept, 0, 0] += sign
    first.weight[channel, 2 * model.channels + channel, 0, 0] += 1.0
    second.weight[channel, channel, 0, 0] += 1.0
    last.weight[2 * channel + 1, channel, 0, 0] += torch.from_numpy(ratio).float()


def _prediction(spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Taps (C, k, k) of the best linear prediction from the elements before in raster order, and how much smaller its
    error is than the element, (C,).
    """
    size = 2 * REACH + 1
    sees = visible(named_order("scanline", 1, size, size), size)[0, 0, :, REACH, REACH].reshape(size, size)
    places = np.argwhere(sees) - REACH
    taps, ratio = np.zeros((len(spread), size, size)), np.ones(len(spread))
    for c, covariance in enumerate(spread):
        between = places[:, None] - places[None]
        # What is further apart than REACH blocks counts as correlated as what is REACH blocks apart.
        row, column = np.clip(between, -REACH, REACH).transpose(2, 0, 1) + REACH
        known = covariance[row, column] + 1 / 12 * np.eye(len(places))
        wanted = covariance[places[:, 0] + REACH, places[:, 1] + REACH]
        found = np.linalg.solve(known, wanted)
        taps[c][sees] = found
        ratio[c] = math.sqrt(max(0.1, 1 - found @ wanted / covariance[REACH, REACH]))
    return taps, ratio
