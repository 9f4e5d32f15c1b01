"""The four models: transforms g_a, g_s, hyper transforms h_a, h_s, and the prior of y with or without ChARM.

x (B, 3, H, W) in [0, 1], H and W multiples of 64; y (B, C4, H / 16, W / 16); z (B, C6, H / 64, W / 64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cbench.models.tbtc.config import TbtcConfig
from cbench.models.tbtc.swin import SwinAnalysis, SwinSynthesis
from cbench.nn.factorized import FactorizedPrior
from cbench.nn.gaussian import gaussian_likelihood
from cbench.nn.rounding import noisy, round_through
from cbench.nn.torchvision_guard import guard

guard()
from compressai.layers import GDN  # noqa: E402 - must follow guard()


def conv(inputs: int, outputs: int, size: int = 5, stride: int = 2) -> nn.Conv2d:
    """A convolution that divides the sides by its stride."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def deconv(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the sides."""
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, 1)


def conv_g_a(c1: int, c2: int, c3: int, c4: int) -> nn.Sequential:
    """Analysis of the Conv models."""
    return nn.Sequential(conv(3, c1), GDN(c1), conv(c1, c2), GDN(c2), conv(c2, c3), GDN(c3), conv(c3, c4))


def conv_g_s(c1: int, c2: int, c3: int, c4: int) -> nn.Sequential:
    """Synthesis of the Conv models."""

    def up(inputs: int, outputs: int) -> list[nn.Module]:
        return [deconv(inputs, outputs), GDN(outputs, inverse=True)]

    return nn.Sequential(*up(c4, c3), *up(c3, c2), *up(c2, c1), deconv(c1, 3))


def conv_h_a(m: int, h: int) -> nn.Sequential:
    """Hyper analysis of the Conv models; its input is y itself, not |y|."""
    return nn.Sequential(conv(m, h, 3, 1), nn.ReLU(), conv(h, h), nn.ReLU(), conv(h, h))


def conv_h_s(m: int, h: int) -> nn.Sequential:
    """Hyper synthesis of the Conv models."""
    return nn.Sequential(deconv(h, h), nn.ReLU(), deconv(h, h), nn.ReLU(), conv(h, 2 * m, 3, 1))


class Tower(nn.Module):
    """ChARM: parameters of one slice from its share of h_s's output and the slices before."""

    def __init__(self, inputs: int, c1: int, c2: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(inputs, c1, 3, 1), nn.ReLU(), conv(c1, c2, 3, 1), nn.ReLU(), conv(c2, outputs, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w)."""
        return self.layers(x)


@dataclass(frozen=True)
class Parameters:
    """What the prior says of y, and y as the decoder gets it; all (B, C4, h, w)."""

    mu: Tensor
    scale: Tensor
    y_hat: Tensor


@dataclass(frozen=True)
class Output:
    """A forward pass."""

    x_hat: Tensor
    """(B, 3, H, W), not clamped."""
    y_likelihood: Tensor
    z_likelihood: Tensor

    @property
    def bits(self) -> Tensor:
        """Bits of the whole batch, a scalar."""
        return -(self.y_likelihood.log2().sum() + self.z_likelihood.log2().sum())


class TbtcNetwork(nn.Module):
    """Conv- or SwinT-, Hyperprior or ChARM."""

    def __init__(self, config: TbtcConfig) -> None:
        super().__init__()
        self.config = config
        m, h = config.latent, config.hyper_latent
        if config.transform == "conv":
            self.g_a, self.g_s = conv_g_a(*config.channels), conv_g_s(*config.channels)
            self.h_a, self.h_s = conv_h_a(m, h), conv_h_s(m, h)
        else:
            g, hyper = (config.channels, config.depths, config.window), config.hyper_window
            self.g_a = SwinAnalysis("patch_embed", 3, *g, config)
            self.g_s = SwinSynthesis(g[0][::-1], 3, g[1][::-1], g[2], config)
            self.h_a = SwinAnalysis("patch_merger", m, config.hyper, config.hyper_depths, hyper, config)
            self.h_s = SwinSynthesis(config.hyper[::-1], 2 * m, config.hyper_depths[::-1], hyper, config)
        if config.prior == "charm":
            towers = [config.tower(i) for i in range(config.slices)]
            self.charm_mean_transforms = nn.ModuleList(Tower(*widths) for widths in towers)
            self.charm_scale_transforms = nn.ModuleList(Tower(*widths) for widths in towers)
        self.entropy_bottleneck = FactorizedPrior(h)

    def forward(self, x: Tensor, noise_y: Tensor | None = None, noise_z: Tensor | None = None) -> Output:
        """Everything that a loss needs; in training mode rates see uniform noise instead of rounding.

        Args:
            x: (B, 3, H, W) in [0, 1].
            noise_y: instead of fresh noise, for tests; as y.
            noise_z: as z.
        """
        y = self.g_a(x).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # only the transforms may run in half precision
            z = self.h_a(y)
            z_hat = self.entropy_bottleneck.rounded(z)
            p = self.parameters_of(z_hat, lambda own, mu: round_through(y[:, own] - mu) + mu)
            y_rate = noisy(y, noise_y) if self.training else p.y_hat
            z_rate = noisy(z, noise_z) if self.training else z_hat
            y_likelihood = gaussian_likelihood(y_rate, p.mu, p.scale)
            z_likelihood = self.entropy_bottleneck.likelihood(z_rate)
        return Output(self.g_s(p.y_hat).to(x.dtype), y_likelihood, z_likelihood)

    def parameters_of(self, z_hat: Tensor, quantise: Callable[[slice, Tensor], Tensor]) -> Parameters:
        """The prior of y, slice after slice: ChARM's slice i sees its own part of h_s and all slices before.

        Args:
            z_hat: (B, C6, H / 64, W / 64).
            quantise: channels of y and their means -> what the decoder gets there.
        """
        scales, means = self.h_s(z_hat).chunk(2, 1)
        if self.config.prior == "hyperprior":
            return Parameters(means, scales, quantise(slice(None), means))
        width = self.config.slice
        mus, sigmas, done = [], [], []
        for i, (mean, scale) in enumerate(zip(self.charm_mean_transforms, self.charm_scale_transforms, strict=True)):
            own = slice(i * width, (i + 1) * width)
            mu = mean(torch.cat([means[:, own], *done], 1))
            mus.append(mu)
            sigmas.append(scale(torch.cat([scales[:, own], *done], 1)))
            done.append(quantise(own, mu))
        return Parameters(torch.cat(mus, 1), torch.cat(sigmas, 1), torch.cat(done, 1))
