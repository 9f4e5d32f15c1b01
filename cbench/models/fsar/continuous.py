"""Latents that are no codes: the baselines "entropy_bottleneck" and "bits_back".

Both stand where the vector quantiser stands and have its interface. The bottleneck rounds z and codes it with one
learned distribution a channel. The VAE draws z from a normal posterior, and coding gets the bits of that draw back
(`bits_back.BitsBackCodec`). Its z are the middles of 256 intervals that are equally likely under the prior N(0, 1).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding.distributions import CDF_BITS, Z_BITS, normal_cdf
from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.quantizers import Quantised
from cbench.nn.factorized import MEDIAN_BITS, REACH, FactorizedPrior
from cbench.nn.rounding import noisy

PRIOR_BITS = 8
"""log2 of the number of intervals."""
LOG_STD_RANGE = (-5.0, 0.5)
"""Of the posterior."""


class Bottleneck(nn.Module):
    """CompressAI's entropy bottleneck: noise while training, else the nearest value that can be sent."""

    noise = False

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.prior = FactorizedPrior(config.channels)

    def anneal(self, factor: float) -> None:
        """See `Quantizer.anneal`."""

    def settle(self) -> None:
        """Bring the medians up to date."""
        self.prior.settle()

    def forward(self, z: Tensor, uniform: Tensor | None = None) -> Quantised:
        """Quantise z (B, C, h, w)."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            v = noisy(z) if self.training else self.prior.rounded(z)
            nats = -self.prior.likelihood(v).log().sum()
            return Quantised(self.symbols(z), v, z.new_zeros(()), v, nats=nats)

    @torch.no_grad()
    def symbols(self, z: Tensor) -> Tensor:
        """Z (B, C, h, w) -> int64 distances from the medians."""
        return (z - self._medians()).round().long()

    def latent(self, symbols: Tensor) -> Tensor:
        """Inverse of `symbols`, up to rounding."""
        return symbols + self._medians()

    def integer_values(self, bits: int) -> np.ndarray:
        """(C,) the medians in units of 2^-bits, as the prior's integer tables have them."""
        unit = 1 << MEDIAN_BITS
        medians = (self.prior.quantiles[:, 0, 1].double() * unit).round().clamp(-REACH * unit, REACH * unit)
        return medians.long().cpu().numpy() << (bits - MEDIAN_BITS)

    def _medians(self) -> Tensor:
        return self.prior.quantiles[:, 0, 1].detach().view(-1, 1, 1)


class Vae(nn.Module):
    """Normal posterior and prior; the encoder gives C / 2 means, then C / 2 log standard deviations."""

    noise = False

    def anneal(self, factor: float) -> None:
        """See `Quantizer.anneal`."""

    def settle(self) -> None:
        """See `Bottleneck.settle`: nothing to do."""

    def forward(self, z: Tensor, uniform: Tensor | None = None) -> Quantised:
        """Draw a latent from the posterior z (B, C, h, w)."""
        with torch.autocast(z.device.type, enabled=False):
            mean, log_std = z.float().chunk(2, 1)
            log_std = log_std.clamp(*LOG_STD_RANGE)
            v = mean + log_std.exp() * torch.randn_like(mean)
            nats = (mean.square() + (2 * log_std).exp() - 1).sum() / 2 - log_std.sum()
            return Quantised(self.symbols(z), v, z.new_zeros(()), v, nats=nats)

    @torch.no_grad()
    def symbols(self, z: Tensor) -> Tensor:
        """Z (B, C, h, w) -> the interval of each mean, (B, C / 2, h, w)."""
        mean = z.float().chunk(2, 1)[0]
        return (torch.special.ndtr(mean) * (1 << PRIOR_BITS)).long().clamp(0, (1 << PRIOR_BITS) - 1)

    def latent(self, symbols: Tensor) -> Tensor:
        """Intervals -> their middles, float32."""
        return (torch.from_numpy(middles()).double() * 2.0**-Z_BITS).float().to(symbols.device)[symbols]

    def integer_values(self, bits: int) -> np.ndarray:
        """(2^PRIOR_BITS,) the middles in units of 2^-bits."""
        return (middles() + (1 << (Z_BITS - bits - 1))) >> (Z_BITS - bits)


def quantiles(numerators: np.ndarray, bits: int) -> np.ndarray:
    """Where the distribution function of N(0, 1) reaches n / 2^bits: int64 in units of 2^-Z_BITS, exact anywhere."""
    target = np.asarray(numerators, np.int64) << (CDF_BITS - bits)
    low = np.full(target.shape, -8 << Z_BITS, np.int64)
    high = -low
    while (high - low > 1).any():
        middle = (low + high) >> 1
        below = normal_cdf(middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


@cache
def borders() -> np.ndarray:
    """(2^PRIOR_BITS + 1,) where the intervals begin and the last one ends, in units of 2^-Z_BITS."""
    return quantiles(np.arange((1 << PRIOR_BITS) + 1), PRIOR_BITS)


@cache
def middles() -> np.ndarray:
    """(2^PRIOR_BITS,) the medians of the intervals, in units of 2^-Z_BITS."""
    return quantiles(np.arange(1, 2 << PRIOR_BITS, 2), PRIOR_BITS + 1)
