"""What decides the tables, in exact arithmetic: the hyper-synthesis and the order-conditioned unit.

Both run on integers held in float64 (`cbench/nn/exact.py`), so that no thread count, schedule, library or machine
changes a bit. Means are multiples of 1/256; the table of a scale is found by comparing integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding import CodingIO
from cbench.errors import ConfigError
from cbench.models.basic.context import ContextModel, OrderConv2d
from cbench.models.basic.edges import Edge
from cbench.models.basic.orders import Schedule, visible, visible_groups
from cbench.models.basic.slimmable import SlimConv2d, SlimConvTranspose2d, SlimSubpel
from cbench.nn.exact import ExactConv2d, ExactProduct, ExactUpsampling, Grid, leaky_relu, snap
from cbench.nn.gaussian import gaussian_tables, scale_index

BITS = 12
"""Fraction bits of z_hat, of the prior and of all features."""
FEATURE = Grid(BITS, -(1 << 24), 1 << 24)
MEAN_BITS = 8
"""Means, and so y_hat, are multiples of 2^-MEAN_BITS."""
MEAN = Grid(MEAN_BITS, -(1 << 20), 1 << 20)
SCALE = Grid(BITS, 0, 1 << 21)
LARGEST_SYMBOL = 1 << 14
_LEAK_BITS = 16
"""`leaky_relu` gives units finer by this."""


class IntegerHyperSynthesis(nn.Module):
    """One candidate of the edge z -> y, exactly: z_hat -> prior, both integers in units of 2^-BITS."""

    def __init__(self, edge: Edge, inputs: int, choice: int) -> None:
        """Take over the candidate's weights.

        Raises:
            ConfigError: weights that are too large or not finite.
        """
        super().__init__()
        level = edge.choices - 1 - choice
        layers: list[nn.Module] = []
        for layer in edge.layers:
            if isinstance(layer, nn.ReLU):
                layers.append(_Rectifier(0.0))
            elif isinstance(layer, nn.LeakyReLU):
                layers.append(_Rectifier(layer.negative_slope))
            else:
                layers += _exact(layer, inputs, level)
                inputs = layer[0].width(level) // 4 if isinstance(layer, SlimSubpel) else layer.width(level)
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor) -> Tensor:
        """(B, h, w, Z) -> (B, 4h, 4w, outputs), float64 integers."""
        x = z.clamp(FEATURE.low, FEATURE.high)
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, ExactProduct):
                x = snap(x, layer.bits - BITS, FEATURE)
        return x


class _Rectifier(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return rectified(x, self.slope)


def rectified(x: Tensor, slope: float = 0.01) -> Tensor:
    """LeakyReLU of integers on the features' grid."""
    return snap(leaky_relu(x, slope), _LEAK_BITS, FEATURE) if slope else x.clamp_min(0)


