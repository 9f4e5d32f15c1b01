"""The prior of the symbols: FSAR's networks over finitely many neighbours, and the learned mask over the categories.

Shapes: code vectors q (B, h, w, L, E), log-probabilities (N, L, K) with rows in the order (b, y, x).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.fsar.config import FsarConfig

BISECTIONS = 50


class _Entmax(torch.autograd.Function):
    """The point of the simplex that alpha-entmax picks, found by bisection of its threshold."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, alpha: float) -> Tensor:
        scaled = logits * (alpha - 1)
        low = scaled.amax(-1, keepdim=True) - 1
        width = 1 - logits.shape[-1] ** (1 - alpha)
        for _ in range(BISECTIONS):
            width /= 2
            middle = low + width
            total = (scaled - middle).clamp_min(0).pow(1 / (alpha - 1)).sum(-1, keepdim=True)
            low = torch.where(total >= 1, middle, low)
        p = (scaled - middle).clamp_min(0).pow(1 / (alpha - 1))
        p = p / p.sum(-1, keepdim=True)
        ctx.save_for_backward(p)
        ctx.alpha = alpha
        return p

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        slope = torch.where(p > 0, p.pow(2 - ctx.alpha), torch.zeros_like(p))
        out = gradient * slope
        return out - slope * (out.sum(-1, keepdim=True) / slope.sum(-1, keepdim=True)), None


def entmax(logits: Tensor, alpha: float) -> Tensor:
    """Alpha-entmax over the last axis: a softmax (alpha = 1) that can give exactly zero; alpha in (1, 2]."""
    return _Entmax.apply(logits, alpha)


class CategoryMask(nn.Module):
    """A learned share for every category, possibly zero, that multiplies posterior and prior alike ("catreduce")."""

    def __init__(self, codes: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.logits = nn.Parameter(torch.empty(1, codes).uniform_(-0.1, 0.1))

    def shares(self) -> Tensor:
        """(K,): zero for the categories that are not used."""
        return entmax(self.logits, self.alpha)[0]

    def forward(self, logits: Tensor) -> Tensor:
        """Masked log-probabilities (..., K), not quite normalised, of any logits."""
        p = functional.softmax(logits, -1) * self.shares()
        p = p / (p.sum(-1, keepdim=True) + 1e-7)
        return (p + 1e-9).log() / (p + 1e-9).sum(-1, keepdim=True)


class ContextPrior(nn.Module):
    """FSAR: a small network from the neighbours' code vectors (zeros outside) to the logits of a symbol."""

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.config = config
        inputs = len(config.context) * config.embedding
        hidden = config.mlp_expansion * inputs, config.mlp_expansion * config.codes
        self.mlps = nn.ModuleList(
            nn.Sequential(
                nn.Linear(inputs, hidden[0]),
                nn.LeakyReLU(),
                nn.Linear(hidden[0], hidden[1]),
                nn.LeakyReLU(),
                nn.Linear(hidden[1], config.codes),
            )
            for _ in range(1 if config.shared_mlp else config.groups)
        )

    def neighbours(self, q: Tensor) -> Tensor:
        """Code vectors (B, h, w, L, E) -> those around each position, concatenated: (B, h, w, L, W * E)."""
        h, w, groups = q.shape[1:4]
        found = []
        for dc, dy, dx in self.config.context:
            padded = functional.pad(q, (0, 0, -dc, 0, -dx, 0, -dy, 0))
            found.append(padded[:, :h, :w, :groups])
        return torch.cat(found, -1)

    def logits(self, inputs: Tensor, group: int) -> Tensor:
        """Inputs (N, W * E) of one group -> (N, K)."""
        return self.mlps[0 if self.config.shared_mlp else group](inputs)

    def forward(self, q: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits (N, L, K) at all positions, or at some of the rows (b, y, x)."""
        around = self.neighbours(q.detach() if self.config.detach_context else q).flatten(0, 2)
        if positions is not None:
            around = around[positions]
        return torch.stack([self.logits(around[:, g], g) for g in range(self.config.groups)], 1)
