"""Learning the order of y: label logits, Monte-Carlo losses for drawn labels, surrogates for continuous ones."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.basic.config import CoderConfig
from cbench.models.basic.orders import TILE, tiled_order

NOISE = 64
"""Length of the generator's input."""
WIDTH = 256
ENTROPY_BOUND = 0.05
"""While the mean of -p ln p over positions and labels is above this, random labels may still be drawn."""


class LogitGenerator(nn.Module):
    """z from N(0, I) -> label logits (1, G S, 2, 2); channel g S + s is label s of group g."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(NOISE, WIDTH)
        self.mapping = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.norm = nn.BatchNorm2d(WIDTH // TILE**2)
        self.final = nn.Conv2d(WIDTH // TILE**2, outputs, 3, padding=1)
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.xavier_uniform_(self.final.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Z (B, 64) -> (B, G S, 2, 2)."""
        x = self.dense(z)
        for layer in self.mapping:
            x = functional.leaky_relu(layer(x), 0.2)
        x = self.norm(x.view(len(x), -1, TILE, TILE)).relu()
        return self.final(x)


class LearnedOrder(nn.Module):
    """Labels (G, 2, 2), repeated over the latent; what coding uses is drawn once and kept in a buffer."""

    labels: Tensor

    def __init__(self, config: CoderConfig) -> None:
        super().__init__()
        self.config = config
        outputs = config.groups * config.stages
        if config.logits == "generator":
            self.generator = LogitGenerator(outputs)
        else:
            self.table = nn.Parameter(torch.randn(1, outputs, TILE, TILE))
        self.register_buffer("labels", torch.zeros(config.groups, TILE, TILE, dtype=torch.long))

    def logits(self) -> Tensor:
        """(G, S, 2, 2), with fresh noise where there is a generator."""
        if self.config.logits == "generator":
            noise = torch.randn(1, NOISE, device=self.labels.device)
            out = self.generator(noise)
        else:
            out = self.table
        return out.view(self.config.groups, self.config.stages, TILE, TILE)

    @torch.no_grad()
    def settle(self) -> None:
        """Take over the present labels for coding; without this they stay what they were."""
        logits = self.logits()
        if self.config.logits == "continuous":
            self.labels.copy_(expected_labels(logits).round())
        else:
            self.labels.copy_(logits.argmax(1))

    def order(self, height: int, width: int) -> np.ndarray:
        """Labels (G, h, w) for coding."""
        return tiled_order(self.labels.cpu().numpy(), height, width)


def expected_labels(logits: Tensor) -> Tensor:
    """Continuous labels, sum over s of s softmax(logits)_s: (G, S, ...) -> (G, ...)."""
    stages = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    return torch.einsum("gs...,s->g...", logits.softmax(1), stages)


