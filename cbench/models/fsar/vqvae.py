"""VQ-VAE and its relatives, the baselines that the paper compares STHQ with.

    vqvae       the hard code, gradients passed straight through, two squared distances as losses
    softvqvae   the mean code vector under a softmax, the same losses; the softmax's temperature may fall ("soft to
                hard"), or the weight of what the decoder makes of hard codes may rise ("gap control")
    vqvae-ema   as vqvae, but each code vector is the moving average of the vectors that it stood for

Shapes as in `quantizers`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.quantizers import Quantised, Quantizer, summed_over_processes


class VqVae(Quantizer):
    """VQ-VAE; distances are means over the E entries, its losses are not divided by the number of sub-pixels."""

    COMMITMENT = 0.25
    noise = False

    def __init__(self, config: FsarConfig) -> None:
        super().__init__(config)
        with torch.no_grad():
            self.codebook.uniform_(-1 / config.codes, 1 / config.codes)

    def precision(self) -> float:
        """See `Quantizer.precision`: the posterior is a softmax of minus the mean squared difference."""
        return 2 / self.config.embedding

    def _quantise(self, f: Tensor, symbols: Tensor, uniform: Tensor | None, shape: torch.Size) -> Quantised:
        q = self.lookup(symbols)
        return self._coded(f, q, f + (q - f).detach(), symbols, shape)

    def _coded(
        self, f: Tensor, q: Tensor, output: Tensor, symbols: Tensor, shape: torch.Size, hard: Tensor | None = None
    ) -> Quantised:
        """Code vectors q and what the decoder gets, both (N, L, E)."""
        b, _, h, w = shape
        return Quantised(
            symbols=symbols.view(b, h, w, -1).permute(0, 3, 1, 2),
            latent=self.merge(output, shape),
            cont=f.new_zeros(()),
            vectors=q.view(b, h, w, *q.shape[1:]),
            penalty=self._penalty(f, q),
            hard=hard,
        )

    def _penalty(self, f: Tensor, q: Tensor) -> Tensor:
        return (f.detach() - q).square().mean() + self.COMMITMENT * (f - q.detach()).square().mean()


class SoftVqVae(VqVae):
    """Training sees the mean code vector under the posterior."""

    def _quantise(self, f: Tensor, symbols: Tensor, uniform: Tensor | None, shape: torch.Size) -> Quantised:
        if not self.training:
            return super()._quantise(f, symbols, uniform, shape)
        q, hard = self.mix(self.posterior(f).exp()), None
        if self.gap < 1:
            hard = self.merge(f + (self.lookup(symbols) - f).detach(), shape)
        return self._coded(f, q, q, symbols, shape, hard)


class EmaVqVae(VqVae):
    """The codebook has no gradient: it follows moving averages of the vectors that chose each code, and their number.

    The averages begin as if every code had been chosen once. The original begins with none, which takes a code that the
    first batch does not choose out of reach for good.
    """

    DECAY, SMOOTHING = 0.999, 1e-5
    count: Tensor
    total: Tensor

    def __init__(self, config: FsarConfig) -> None:
        super().__init__(config)
        self.codebook.requires_grad_(False)
        self.register_buffer("count", torch.ones(config.groups, config.codes))
        self.register_buffer("total", self.codebook.detach().clone())

    @torch.no_grad()
    def put(self, group: int, rows: Tensor, vectors: Tensor) -> None:
        """See `Quantizer.put`."""
        super().put(group, rows, vectors)
        self.count[group, rows], self.total[group, rows] = 1.0, vectors

    def _quantise(self, f: Tensor, symbols: Tensor, uniform: Tensor | None, shape: torch.Size) -> Quantised:
        coded = super()._quantise(f, symbols, uniform, shape)
        if self.training:
            self._follow(f, symbols)
        return coded

    def _penalty(self, f: Tensor, q: Tensor) -> Tensor:
        return self.COMMITMENT * (f - q).square().mean()

    @torch.no_grad()
    def _follow(self, f: Tensor, symbols: Tensor) -> None:
        """Move the averages by one batch, and the codebook to them."""
        chosen = self.one_hot(symbols)
        self.count.lerp_(summed_over_processes(chosen.sum(0)), 1 - self.DECAY)
        self.total.lerp_(summed_over_processes(torch.einsum("nlk,nle->lke", chosen, f)), 1 - self.DECAY)
        share = (self.count + self.SMOOTHING) / (self.count.sum(1, keepdim=True) + self.SMOOTHING * self.config.codes)
        self.codebook.copy_(self.total / (share * self.count.sum(1, keepdim=True))[..., None])
