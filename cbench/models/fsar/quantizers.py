"""Vector quantisers: STHQ, its ablations, and the baselines that the paper compares it with.

All of them code the nearest code vector of each group; they differ in what training sees in its place.

    sthq        the hard code, with the gradient of a Gumbel-softmax sample
    nosth       the sample itself
    sqvae       the sample itself, a learned variance, gradients through it only, a falling temperature
    em          as sthq, and at every other step a code drawn from the posterior, without a gradient to the encoder

The VQ-VAE family is in `vqvae`, McQuic in `mcquic`, latents without codes in `continuous`.

Shapes: f (N, L, E) are the vectors of z with rows in the order (b, y, x), y (N, L, K) the shares of the codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.prior import CategoryMask


@dataclass(frozen=True)
class Quantised:
    """What the quantiser hands on."""

    symbols: Tensor
    """(B, L, h, w) int64."""
    latent: Tensor
    """(B, C, h, w): the codes' values with the encoder's gradient (st_weight = 1)."""
    cont: Tensor
    """(): sum of |f - q|^2 / (2 var) over the batch."""
    vectors: Tensor
    """(B, h, w, L, E): the codes' values with the codebook's gradient, for the prior."""
    shares: Tensor | None = None
    """(N, L, K): the codes' shares that the prior is compared with, where they are not just the symbols."""
    entropy: Tensor | float = 0.0
    """(): entropy of the posterior times its weight, summed over the batch."""
    penalty: Tensor | float = 0.0
    """(): losses that are added as they are."""
    hard: Tensor | None = None
    """(B, C, h, w): what evaluation would hand on, where training sees something else and has a loss for both."""
    nats: Tensor | None = None
    """(): code length of the latent over the batch, where the network's prior has no part in it."""