def tiled_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Continuous labels (G, 2, 2) -> (G, h, w), with a gradient; what no whole tile covers gets label 0."""
    rows, columns = height // TILE, width // TILE
    if not rows or not columns:
        return labels[:, :height, :width]
    tiled = labels.repeat(1, rows, columns)
    return functional.pad(tiled, (0, width - columns * TILE, 0, height - rows * TILE))


TEMPERATURES = 10
"""Of the thermodynamic objective, from 10^-10 to 1, beside 0."""


def draw_labels(logits: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """K label maps of one tile and their log-probabilities: (G, S, 2, 2) -> (K, G, 2, 2) int64, (K,)."""
    choice = torch.distributions.Categorical(logits=logits.movedim(1, -1))
    labels = choice.sample((samples,))
    return labels, choice.log_prob(labels).flatten(1).sum(1)


def mean_entropy(logits: Tensor) -> Tensor:
    """Mean of -p ln p over groups, positions and labels."""
    p = logits.softmax(1)
    return -(p * p.clamp_min(1e-30).log()).mean()


def _evidence(log_weight: Tensor) -> Tensor:
    """Ln mean_k exp(log_weight): (K, B) -> (B,)."""
    return log_weight.logsumexp(0) - math.log(len(log_weight))


def vimco(log_weight: Tensor, log_q: Tensor) -> Tensor:
    """Surrogate whose gradient by log_q is VIMCO's, with the arithmetic mean of the others as leave-one-out estimate.

    Args:
        log_weight: (K, B), log of each sample's weight, here minus the nats of the latent.
        log_q: (K, B), log-probability of each sample.
    """
    samples = len(log_weight)
    log_weight = log_weight.detach()
    others = (log_weight.sum(0) - log_weight) / (samples - 1)
    replaced = log_weight.expand(samples, -1, -1).clone()
    index = torch.arange(samples)
    replaced[index, index] = others
    control = replaced.logsumexp(1) - math.log(samples)
    return -((_evidence(log_weight) - control) * log_q).sum(0).mean()


def reinforce(log_weight: Tensor, log_q: Tensor) -> Tensor:
    """Score-function surrogate without a baseline; arguments as `vimco`."""
    return -(_evidence(log_weight).detach() * log_q).sum(0).mean()


def thermodynamic(log_weight: Tensor, log_q: Tensor) -> Tensor:
    """Surrogate of the thermodynamic variational objective, a left Riemann sum over log-spaced temperatures; arguments
    as `vimco`.

    Its value holds the objective and the covariances that carry the gradient by log_q.
    """
    samples, log_weight = len(log_weight), log_weight.detach()
    beta = torch.cat([log_weight.new_zeros(1), torch.logspace(-TEMPERATURES, 0, TEMPERATURES).to(log_weight)])
    share = (log_weight[..., None] * beta).softmax(0)
    mean = (share * log_weight[..., None]).sum(0)
    path = log_q[..., None] + beta * log_weight[..., None]
    deviation = path - (share * path).sum(0)
    covariance = (share * (log_weight[..., None] - mean) * deviation).sum(0) * samples / (samples - 1)
    return -((mean + covariance)[:, :-1] * beta.diff()).sum(1).mean()


ESTIMATORS = {"vimco": vimco, "reinforce": reinforce, "thermodynamic": thermodynamic}
"""Surrogates whose gradient moves the labels' logits."""


SURROGATES = (
    "hard",
    "st",
    "st-hardtanh",
    "st-sigmoid",
    "reinmax-hardtanh",
    "hardtanh",
    "hardtanh-0.5",
    "tanh5",
    "tanh20",
)
"""Masks for continuous labels: "hard" has no gradient, "st..." and "reinmax..." are hard forward, the rest soft."""


def soft_mask(centre: Tensor, neighbour: Tensor, kind: str, same: bool = False) -> Tensor:
    """How much an element with label `centre` sees of one with label `neighbour`, in 0..1, with a gradient by both.

    Args:
        centre: continuous labels.
        neighbour: the same, broadcastable.
        kind: one of `SURROGATES`.
        same: whether equal labels see each other.
    """
    m = centre - neighbour + int(same)
    hard = (centre.round() - neighbour.round() + int(same) > 0.5).to(m.dtype).detach()
    if kind == "hard":
        return hard
    if kind.startswith("reinmax"):
        p0 = m.clamp(0, 1)
        p1 = (((p0 + hard) / 2).log() - p0).detach() + p0
        soft = 2 * p1.clamp(0, 1) - p0 / 2
    else:
        soft = {
            "st": lambda: m,
            "st-hardtanh": lambda: m.clamp(0, 1),
            "st-sigmoid": lambda: (m - 0.5).sigmoid(),
            "hardtanh": lambda: m.clamp(0, 1),
            "hardtanh-0.5": lambda: (2 * m - 1).clamp(0, 1),
            "tanh5": lambda: (5 * (m - 0.5).relu()).tanh(),
            "tanh20": lambda: (20 * (m - 0.5).relu()).tanh(),
        }[kind]()
    return soft + (hard - soft).detach() if kind.startswith(("st", "reinmax")) else soft
