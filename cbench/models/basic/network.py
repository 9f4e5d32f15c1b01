"""The codec as a Bayesian network: nodes x, y, z; edges that infer (x -> y -> z) and that generate (z -> y -> x).

Two kinds of structure may be chosen for every picture. Between nodes: which candidate of an edge runs, one choice an
edge. Inside y: in which order its elements are coded, one choice among the coders of y. A `Structure` holds all five.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cbench.errors import ConfigError
from cbench.models.basic import edges
from cbench.models.basic.config import EDGES, BasicConfig, CoderConfig
from cbench.models.basic.context import ContextModel, Masks
from cbench.models.basic.order_learning import LearnedOrder
from cbench.models.basic.orders import named_order
from cbench.nn.factorized import FactorizedPrior
from cbench.nn.gaussian import gaussian_likelihood, lower_bound
from cbench.nn.rounding import noisy, round_through

STRIDE = 64
"""Sides of pictures that the network takes are multiples of this."""
LATENT_STRIDE = 16
"""An element of y stands for a square of that side."""
LIKELIHOOD_BOUND = 1e-7


@dataclass(frozen=True, order=True)
class Structure:
    """One choice a controller; 0 is the widest candidate, for `coder` the first."""

    x_y: int = 0
    y_z: int = 0
    z_y: int = 0
    y_x: int = 0
    coder: int = 0

    @property
    def choices(self) -> tuple[int, ...]:
        """As a tuple, in the order of the fields."""
        return self.x_y, self.y_z, self.z_y, self.y_x, self.coder


@dataclass(frozen=True)
class Parts:
    """What one evaluation of the graph yields."""

    y: Tensor
    z: Tensor
    prior: Tensor
    y_hat: Tensor
    x_hat: Tensor
    z_likelihood: Tensor
    y_likelihood: Tensor

    @property
    def bits(self) -> Tensor:
        """Rate of each item, (B,)."""
        return item_bits(self.z_likelihood) + item_bits(self.y_likelihood)


class LatentCoder(nn.Module):
    """Codes y: an order and its context model."""

    def __init__(self, channels: int, config: CoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = ContextModel(channels, config)
        self.learned = LearnedOrder(config) if config.order == "learned" else None
        self._masks: dict[tuple[int, int, str], Masks] = {}

    def order(self, height: int, width: int) -> np.ndarray:
        """Labels (G, h, w) that coding uses."""
        if self.learned is not None:
            return self.learned.order(height, width)
        if self.config.order == "random":
            return random_order(self.config, height, width)
        return named_order(self.config.order, self.config.groups, height, width)

    def masks(self, height: int, width: int, device: torch.device) -> Masks:
        """Those of `order`, kept for sizes seen before as long as the order cannot change."""
        if self.learned is not None:
            return Masks.of(self.order(height, width), self.config.kernel, device)
        key = height, width, str(device)
        if key not in self._masks:
            self._masks[key] = Masks.of(self.order(height, width), self.config.kernel, device)
        return self._masks[key]

    def forward(self, y: Tensor, prior: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """Means and scales of y (B, M, h, w)."""
        return self.model(y, prior, masks or self.masks(*y.shape[2:], y.device))


class BasicNetwork(nn.Module):
    """The graph: four edges, a factorised coder of z, coders of y."""

    def __init__(self, config: BasicConfig) -> None:
        super().__init__()
        self.config = config
        self.edges = nn.ModuleDict(dict(zip(EDGES, _edges(config), strict=True)))
        hypers = config.widths if config.slim_latents else (config.hyper,)
        self.z_coders = nn.ModuleList(FactorizedPrior(channels) for channels in hypers)
        self.y_coders = nn.ModuleList(LatentCoder(config.latent, coder) for coder in config.coders)

    def z_coder(self, structure: Structure) -> FactorizedPrior:
        """The prior of z: that of its width where latents are slimmable."""
        return self.z_coders[len(self.z_coders) - 1 - structure.y_z if len(self.z_coders) > 1 else 0]

    def check(self, structure: Structure) -> None:
        """Raise `ConfigError` for choices that are not there or do not fit together."""
        for choice, count in zip(structure.choices, self.config.choices, strict=True):
            if not 0 <= choice < count:
                raise ConfigError(f"there is no structure {structure.choices}; the choices are {self.config.choices}")
        if self.config.slim_latents and len(set(structure.choices[:4])) > 1:
            raise ConfigError("a model with slimmable latents runs all edges at one width")

    def forward(self, x: Tensor, structure: Structure) -> Parts:
        """Evaluate the graph on x (B, 3, H, W) in [0, 1]; with noise in training mode, rounded otherwise."""
        run = {
            name: (edge, choice) for (name, edge), choice in zip(self.edges.items(), structure.choices, strict=False)
        }
        y = _call(run["x_y"], x)
        z = _call(run["y_z"], y.abs() if self.config.magnitudes else y)
        z_hat, z_likelihood = self.code_z(z, structure)
        prior = _call(run["z_y"], z_hat)
        y_hat, y_likelihood = self.code_y(y, prior, structure.coder)
        x_hat = _call(run["y_x"], y_hat)
        return Parts(y, z, prior, y_hat, x_hat, z_likelihood, y_likelihood)

    def code_z(self, z: Tensor, structure: Structure) -> tuple[Tensor, Tensor]:
        """z_hat and the likelihood of every element of z."""
        coder = self.z_coder(structure)
        rounded = coder.rounded(z)
        values = noisy(z) if self.training else rounded
        z_hat = rounded if self.config.straight_through or not self.training else values
        return z_hat, coder.likelihood(values)

    def code_y(self, y: Tensor, prior: Tensor, coder: int, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """y_hat and the likelihood of every element of y, with one of the coders."""
        if self.config.framework == "hyperprior":
            y_hat = noisy(y) if self.training else y.round()
            return y_hat, gaussian_likelihood(y_hat, torch.zeros_like(y), prior)
        if not self.training:
            means, scales = self.y_coders[coder](y.round(), prior, masks)
            offset = (y - means).round()
            return y.round(), gaussian_likelihood(offset, torch.zeros_like(y), scales)
        seen = noisy(y)
        means, scales = self.y_coders[coder](seen, prior, masks)
        value = noisy(y) if self.config.straight_through else seen
        y_hat = round_through(y) if self.config.straight_through else seen
        return y_hat, gaussian_likelihood(value, means, scales)


def item_bits(likelihood: Tensor) -> Tensor:
    """-log2 of the likelihoods (B, ...), summed over each item: (B,)."""
    return -lower_bound(likelihood, LIKELIHOOD_BOUND).log2().flatten(1).sum(1)


def random_order(config: CoderConfig, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Labels (G, h, w) drawn evenly; the same for the same seed and size."""
    count = config.stages or config.groups * height * width
    return np.random.default_rng((seed, height, width)).integers(0, count, (config.groups, height, width))


