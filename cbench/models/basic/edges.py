"""The edges of the graph: one slimmable network between two nodes, with one candidate a width.

A candidate is called by its `choice`: 0 is the widest, the last the narrowest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.basic.slimmable import (
    Fill,
    GroupConv2d,
    GroupConvTranspose2d,
    SlimBottleneck,
    SlimConv2d,
    SlimConvTranspose2d,
    SlimGDN,
    SlimResidual,
    SlimResidualUp,
    SlimSubpel,
)

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
TEMPERATURE = 0.5
"""Of the relaxed choice of an edge that is left to choose by itself."""


class Edge(nn.Module):
    """A list of layers that all run at the width of one candidate."""

    def __init__(self, widths: Sequence[int], layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.layers = nn.ModuleList(layers)
        self.logits = nn.Parameter(torch.zeros(len(widths) if len(widths) > 1 else 0))
        """Of the candidates, for an edge that no controller drives."""

    @property
    def choices(self) -> int:
        """Number of candidates."""
        return len(self.widths)

    def forward(self, x: Tensor, choice: int = 0) -> Tensor:
        """Run one candidate."""
        level = self.choices - 1 - choice
        for layer in self.layers:
            x = layer(x) if isinstance(layer, ACTIVATIONS) else layer(x, level)
        return x

    def mixture(self, x: Tensor, shares: Tensor) -> Tensor:
        """Sum of all candidates' outputs, weighted by `shares` (one a candidate, the widest first): the relaxed
        choice.
        """
        return sum(share * self(x, choice) for choice, share in enumerate(shares))

    def relaxed(self, x: Tensor, temperature: float = TEMPERATURE) -> tuple[Tensor, Tensor]:
        """The mixture with a Gumbel-softmax sample of the edge's own logits, and that sample."""
        shares = functional.gumbel_softmax(self.logits, tau=temperature)
        return self.mixture(x, shares), shares


