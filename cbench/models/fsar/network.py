"""The networks of `V2DVQ`: encoder g_a, vector quantiser with STHQ, prior, decoder g_s, distributions of sub-pixels.

Pictures are float (B, 3, H, W) in [0, 1]; z is (B, C, h, w) with h = H / 2^D; symbols are int64 (B, L, h, w).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.fsar.causal import CausalHead
from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.contexts import ConvPrior
from cbench.models.fsar.linear import LinearHead
from cbench.models.fsar.mixture import MixtureHead
from cbench.models.fsar.prior import ContextPrior
from cbench.models.fsar.quantizers import quantizer
from cbench.models.fsar.volumes import VolumePrior

STEP = 1 / 255
"""Distance of two neighbouring pixel values on the [0, 1] scale."""


def down(inputs: int, outputs: int) -> list[nn.Module]:
    """Halve the sides."""
    return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]


def up(channels: int, kind: str = "transposed") -> list[nn.Module]:
    """Double the sides."""
    if kind == "shuffle":
        larger: nn.Module = ShuffleUp(channels)
    else:
        larger = nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False)
    return [larger, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class ShuffleUp(nn.Sequential):
    """Convolution to four times the channels, which become 2 x 2 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))


class Residual(nn.Module):
    """relu(x) + block(relu(x)): the original's first ReLU works in place, so its skip carries relu(x) and not x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        x = functional.relu(x)
        return x + self.block(x)


class SkipStack(nn.Module):
    """Residual blocks with a connection around all of them; it carries relu(x), as in `Residual`."""

    def __init__(self, blocks: list[Residual]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return functional.relu(x) + self.blocks(x)


def residuals(config: FsarConfig) -> list[nn.Module]:
    """The stack of residual blocks, with or without the connection around it."""
    blocks = [Residual(config.channels) for _ in range(config.residuals)]
    return [SkipStack(blocks)] if config.skip and blocks else list(blocks)


class Encoder(nn.Sequential):
    """g_a: picture (B, 3, H, W) in [0, 1] -> z (B, C, h, w)."""

    def __init__(self, config: FsarConfig) -> None:
        if config.downsamples == 0:
            layers: list[nn.Module] = [nn.Conv2d(3, config.channels, 1, bias=False), nn.BatchNorm2d(config.channels)]
        else:
            layers = down(3, config.channels)
        for _ in range(config.downsamples - 1):
            layers += [nn.ReLU(inplace=True), *down(config.channels, config.channels)]
        layers += residuals(config)
        super().__init__(*layers, nn.Conv2d(config.channels, config.channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers on the centred picture."""
        return super().forward(x - 0.5)