class Quantizer(nn.Module):
    """L codebooks of K vectors with straight-through hardmax (STHQ)."""

    noise = True
    """Whether training wants uniform noise."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = nn.Parameter(torch.empty(config.groups, config.codes, config.embedding).uniform_(-1, 1))
        self.mask = None if config.alpha is None else CategoryMask(config.codes, config.alpha)
        self.anneal(1.0)

    def anneal(self, factor: float) -> None:
        """Multiply the temperature that `FsarConfig.annealed` names by a factor, for training."""
        config = self.config
        names = ("gs_temp", "relax_temp", "entropy_temp")
        self.gs_temp, self.relax_temp, self.entropy_temp = (
            getattr(config, name) * (factor if config.annealed == name else 1.0) for name in names
        )
        self.gap = factor if config.annealed == "gap" else 1.0

    def settle(self) -> None:
        """Bring up to date what a codec needs beside the weights; here nothing."""

    @torch.no_grad()
    def put(self, group: int, rows: Tensor, vectors: Tensor) -> None:
        """Put codes of a group, rows (K,) bool, onto vectors (n, E)."""
        self.codebook[group, rows] = vectors

    def symbols(self, z: Tensor) -> Tensor:
        """Z (B, C, h, w) -> nearest codes (B, L, h, w)."""
        b, _, h, w = z.shape
        return self.nearest(self.split(z.float())).view(b, h, w, -1).permute(0, 3, 1, 2)

    def split(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> f (N, L, E), rows in the order (b, y, x)."""
        b, c, h, w = z.shape
        return z.permute(0, 2, 3, 1).reshape(b * h * w, self.config.groups, c // self.config.groups)

    def merge(self, q: Tensor, shape: torch.Size) -> Tensor:
        """(N, L, E) -> (B, C, h, w), the inverse of `split` for that shape."""
        b, c, h, w = shape
        return q.reshape(b, h, w, c).permute(0, 3, 1, 2)

    def squares(self, f: Tensor) -> Tensor:
        """|f - e|^2 (N, L, K) of f (N, L, E)."""
        norms = f.square().sum(-1, keepdim=True) + self.codebook.square().sum(-1)
        return norms - 2 * torch.einsum("nle,lke->nlk", f, self.codebook)

    def precision(self) -> Tensor | float:
        """1 / var of the posterior."""
        return 1.0

    def posterior(self, f: Tensor) -> Tensor:
        """Normalised log-probabilities (N, L, K) of f (N, L, E): softmax of minus half the squared distance."""
        logits = functional.log_softmax(-self.squares(f) * self.precision() / 2, -1) / self.relax_temp
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

    def one_hot(self, symbols: Tensor) -> Tensor:
        """Symbols (N, L) -> (N, L, K) float."""
        return functional.one_hot(symbols, self.config.codes).to(self.codebook.dtype)

    def mix(self, y: Tensor) -> Tensor:
        """Shares (N, L, K) -> mean code vectors (N, L, E)."""
        return torch.einsum("nlk,lke->nle", y, self.codebook)

    def sample(self, posterior: Tensor, uniform: Tensor) -> Tensor:
        """A Gumbel-softmax sample (N, L, K) of the posterior."""
        tiny = torch.finfo(uniform.dtype).eps
        gumbel = -(-uniform.clamp(tiny, 1 - tiny).log()).log()
        return functional.softmax((posterior + gumbel) / self.gs_temp, -1)

    def shares(self, posterior: Tensor, hard: Tensor, uniform: Tensor) -> Tensor:
        """(N, L, K) that stand for the hard symbols in training: one-hot, with a sample's gradient (STHQ)."""
        soft = self.sample(posterior, uniform)
        return soft + self.one_hot(hard) - soft.detach()

    def forward(self, z: Tensor, uniform: Tensor | None = None) -> Quantised:
        """Quantise z (B, C, h, w).

        `uniform`: (M, L, K) noise in [0, 1) for the first M <= N rows: those pass the Gumbel-softmax gradient on, the
        others only the hard code's. With STHQ the noise changes gradients, never values, and is most of the cost on a
        CPU.
        """
        with torch.autocast(z.device.type, enabled=False):  # distances in bfloat16 would pick wrong codes
            f = self.split(z.float())
            with torch.no_grad():
                symbols = self.nearest(f)
            return self._quantise(f, symbols, uniform, z.shape)

    def _quantise(self, f: Tensor, symbols: Tensor, uniform: Tensor | None, shape: torch.Size) -> Quantised:
        rows = 0 if uniform is None else len(uniform)
        q, y, entropy = self.lookup(symbols[rows:]), None, 0.0
        if uniform is not None:
            posterior = self.posterior(f[:rows])
            y = self.shares(posterior, symbols[:rows], uniform)
            q = torch.cat([self.mix(y), q])
            if self.entropy_temp:
                entropy = -self.entropy_temp * (y * posterior).sum() * (len(f) / rows)
        return self._done(f, q, symbols, shape, entropy=entropy)

    def _done(
        self,
        f: Tensor,
        q: Tensor,
        symbols: Tensor,
        shape: torch.Size,
        *,
        shares: Tensor | None = None,
        entropy: Tensor | float = 0.0,
        straight: bool = True,
    ) -> Quantised:
        b, _, h, w = shape
        return Quantised(
            symbols=symbols.view(b, h, w, -1).permute(0, 3, 1, 2),
            latent=self.merge(f + (q - f).detach() if straight else q, shape),
            cont=((f - q).square() * self.precision()).sum() / 2,
            vectors=q.view(b, h, w, *q.shape[1:]),
            shares=shares,
            entropy=entropy,
        )


class SampleQuantizer(Quantizer):
    """Training sees a Gumbel-softmax sample; without noise, as in evaluation, the hard code."""

    straight = True
    """Whether the encoder gets the gradient of the sample's value (st_weight = 1), or only through its shares."""

    def _quantise(self, f: Tensor, symbols: Tensor, uniform: Tensor | None, shape: torch.Size) -> Quantised:
        if uniform is None:
            return self._done(f, self.lookup(symbols), symbols, shape)
        rows = len(uniform)
        posterior = self.posterior(f[:rows])
        y, entropy = self.sample(posterior, uniform), 0.0
        if self.entropy_temp:
            entropy = -self.entropy_temp * (y * posterior).sum() * (len(f) / rows)
        q = torch.cat([self.mix(y), self.lookup(symbols[rows:])])
        shares = torch.cat([y.detach(), self.one_hot(symbols[rows:])])
        return self._done(f, q, symbols, shape, shares=shares, entropy=entropy, straight=self.straight)


class SqVae(SampleQuantizer):
    """SQ-VAE: a sample, with a learned variance of the posterior."""

    straight = False

    def __init__(self, config: FsarConfig) -> None:
        super().__init__(config)
        self.log_variance = nn.Parameter(torch.zeros(1))

    def precision(self) -> Tensor:
        """See `Quantizer.precision`."""
        return torch.exp(-self.log_variance)


class EmQuantizer(Quantizer):
    """STHQ in turns ("EM"): at every other step codes are drawn from the posterior, and the encoder is at rest."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__(config)
        self.drawing = False
        """Whose turn it is."""

    def _quantise(self, f: Tensor, symbols: Tensor, uniform: Tensor | None, shape: torch.Size) -> Quantised:
        if uniform is None:
            return super()._quantise(f, symbols, uniform, shape)
        drawing, self.drawing = self.drawing, not self.drawing
        if not drawing:
            return super()._quantise(f, symbols, uniform, shape)
        with torch.no_grad():
            drawn = self.sample(self.posterior(f[: len(uniform)]), uniform).argmax(-1)
        symbols = torch.cat([drawn, symbols[len(uniform) :]])
        # Several processes wait for the gradient of everything, be it zero.
        f = f.detach() + 0 * f if trains_in_processes() else f.detach()
        return self._done(f, self.lookup(symbols), symbols, shape, straight=False)


def quantizer(config: FsarConfig) -> nn.Module:
    """The one that the config names."""
    if config.quantizer == "mcquic":
        from cbench.models.fsar.mcquic import McQuic  # made of the network's parts, which come after this file

        return McQuic(config)
    if not config.has_codes:
        from cbench.models.fsar.continuous import Bottleneck, Vae  # brings CompressAI with it

        return Bottleneck(config) if config.quantizer == "bottleneck" else Vae()
    from cbench.models.fsar.vqvae import EmaVqVae, SoftVqVae, VqVae

    kinds = {
        "sthq": Quantizer,
        "nosth": SampleQuantizer,
        "sqvae": SqVae,
        "em": EmQuantizer,
        "vqvae": VqVae,
        "softvqvae": SoftVqVae,
        "vqvae-ema": EmaVqVae,
    }
    return kinds[config.quantizer](config)


def summed_over_processes(x: Tensor) -> Tensor:
    """The sum of x over the processes that train together."""
    if trains_in_processes():
        distributed.all_reduce(x)
    return x


def trains_in_processes() -> bool:
    """Whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()