def distillation(edge: Edge, x: Tensor, choice: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Train a narrow candidate towards the widest (universally slimmable networks).

    Returns:
        The widest candidate's output, which the graph goes on with, and squared differences an item: that of the
        candidate, and by the sandwich rule that of the narrowest.
    """
    teacher = edge(x, 0)
    if choice == 0:
        return teacher, {}
    students = {"self_distillation": choice}
    if choice != edge.choices - 1:
        students["self_distillation_sandwich"] = edge.choices - 1
    losses = {
        name: (edge(x.detach(), student) - teacher.detach()).square().sum() / len(x)
        for name, student in students.items()
    }
    return teacher, losses


def analysis(widths: Sequence[int], outputs: Sequence[int]) -> Edge:
    """X -> y, 16 times smaller: four 5 x 5 convolutions with GDN between them."""
    n = max(widths)
    layers: list[nn.Module] = []
    for inputs in (3, n, n):
        layers += [SlimConv2d(inputs, widths), SlimGDN(widths)]
    return Edge(widths, [*layers, SlimConv2d(n, outputs)])


def synthesis(widths: Sequence[int], inputs: int) -> Edge:
    """Y -> x, the mirror of `analysis`."""
    n = max(widths)
    layers: list[nn.Module] = []
    for channels in (inputs, n, n):
        layers += [SlimConvTranspose2d(channels, widths), SlimGDN(widths, inverse=True)]
    return Edge(widths, [*layers, SlimConvTranspose2d(n, [3])])


def group_analysis(widths: Sequence[int]) -> Edge:
    """`analysis` in groups as wide as the narrowest candidate; channels of y that no group makes are zero."""
    n, groups = max(widths), max(widths) // min(widths)
    layers: list[nn.Module] = [SlimConv2d(3, widths), SlimGDN(widths, groups=groups)]
    for _ in range(2):
        layers += [GroupConv2d(n, widths, groups), SlimGDN(widths, groups=groups)]
    return Edge(widths, [*layers, GroupConv2d(n, widths, groups), Fill(n)])


def group_synthesis(widths: Sequence[int]) -> Edge:
    """The mirror of `group_analysis`; all groups that run add to the picture."""
    n, groups = max(widths), max(widths) // min(widths)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [GroupConvTranspose2d(n, widths, groups), SlimGDN(widths, inverse=True, groups=groups)]
    return Edge(widths, [*layers, SlimConvTranspose2d(n, [3])])


def hyper_analysis(widths: Sequence[int], inputs: int, outputs: Sequence[int], slope: float) -> Edge:
    """Y -> z, four times smaller; `slope` of the rectifiers: 0 in the scale hyperprior, 0.01 in joint models."""
    n = max(widths)
    convolutions = (SlimConv2d(inputs, widths, 3, 1), SlimConv2d(n, widths), SlimConv2d(n, outputs))
    return Edge(widths, _between(convolutions, slope))


def hyper_synthesis(widths: Sequence[int], inputs: int, outputs: Sequence[int]) -> Edge:
    """Z -> scales of y, or -> any prior that must not be negative: the scale hyperprior's, ending in a ReLU."""
    n = max(widths)
    up = (SlimConvTranspose2d(inputs, widths), SlimConvTranspose2d(n, widths), SlimConv2d(n, outputs, 3, 1))
    return Edge(widths, [*_between(up, 0.0), nn.ReLU()])


def joint_hyper_synthesis(widths: Sequence[int], inputs: int, outputs: Sequence[int], slope: float = 0.01) -> Edge:
    """Z -> prior of y, of the joint models; the middle layer is 3/2 as wide."""
    wide = [3 * w // 2 for w in widths]
    first, second = SlimConvTranspose2d(inputs, widths), SlimConvTranspose2d(max(widths), wide)
    return Edge(widths, _between((first, second, SlimConv2d(max(wide), outputs, 3, 1)), slope))


def cheng_analysis(widths: Sequence[int], outputs: Sequence[int]) -> Edge:
    """X -> y of Cheng et al. without attention."""
    n = max(widths)
    layers: list[nn.Module] = []
    for inputs in (3, n, n):
        layers += [SlimResidual(inputs, widths, 2), SlimResidual(n, widths)]
    return Edge(widths, [*layers, SlimConv2d(n, outputs, 3, 2)])


def cheng_synthesis(widths: Sequence[int], inputs: int) -> Edge:
    """Y -> x of Cheng et al. without attention."""
    n = max(widths)
    layers: list[nn.Module] = []
    for channels in (inputs, n, n):
        layers += [SlimResidual(channels, widths), SlimResidualUp(n, widths)]
    return Edge(widths, [*layers, SlimResidual(n, widths), SlimSubpel(n, [3])])


def cheng_hyper_analysis(widths: Sequence[int], inputs: int, outputs: Sequence[int]) -> Edge:
    """Y -> z of Cheng et al.: five 3 x 3 convolutions."""
    n = max(widths)
    strides = ((inputs, widths, 1), (n, widths, 1), (n, widths, 2), (n, widths, 1), (n, outputs, 2))
    return Edge(widths, _between([SlimConv2d(i, o, 3, stride) for i, o, stride in strides], 0.01))


def cheng_hyper_synthesis(widths: Sequence[int], inputs: int, outputs: Sequence[int]) -> Edge:
    """Z -> prior of y of Cheng et al.; the later layers are 3/2 as wide."""
    n, wide = max(widths), [3 * w // 2 for w in widths]
    layers = (
        SlimConv2d(inputs, widths, 3, 1),
        SlimSubpel(n, widths),
        SlimConv2d(n, wide, 3, 1),
        SlimSubpel(max(wide), wide),
        SlimConv2d(max(wide), outputs, 3, 1),
    )
    return Edge(widths, _between(layers, 0.01))


def elic_analysis(widths: Sequence[int], outputs: Sequence[int]) -> Edge:
    """X -> y of ELIC without attention."""
    n = max(widths)
    layers: list[nn.Module] = []
    for inputs in (3, n, n):
        layers += [SlimConv2d(inputs, widths), *(SlimBottleneck(widths) for _ in range(3))]
    return Edge(widths, [*layers, SlimConv2d(n, outputs)])


def elic_synthesis(widths: Sequence[int], inputs: int) -> Edge:
    """Y -> x of ELIC without attention."""
    n = max(widths)
    layers: list[nn.Module] = []
    for channels in (inputs, n, n):
        layers += [SlimConvTranspose2d(channels, widths), *(SlimBottleneck(widths) for _ in range(3))]
    return Edge(widths, [*layers, SlimConvTranspose2d(n, [3])])


def _between(layers: Sequence[nn.Module], slope: float) -> list[nn.Module]:
    """The layers with rectifiers between them."""
    out: list[nn.Module] = []
    for layer in layers:
        out += [layer, nn.LeakyReLU(slope) if slope else nn.ReLU()]
    return out[:-1]