class Decoder(nn.Sequential):
    """g_s: quantised latent (B, C, h, w) -> parameters (B, 3, H, W, P).

    P = 2: mean and log standard deviation of the Gaussian; with a causal head: the biases of its P hidden units.
    """

    def __init__(self, config: FsarConfig) -> None:
        channels = config.channels
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, channels, 1, bias=False)]
        layers += [nn.BatchNorm2d(channels), *residuals(config)]
        for _ in range(config.downsamples):
            layers += up(channels, config.upsample)
        super().__init__(*layers, nn.Conv2d(channels, config.outputs, 1))

    def forward(self, q: Tensor) -> Tensor:
        """The head's channels are (R mean, R log-std, G mean, ...)."""
        out = super().forward(q)
        b, c, h, w = out.shape
        return out.view(b, 3, c // 3, h, w).permute(0, 1, 3, 4, 2)


def pixel_nats(params: Tensor, x: Tensor, *, edge_mass: bool = False) -> Tensor:
    """-ln P of pictures x (B, 3, H, W) in [0, 1] under params (B, 3, H, W, 2); same shape as x ("cdf_delta")."""
    mean, log_std = params.unbind(-1)
    scale = torch.exp(-log_std)
    upper, lower = (x + STEP / 2 - mean) * scale, (x - STEP / 2 - mean) * scale
    if edge_mass:
        upper = torch.where(x > 1 - STEP / 2, torch.full_like(upper, torch.inf), upper)
        lower = torch.where(x < STEP / 2, torch.full_like(lower, -torch.inf), lower)
    return -(torch.special.ndtr(upper) - torch.special.ndtr(lower) + 1e-7).log()


@dataclass(frozen=True)
class Losses:
    """The two losses of the paper, in nats a sub-pixel, and what was coded."""

    distortion: Tensor
    """Pixels given the latent."""
    rate: Tensor
    """Divergence of the posterior from the prior plus the losses that tie encoder and codebook."""
    symbol_nats: Tensor
    """The code length alone: `distortion + symbol_nats` is what the coder pays."""
    symbols: Tensor
    """(B, L, h, w) int64."""

    @property
    def total(self) -> Tensor:
        """What training minimises."""
        return self.distortion + self.rate


class FsarNetwork(nn.Module):
    """Encoder, quantiser, prior of the symbols, decoder, and the causal head if the pixels have one."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = quantizer(config)
        if config.context:
            self.prior: nn.Module = ContextPrior(config)
        elif config.convolution == "volume":
            self.prior = VolumePrior(config)
        elif config.convolution != "none":
            self.prior = ConvPrior(config)
        if config.has_codes and config.static_prior:
            self.prior_logits = nn.Parameter(torch.zeros(config.groups, config.codes))
        self.decoder = Decoder(config)
        heads = {"causal": CausalHead, "linear": LinearHead, "mixture": MixtureHead, "mixture-colour": MixtureHead}
        self.head = heads[config.pixels](config) if config.pixels in heads else None

    def forward(self, symbols: Tensor) -> Tensor:
        """Symbols (B, L, h, w) -> pixel parameters (B, 3, H, W, P)."""
        return self.decoder(self.quantizer.latent(symbols))

    def symbols(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> symbols (B, L, h, w)."""
        return self.quantizer.symbols(self.encoder(x))

    def prior_nats(
        self, symbols: Tensor, vectors: Tensor, every: int = 1, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """-ln prior, summed over the batch: of the symbols, and of the codes' shares where they are not hard.

        Args:
            symbols: (B, L, h, w).
            vectors: (B, h, w, L, E), their code vectors.
            every: look at so many positions less, drawn anew each time, and scale the sum up.
            shares: (N, L, K) of the rows (b, y, x); None: those of the symbols, 0 and 1.
        """
        rows = symbols.permute(0, 2, 3, 1).flatten(0, 2)
        positions = None
        if every > 1 and (self.config.context or self.config.convolution != "none"):
            positions = torch.randperm(len(rows), device=rows.device)[: max(1, len(rows) // every)]
        chosen = rows if positions is None else rows[positions]
        scale = len(rows) / len(chosen)
        prior = functional.log_softmax(self._masked(self._logits(vectors, positions).float()), -1)
        if len(prior) == 1:
            nats = -prior[0, torch.arange(rows.shape[1], device=rows.device), rows].sum()
        else:
            nats = -prior.gather(-1, chosen[..., None]).sum() * scale
        if shares is None:
            return nats, nats
        return nats, -(prior * (shares if positions is None else shares[positions])).sum() * scale

    def _logits(self, vectors: Tensor, positions: Tensor | None) -> Tensor:
        """Logits (N, L, K) of the prior, or (1, L, K) if they are the same everywhere."""
        if self.config.context:
            return self.prior(vectors, positions)
        if self.config.convolution != "none":
            return self.prior(vectors, self.prior_logits if self.config.static_prior else None, positions)
        return self.prior_logits[None]

    def _masked(self, logits: Tensor) -> Tensor:
        return logits if self.quantizer.mask is None else self.quantizer.mask(logits)

    def pixel_nats(self, params: Tensor, x: Tensor) -> Tensor:
        """-ln P of every sub-pixel of pictures x (B, 3, H, W) in [0, 1], same shape."""
        if isinstance(self.head, (CausalHead, MixtureHead)):
            return self.head.nats(params, x * 255)
        if self.config.pixels == "linear":
            params = self.head(params.float(), x)
        return pixel_nats(params.float(), x, edge_mass=self.config.edge_mass)

    def losses(self, x: Tensor, uniform: Tensor | None = None, prior_every: int = 1) -> Losses:
        """Both losses of pictures x (B, 3, H, W) in [0, 1].

        Args:
            x: the pictures.
            uniform: as in `Quantizer.forward`.
            prior_every: as `every` in `prior_nats`.
        """
        coded = self.quantizer(self.encoder(x), uniform)
        distortion = self.pixel_nats(self.decoder(coded.latent), x).mean()
        if coded.hard is not None:
            hard = self.pixel_nats(self.decoder(coded.hard), x).mean()
            distortion = hard + self.quantizer.gap * (distortion - hard)
        if coded.nats is None:
            symbol_nats, cross = self.prior_nats(coded.symbols, coded.vectors, prior_every, coded.shares)
        else:
            symbol_nats = cross = coded.nats
        rate = (cross + self.config.cont_weight * coded.cont - coded.entropy) / x.numel() + coded.penalty
        return Losses(distortion, rate, symbol_nats / x.numel(), coded.symbols)
