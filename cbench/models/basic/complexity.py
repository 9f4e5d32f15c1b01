"""What a structure costs: multiply-adds counted layer by layer, the autoregressive unit included.

Figures are KMAC a pixel of the picture: thousands of multiply-adds, without biases and activations. Transposed
convolutions count by their input, which is what they compute.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cbench.models.basic.config import EDGES
from cbench.models.basic.edges import Edge
from cbench.models.basic.network import LATENT_STRIDE, STRIDE, BasicNetwork, Structure
from cbench.models.basic.slimmable import Slimmable

PIXELS = STRIDE**2


@dataclass(frozen=True)
class Cost:
    """KMAC a pixel of one structure."""

    encoder: float
    """x -> y -> z -> prior of y, and the pass over y that coding makes."""
    decoder: float
    """z -> prior of y, the same pass, and y -> x."""

    @property
    def total(self) -> float:
        """Both together."""
        return self.encoder + self.decoder


class Complexity:
    """Costs of all structures of a network, from one small evaluation of every candidate."""

    def __init__(self, network: BasicNetwork) -> None:
        self.edges = [_kmacs(network, name) for name in EDGES]
        """KMAC a pixel of each candidate of each edge."""
        self.coders = [coder.model.macs_per_position() / LATENT_STRIDE**2 / 1000 for coder in network.y_coders] or [0.0]
        """KMAC a pixel of each coder of y; every element's distribution is computed once, whatever the order."""

    def cost(self, structure: Structure) -> Cost:
        """Encoder and decoder of one structure."""
        x_y, y_z, z_y, y_x = (table[c] for table, c in zip(self.edges, structure.choices, strict=False))
        middle = z_y + self.coders[structure.coder]
        return Cost(x_y + y_z + middle, middle + y_x)


def _kmacs(network: BasicNetwork, name: str) -> list[float]:
    """All candidates of one edge."""
    config, edge = network.config, network.edges[name]
    channels, side = {
        "x_y": (3, STRIDE),
        "y_z": (config.latent, STRIDE // 16),
        "z_y": (config.hyper, 1),
        "y_x": (config.latent, STRIDE // 16),
    }[name]
    found = []
    for choice in range(edge.choices):
        width = edge.widths[-1 - choice] if config.slim_latents and name != "x_y" else channels
        x = torch.zeros(1, width, side, side, device=next(edge.parameters()).device)
        found.append(count(edge, x, choice) / PIXELS / 1000)
    return found


def count(edge: Edge, x: Tensor, choice: int, published: bool = False) -> int:
    """Multiply-adds of one candidate on x; `published`: what the original's counter reports instead."""
    total = 0

    def add(layer: Slimmable, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        total += layer.published_operations(inputs[0], out) if published else layer.macs(inputs[0], out)

    hooks = [layer.register_forward_hook(add) for layer in edge.modules() if isinstance(layer, Slimmable)]
    try:
        with torch.no_grad():
            edge(x, choice)
    finally:
        for hook in hooks:
            hook.remove()
    return total