class _Shuffle(nn.Module):
    """Pixel shuffle by two of (B, H, W, 4 C)."""

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        return x.view(b, h, w, c // 4, 2, 2).permute(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c // 4)


def _exact(layer: nn.Module, inputs: int, level: int) -> list[nn.Module]:
    if isinstance(layer, SlimSubpel):
        return [*_exact(layer[0], inputs, level), _Shuffle()]
    if not isinstance(layer, SlimConv2d):
        raise ConfigError(f"a hyper-synthesis with a {type(layer).__name__} cannot be evaluated exactly")
    outputs = layer.width(level)
    bias = layer.bias[:outputs]
    if isinstance(layer, SlimConvTranspose2d):
        return [ExactUpsampling(layer.weight[:inputs, :outputs].detach().cpu().double(), bias, FEATURE)]
    return [ExactConv2d(layer.weight[:outputs, :inputs], bias, FEATURE)]


class IntegerUnit(nn.Module):
    """The context model of a coder of y, exactly and step by step.

    Each layer has a product for each group of outputs. Of its inputs the first `seen` stem from elements of y and come
    step by step; the others stem from the prior and are multiplied for all positions at once.
    """

    def __init__(self, model: ContextModel) -> None:
        """Take over the weights; raises `ConfigError` for weights that are too large or not finite."""
        super().__init__()
        self.channels, self.groups, self.kernel = model.channels, model.config.groups, model.config.kernel
        self.context = _products(model.context, MEAN)
        self.mix = nn.ModuleList(_products(layer, FEATURE) for layer in model.mix)
        both = model.config.variant == "B"
        self.seen = [
            layer.weight.shape[1] // 2 if number == 0 or both else layer.weight.shape[1]
            for number, layer in enumerate(model.mix)
        ]

    def code(
        self, io: CodingIO, y: np.ndarray | None, prior: Tensor, schedule: Schedule
    ) -> tuple[np.ndarray, np.ndarray]:
        """Code y through `io`, all elements of a step at once; within it by group, position (row-major) and channel.

        Args:
            io: the coder.
            y: (M, h, w) floats, None when decoding.
            prior: (h, w, 2 M) float64 integers in units of 2^-BITS.
            schedule: of the order.

        Returns:
            symbols (M, h, w) int32, and y_hat (M, h, w) int32 in units of 2^-MEAN_BITS.
        """
        shape = self.channels, *prior.shape[:2]
        given = None if y is None else torch.from_numpy(y.reshape(self.channels, -1).T.astype(np.float64))
        symbols = torch.zeros(shape[1] * shape[2], self.channels, dtype=torch.int32)
        run = _Run(self, prior, schedule)
        tables = gaussian_tables()
        for elements in _steps(schedule):
            means, scales = run.predict(elements)
            wanted = None
            if given is not None:
                values = torch.cat([given[e.positions, run.own(e)].flatten() for e in elements])
                wanted = (values - means / (1 << MEAN_BITS)).round_().clamp_(-LARGEST_SYMBOL, LARGEST_SYMBOL)
                wanted = wanted.numpy().astype(np.int32)
            found = torch.from_numpy(io.code(tables, scale_index(scales.numpy(), BITS), wanted))
            values = (found.double() * (1 << MEAN_BITS) + means).clamp_(MEAN.low, MEAN.high)
            sizes = [len(e.positions) * self.channels // self.groups for e in elements]
            for e, some, value in zip(elements, found.split(sizes), values.split(sizes), strict=True):
                symbols[e.positions, run.own(e)] = some.view(len(e.positions), -1)
                run.learn(e, value.view(len(e.positions), -1))
        return symbols.T.reshape(shape).numpy(), run.known().T.reshape(shape).numpy().astype(np.int32)


@dataclass(frozen=True)
class _Elements:
    """The elements of one group that one step codes."""

    group: int
    positions: Tensor
    """(n,) int64, row-major."""


def _steps(schedule: Schedule) -> Iterator[list[_Elements]]:
    """What each step codes."""
    groups = len(schedule.step)
    flat = schedule.step.reshape(groups, -1)
    by_step = [np.argsort(row, kind="stable") for row in flat]
    ends = [np.cumsum(np.bincount(row, minlength=schedule.steps)) for row in flat]
    for step in range(schedule.steps):
        found = [rows[(end[step - 1] if step else 0) : end[step]] for rows, end in zip(by_step, ends, strict=True)]
        yield [_Elements(g, torch.from_numpy(rows)) for g, rows in enumerate(found) if len(rows)]


class _Run:
    """One picture on the way through the unit: what is known of y, and the features of every layer so far."""

    def __init__(self, unit: IntegerUnit, prior: Tensor, schedule: Schedule) -> None:
        self.unit = unit
        height, width, _ = prior.shape
        half, groups = unit.kernel // 2, unit.groups
        row = width + 2 * half
        at = torch.arange(height * width)
        self.corner = at // width * row + at % width
        """Of each position's window in the padded y."""
        self.y = torch.zeros((height + 2 * half) * row, unit.channels, dtype=torch.float64)
        self.centre = half * row + half
        sees = visible(schedule.order, unit.kernel).reshape(groups, groups, unit.kernel**2, -1)
        taps = [np.flatnonzero(sees[g].any(axis=(0, 2))) for g in range(groups)]
        self.windows = [torch.from_numpy(tap // unit.kernel * row + tap % unit.kernel) for tap in taps]
        self.masks = [torch.from_numpy(sees[g][:, tap].transpose(2, 1, 0).copy()) for g, tap in enumerate(taps)]
        """(positions, taps, G) for each group."""
        self.taps = [
            product.weight.view(unit.kernel**2, unit.channels, -1)[torch.from_numpy(tap)].flatten(0, 1)
            for product, tap in zip(unit.context, taps, strict=True)
        ]
        inside = visible_groups(schedule.order).reshape(groups, groups, -1)
        self.inside = torch.from_numpy(inside.transpose(0, 2, 1).copy())
        """(G, positions, G)."""
        self._spread(prior.reshape(height * width, -1))
        widths = [groups * unit.context[0].weight.shape[1]] + [groups * layer[0].weight.shape[1] for layer in unit.mix]
        self.features = [torch.zeros(height * width, n, dtype=torch.float64) for n in widths[:-1]]

    def _spread(self, prior: Tensor) -> None:
        """What the prior and the biases add to every layer, at all positions: `bases[layer][group]`."""
        unit, extra = self.unit, prior
        self.bases: list[list[Tensor]] = [[product.bias.expand(len(prior), -1) for product in unit.context]]
        if not unit.mix:
            parts = prior.chunk(unit.groups, 1)
            self.bases[0] = [
                product.bias + part * 2.0 ** (product.bits - BITS)
                for product, part in zip(unit.context, parts, strict=True)
            ]
        for seen, layer in zip(unit.seen, unit.mix, strict=True):
            sums = [
                torch.addmm(product.bias, extra, product.weight[seen:])
                if seen < len(product.weight)
                else product.bias.expand(len(prior), -1)
                for product in layer
            ]
            self.bases.append(sums[: unit.groups])
            rest = [
                snap(s, product.bits - BITS, FEATURE)
                for s, product in list(zip(sums, layer, strict=True))[unit.groups :]
            ]
            extra = rectified(torch.cat(rest, 1)) if rest else extra

    def own(self, e: _Elements) -> slice:
        """The channels of y in the elements' group."""
        width = self.unit.channels // self.unit.groups
        return slice(e.group * width, (e.group + 1) * width)

    def learn(self, e: _Elements, values: Tensor) -> None:
        """Put (n, M / G) decoded values into y."""
        self.y[self.corner[e.positions] + self.centre, self.own(e)] = values

    def known(self) -> Tensor:
        """Y (positions, M)."""
        return self.y[self.corner + self.centre]

    def predict(self, elements: Sequence[_Elements]) -> tuple[Tensor, Tensor]:
        """Means and scales, integers on their grids, of all values of the elements in coding order."""
        unit = self.unit
        sums = [self._context(e) for e in elements]
        layer: Sequence[ExactProduct] = unit.context
        for number, following in enumerate(unit.mix):
            for e, s in zip(elements, sums, strict=True):
                value = snap(s, layer[e.group].bits - BITS, FEATURE)
                width = value.shape[1]
                columns = slice(e.group * width, (e.group + 1) * width)
                self.features[number][e.positions, columns] = rectified(value) if number else value
            sums = [self._mixed(e, number) for e in elements]
            layer = following
        bits = [layer[e.group].bits for e in elements]
        means = [snap(s[:, 0::2].flatten(), b - MEAN_BITS, MEAN) for s, b in zip(sums, bits, strict=True)]
        scales = [snap(s[:, 1::2].flatten(), b - BITS, SCALE) for s, b in zip(sums, bits, strict=True)]
        return torch.cat(means), torch.cat(scales)

    def _context(self, e: _Elements) -> Tensor:
        base = self.bases[0][e.group][e.positions]
        window = self.windows[e.group]
        if not len(window):
            return base.clone()
        values = self.y[self.corner[e.positions, None] + window]
        masked = values.view(*values.shape[:2], self.unit.groups, -1) * self.masks[e.group][e.positions][..., None]
        return torch.addmm(base, masked.flatten(1), self.taps[e.group])

    def _mixed(self, e: _Elements, number: int) -> Tensor:
        values = self.features[number][e.positions]
        if self.unit.groups > 1:
            parts = values.view(len(values), self.unit.groups, -1)
            values = (parts * self.inside[e.group, e.positions][..., None]).flatten(1)
        weight = self.unit.mix[number][e.group].weight[: self.unit.seen[number]]
        return torch.addmm(self.bases[number + 1][e.group][e.positions], values, weight)


def _products(layer: OrderConv2d, grid: Grid) -> nn.ModuleList:
    """One exact product for each group of outputs; inputs ordered by kernel element, then channel."""
    parts = zip(layer.weight.chunk(layer.groups), layer.bias.chunk(layer.groups), strict=True)
    return nn.ModuleList(ExactProduct(w.permute(2, 3, 1, 0).flatten(0, 2), b, grid) for w, b in parts)