def _call(candidate: tuple[edges.Edge, int], x: Tensor) -> Tensor:
    edge, choice = candidate
    return edge(x, choice)


def _edges(config: BasicConfig) -> list[edges.Edge]:
    """x_y, y_z, z_y, y_x."""
    widths = {name: config.widths if name in config.slim else config.widths[-1:] for name in EDGES}
    m, z = config.latent, config.hyper
    latents, hypers = ((config.widths,) * 2) if config.slim_latents else ([m], [z])
    if config.framework == "hyperprior":
        grouped = config.backbone == "groups"
        return [
            edges.group_analysis(widths["x_y"]) if grouped else edges.analysis(widths["x_y"], latents),
            edges.hyper_analysis(widths["y_z"], m, hypers, 0.0),
            edges.hyper_synthesis(widths["z_y"], z, latents),
            edges.group_synthesis(widths["y_x"]) if grouped else edges.synthesis(widths["y_x"], m),
        ]
    if config.backbone == "cheng":
        return [
            edges.cheng_analysis(widths["x_y"], [m]),
            edges.cheng_hyper_analysis(widths["y_z"], m, [z]),
            edges.cheng_hyper_synthesis(widths["z_y"], z, [2 * m]),
            edges.cheng_synthesis(widths["y_x"], m),
        ]
    elic = config.backbone == "elic"
    slope = 0.0 if elic or config.plain_prior else 0.01
    if config.plain_prior:
        prior = edges.hyper_synthesis(widths["z_y"], z, [2 * m])
    else:
        prior = edges.joint_hyper_synthesis(widths["z_y"], z, [2 * m], slope)
    return [
        (edges.elic_analysis if elic else edges.analysis)(widths["x_y"], [m]),
        edges.hyper_analysis(widths["y_z"], m, [z], slope),
        prior,
        (edges.elic_synthesis if elic else edges.synthesis)(widths["y_x"], m),
    ]
