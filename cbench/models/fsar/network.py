"""The networks of `V2DVQ-c2`: encoder g_a, vector quantiser with STHQ, decoder g_s, Gaussian for every sub-pixel.

Pictures are float (B, 3, H, W) in [0, 1]; z is (B, C, h, w) with h = H / 2^D; symbols are int64 (B, L, h, w).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.fsar.config import FsarConfig

STEP = 1 / 255
"""Distance of two neighbouring pixel values on the [0, 1] scale."""


def down(inputs: int, outputs: int) -> list[nn.Module]:
    """Halve the sides."""
    return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]


def up(channels: int) -> list[nn.Module]:
    """Double the sides."""
    return [
        nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]


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


class Encoder(nn.Sequential):
    """g_a: picture (B, 3, H, W) in [0, 1] -> z (B, C, h, w)."""

    def __init__(self, config: FsarConfig) -> None:
        layers = down(3, config.channels)
        for _ in range(config.downsamples - 1):
            layers += [nn.ReLU(inplace=True), *down(config.channels, config.channels)]
        layers += [Residual(config.channels) for _ in range(config.residuals)]
        super().__init__(*layers, nn.Conv2d(config.channels, config.channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers on the centred picture."""
        return super().forward(x - 0.5)


class Decoder(nn.Sequential):
    """g_s: quantised latent (B, C, h, w) -> parameters (B, 3, H, W, 2): mean and log standard deviation."""

    def __init__(self, config: FsarConfig) -> None:
        channels = config.channels
        layers: list[nn.Module] = [nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        layers += [Residual(channels) for _ in range(config.residuals)]
        for _ in range(config.downsamples):
            layers += up(channels)
        super().__init__(*layers, nn.Conv2d(channels, 6, 1))

    def forward(self, q: Tensor) -> Tensor:
        """The head's channels are (R mean, R log-std, G mean, ...)."""
        out = super().forward(q).float()
        b, _, h, w = out.shape
        return out.view(b, 3, 2, h, w).permute(0, 1, 3, 4, 2)


@dataclass(frozen=True)
class Quantised:
    """What the quantiser hands on."""

    symbols: Tensor
    """(B, L, h, w) int64."""
    latent: Tensor
    """(B, C, h, w): the codes' values with the encoder's gradient (st_weight = 1)."""
    cont: Tensor
    """(): sum of |f - q|^2 / 2 over the batch."""


class Quantizer(nn.Module):
    """L codebooks of K vectors with straight-through hardmax (STHQ)."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = nn.Parameter(torch.empty(config.groups, config.codes, config.embedding).uniform_(-1, 1))

    def split(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> f (N, L, E), rows in the order (b, y, x)."""
        b, c, h, w = z.shape
        return z.permute(0, 2, 3, 1).reshape(b * h * w, self.config.groups, c // self.config.groups)

    def merge(self, q: Tensor, shape: torch.Size) -> Tensor:
        """(N, L, E) -> (B, C, h, w), the inverse of `split` for that shape."""
        b, c, h, w = shape
        return q.reshape(b, h, w, c).permute(0, 3, 1, 2)

    def posterior(self, f: Tensor) -> Tensor:
        """Normalised log-probabilities (N, L, K) of f (N, L, E): softmax of minus half the squared distance."""
        squares = f.square().sum(-1, keepdim=True) + self.codebook.square().sum(-1)
        distance = squares - 2 * torch.einsum("nle,lke->nlk", f, self.codebook)
        return functional.log_softmax(functional.log_softmax(-distance / 2, -1) / self.config.relax_temp, -1)

    def nearest(self, f: Tensor) -> Tensor:
        """Symbols (N, L) of f (N, L, E): one matrix product and arg-max a group, |f|^2 left out."""
        bias = -0.5 * self.codebook.square().sum(-1)
        score = [torch.addmm(bias[g], f[:, g], self.codebook[g].T) for g in range(self.config.groups)]
        return torch.stack([s.argmax(-1) for s in score], 1)

    def lookup(self, symbols: Tensor) -> Tensor:
        """Symbols (N, L) -> code vectors (N, L, E)."""
        groups = torch.arange(self.config.groups, device=symbols.device)
        return self.codebook[groups, symbols]

    def latent(self, symbols: Tensor) -> Tensor:
        """Symbols (B, L, h, w) -> quantised latent (B, C, h, w)."""
        b, _, h, w = symbols.shape
        q = self.lookup(symbols.permute(0, 2, 3, 1).reshape(b * h * w, -1))
        return self.merge(q, torch.Size((b, self.config.channels, h, w)))

    def soften(self, f: Tensor, hard: Tensor, uniform: Tensor) -> Tensor:
        """One-hot (N, L, K) of the hard symbols, with the gradient of a Gumbel-softmax sample (STHQ)."""
        tiny = torch.finfo(uniform.dtype).eps
        gumbel = -(-uniform.clamp(tiny, 1 - tiny).log()).log()
        soft = functional.softmax((self.posterior(f) + gumbel) / self.config.gs_temp, -1)
        return soft + functional.one_hot(hard, self.config.codes).to(soft.dtype) - soft.detach()

    def forward(self, z: Tensor, uniform: Tensor | None = None) -> Quantised:
        """Quantise z (B, C, h, w).

        `uniform`: (M, L, K) noise in [0, 1) for the first M <= N rows: those pass the Gumbel-softmax gradient on, the
        others only the hard code's. The noise changes gradients, never values, and is most of the cost on a CPU.
        """
        with torch.autocast(z.device.type, enabled=False):  # distances in bfloat16 would pick wrong codes
            f = self.split(z.float())
            with torch.no_grad():
                symbols = self.nearest(f)
            rows = 0 if uniform is None else len(uniform)
            q = self.lookup(symbols[rows:])
            if uniform is not None:
                y = self.soften(f[:rows], symbols[:rows], uniform)
                q = torch.cat([torch.einsum("nlk,lke->nle", y, self.codebook), q])
        b, _, h, w = z.shape
        return Quantised(
            symbols=symbols.view(b, h, w, -1).permute(0, 3, 1, 2),
            latent=self.merge(f + (q - f).detach(), z.shape),
            cont=(f - q).square().sum() / 2,
        )


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
    """Code length of the symbols plus the loss that ties encoder and codebook."""
    symbol_nats: Tensor
    """The code length alone: `distortion + symbol_nats` is what the coder pays."""
    symbols: Tensor
    """(B, L, h, w) int64."""

    @property
    def total(self) -> Tensor:
        """What training minimises."""
        return self.distortion + self.rate


class FsarNetwork(nn.Module):
    """Encoder, quantiser, static prior of the symbols, decoder."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        self.prior_logits = nn.Parameter(torch.zeros(config.groups, config.codes))
        self.decoder = Decoder(config)

    def forward(self, symbols: Tensor) -> Tensor:
        """Symbols (B, L, h, w) -> pixel parameters (B, 3, H, W, 2)."""
        return self.decoder(self.quantizer.latent(symbols))

    def symbols(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> nearest codes (B, L, h, w)."""
        z = self.encoder(x)
        b, _, h, w = z.shape
        return self.quantizer.nearest(self.quantizer.split(z.float())).view(b, h, w, -1).permute(0, 3, 1, 2)

    def losses(self, x: Tensor, uniform: Tensor | None = None) -> Losses:
        """Both losses of pictures x (B, 3, H, W) in [0, 1]; `uniform` as in `Quantizer.forward`."""
        coded = self.quantizer(self.encoder(x), uniform)
        params = self.decoder(coded.latent)
        distortion = pixel_nats(params, x, edge_mass=self.config.edge_mass).mean()
        prior = functional.log_softmax(self.prior_logits, -1)
        groups = torch.arange(self.config.groups, device=x.device)[:, None, None]
        symbol_nats = -prior[groups, coded.symbols].sum() / x.numel()
        rate = symbol_nats + self.config.cont_weight * coded.cont / x.numel()
        return Losses(distortion, rate, symbol_nats, coded.symbols)
