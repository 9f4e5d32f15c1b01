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
from cbench.models.fsar.prior import CategoryMask, ContextPrior

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
        layers: list[nn.Module] = [nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        layers += residuals(config)
        for _ in range(config.downsamples):
            layers += up(channels, config.upsample)
        super().__init__(*layers, nn.Conv2d(channels, config.outputs, 1))

    def forward(self, q: Tensor) -> Tensor:
        """The head's channels are (R mean, R log-std, G mean, ...)."""
        out = super().forward(q)
        b, c, h, w = out.shape
        return out.view(b, 3, c // 3, h, w).permute(0, 1, 3, 4, 2)


@dataclass(frozen=True)
class Quantised:
    """What the quantiser hands on."""

    symbols: Tensor
    """(B, L, h, w) int64."""
    latent: Tensor
    """(B, C, h, w): the codes' values with the encoder's gradient (st_weight = 1)."""
    cont: Tensor
    """(): sum of |f - q|^2 / 2 over the batch."""
    vectors: Tensor
    """(B, h, w, L, E): the codes' values with the codebook's gradient, for the prior."""


class Quantizer(nn.Module):
    """L codebooks of K vectors with straight-through hardmax (STHQ)."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = nn.Parameter(torch.empty(config.groups, config.codes, config.embedding).uniform_(-1, 1))
        self.mask = None if config.alpha is None else CategoryMask(config.codes, config.alpha)

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
        logits = functional.log_softmax(-distance / 2, -1) / self.config.relax_temp
        return functional.log_softmax(logits if self.mask is None else self.mask(logits), -1)

    def bias(self) -> Tensor:
        """(L, K): the score of a code is f . e + this; its arg-max is that of the (masked) posterior."""
        bias = -0.5 * self.codebook.square().sum(-1)
        return bias if self.mask is None else bias + self.config.relax_temp * self.mask.shares().log()

    def nearest(self, f: Tensor) -> Tensor:
        """Symbols (N, L) of f (N, L, E): one matrix product and arg-max a group, |f|^2 left out."""
        bias = self.bias()
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
            vectors=q.view(b, h, w, *q.shape[1:]),
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
    """Encoder, quantiser, prior of the symbols, decoder, and the causal head if the pixels have one."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = Quantizer(config)
        if config.context:
            self.prior = ContextPrior(config)
        else:
            self.prior_logits = nn.Parameter(torch.zeros(config.groups, config.codes))
        self.decoder = Decoder(config)
        self.head = CausalHead(config) if config.pixels == "causal" else None

    def forward(self, symbols: Tensor) -> Tensor:
        """Symbols (B, L, h, w) -> pixel parameters (B, 3, H, W, P)."""
        return self.decoder(self.quantizer.latent(symbols))

    def symbols(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> nearest codes (B, L, h, w)."""
        z = self.encoder(x)
        b, _, h, w = z.shape
        return self.quantizer.nearest(self.quantizer.split(z.float())).view(b, h, w, -1).permute(0, 3, 1, 2)

    def prior_nats(self, symbols: Tensor, vectors: Tensor, every: int = 1) -> Tensor:
        """-ln prior of the symbols, summed over the batch.

        Args:
            symbols: (B, L, h, w).
            vectors: (B, h, w, L, E), their code vectors.
            every: look at so many positions less, drawn anew each time, and scale the sum up.
        """
        rows = symbols.permute(0, 2, 3, 1).flatten(0, 2)
        if not self.config.context:
            prior = functional.log_softmax(self._masked(self.prior_logits), -1)
            return -prior[torch.arange(len(prior), device=rows.device), rows].sum()
        positions = None
        if every > 1:
            positions = torch.randperm(len(rows), device=rows.device)[: max(1, len(rows) // every)]
        prior = functional.log_softmax(self._masked(self.prior(vectors, positions).float()), -1)
        chosen = rows if positions is None else rows[positions]
        nats = -prior.gather(-1, chosen[..., None]).sum()
        return nats * (len(rows) / len(chosen))

    def _masked(self, logits: Tensor) -> Tensor:
        return logits if self.quantizer.mask is None else self.quantizer.mask(logits)

    def pixel_nats(self, params: Tensor, x: Tensor) -> Tensor:
        """-ln P of every sub-pixel of pictures x (B, 3, H, W) in [0, 1], same shape."""
        if self.head is not None:
            return self.head.nats(params, x * 255)
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
        symbol_nats = self.prior_nats(coded.symbols, coded.vectors, prior_every) / x.numel()
        rate = symbol_nats + self.config.cont_weight * coded.cont / x.numel()
        return Losses(distortion, rate, symbol_nats, coded.symbols)
