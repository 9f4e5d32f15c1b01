"""The networks of the data-space models: from the values of decoded neighbours to the distribution of a sub-pixel.

Most see one to three neighbours ("states": 0 outside the picture, else value + 1) and so can become tables:

    mlp       two hidden layers over one-hot states: the paper's FSAR-O1S, -O2S and -O3S
    table     logits for every combination of states
    sum       logits for every state of every neighbour, added up
    tucker    a product of small factors: rank vectors for the states, a core, rank vectors for the values

The fifth, "masked", is what they are compared with: one causal convolution over the one-hot values of all colours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.coding.states import Offset
from cbench.models.fsar.contexts import causal_taps
from cbench.models.fsar.dsar_config import DsarConfig

COLOURS = 3


class StateNetwork(nn.Module, ABC):
    """Neighbours' states -> logits of a colour's values."""

    def __init__(self, config: DsarConfig) -> None:
        super().__init__()
        self.config = config
        self._build(config, len(config.context), config.values + 1)
        self.prior_logits = nn.Parameter(torch.zeros(COLOURS, config.values))

    @abstractmethod
    def _build(self, config: DsarConfig, neighbours: int, states: int) -> None:
        """Make the parameters."""

    @abstractmethod
    def _logits(self, colour: int, states: Tensor) -> Tensor:
        """States (N, W) -> (N, values), without what a colour has anywhere."""

    def log_probabilities(self, colour: int, states: Tensor) -> Tensor:
        """Neighbours' states (N, W) -> (N, values)."""
        return functional.log_softmax(self._logits(colour, states) + self.prior_logits[colour], -1)

    def nats(self, x: Tensor, every: int = 1) -> Tensor:
        """-ln P a sub-pixel of pictures x (B, 3, H, W) of integers; `every`: look at so many positions less."""
        states = torch.stack([_states(x, offset) for offset in self.config.context], -1)
        total = 0.0
        for colour in range(COLOURS):
            own, around = x[:, colour].reshape(-1).long(), states[:, colour].flatten(0, 2)
            chosen = _some(len(own), every, x.device)
            total = total + functional.nll_loss(self.log_probabilities(colour, around[chosen]), own[chosen])
        return total / COLOURS


class MlpNetwork(StateNetwork):
    """A small network for each colour."""

    def _build(self, config: DsarConfig, neighbours: int, states: int) -> None:
        inputs = neighbours * states
        hidden = config.expansion * inputs, config.expansion * config.values
        self.first = nn.ModuleList(nn.Linear(inputs, hidden[0]) for _ in range(COLOURS))
        self.rest = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(), nn.Linear(*hidden), nn.LeakyReLU(), nn.Linear(hidden[1], config.values))
            for _ in range(COLOURS)
        )

    def _logits(self, colour: int, states: Tensor) -> Tensor:
        layer, step = self.first[colour], self.config.values + 1
        place = states + step * torch.arange(states.shape[1], device=states.device)
        return self.rest[colour](functional.embedding(place, layer.weight.T).sum(1) + layer.bias)  # of one-hot vectors


class TableNetwork(StateNetwork):
    """Free logits for every combination of states."""

    def _build(self, config: DsarConfig, neighbours: int, states: int) -> None:
        self.table = nn.Parameter(torch.zeros(COLOURS, states**neighbours, config.values))

    def _logits(self, colour: int, states: Tensor) -> Tensor:
        *_, place = accumulate(states.unbind(1), lambda number, state: number * (self.config.values + 1) + state)
        return functional.embedding(place, self.table[colour])


class SumNetwork(StateNetwork):
    """Free logits for every state of every neighbour."""

    def _build(self, config: DsarConfig, neighbours: int, states: int) -> None:
        self.tables = nn.Parameter(torch.zeros(COLOURS, neighbours, states, config.values))

    def _logits(self, colour: int, states: Tensor) -> Tensor:
        return sum(functional.embedding(own, table) for own, table in zip(states.T, self.tables[colour], strict=True))


class TuckerNetwork(StateNetwork):
    """The table of `TableNetwork` as a tensor of low rank."""

    def _build(self, config: DsarConfig, neighbours: int, states: int) -> None:
        rank = config.rank
        self.factors = nn.Parameter(torch.randn(COLOURS, neighbours, states, rank))
        self.core = nn.Parameter(torch.randn(COLOURS, rank**neighbours, rank) / math.sqrt(rank**neighbours))
        self.values = nn.Parameter(torch.zeros(COLOURS, rank, config.values))

    def _logits(self, colour: int, states: Tensor) -> Tensor:
        product = torch.ones(len(states), 1, device=states.device)
        for own, factor in zip(states.T, self.factors[colour], strict=True):
            product = (product[:, :, None] * functional.embedding(own, factor)[:, None]).flatten(1)
        return product @ self.core[colour] @ self.values[colour]


class MaskedNetwork(nn.Module):
    """A convolution over the positions before; the colours of a position do not see each other."""

    mask: Tensor

    def __init__(self, config: DsarConfig) -> None:
        super().__init__()
        self.config = config
        channels = COLOURS * config.values
        self.conv = nn.Conv2d(channels, channels, config.kernel, padding=config.kernel // 2)
        self.register_buffer("mask", torch.from_numpy(causal_taps(config.kernel)), persistent=False)
        self.prior_logits = nn.Parameter(torch.zeros(COLOURS, config.values))

    def logits(self, x: Tensor, every: int = 1) -> tuple[Tensor, Tensor]:
        """Pictures x (B, 3, H, W) of integers -> logits (N, 3, values) and the values (N, 3) at N positions.

        The input being one-hot, the convolution is a sum of columns of its weights, twelve of them for kernel 3.
        """
        values, reach = self.config.values, self.config.kernel // 2
        h, w = x.shape[2:]
        taps = np.argwhere(self.mask.cpu().numpy())
        padded = functional.pad(x.long(), (reach,) * 4, value=-1)
        around = torch.stack([padded[:, :, dy : dy + h, dx : dx + w] for dy, dx in taps], 1)
        first = values * torch.arange(len(taps) * COLOURS, device=x.device).view(-1, COLOURS, 1, 1)
        columns = torch.where(around < 0, len(taps) * COLOURS * values, around + first)
        columns = columns.flatten(1, 2).permute(0, 2, 3, 1).flatten(0, 2)
        chosen = _some(len(columns), every, x.device)
        weight = functional.pad(self.conv.weight[:, :, self.mask].permute(2, 1, 0).flatten(0, 1), (0, 0, 0, 1))
        sums = functional.embedding_bag(columns[chosen], weight, mode="sum") + self.conv.bias
        return sums.unflatten(1, (COLOURS, -1)) + self.prior_logits, x.permute(0, 2, 3, 1).flatten(0, 2)[chosen]

    def nats(self, x: Tensor, every: int = 1) -> Tensor:
        """See `StateNetwork.nats`."""
        logits, own = self.logits(x, every)
        return functional.cross_entropy(logits.flatten(0, 1), own.flatten().long())


DsarNetwork = StateNetwork | MaskedNetwork


def build_network(config: DsarConfig) -> DsarNetwork:
    """The one that the config names."""
    kinds: dict[str, type[DsarNetwork]] = {
        "mlp": MlpNetwork,
        "table": TableNetwork,
        "sum": SumNetwork,
        "tucker": TuckerNetwork,
        "masked": MaskedNetwork,
    }
    return kinds[config.form](config)


def _states(x: Tensor, offset: Offset) -> Tensor:
    """The state of each sample's neighbour, (B, 3, H, W) int64."""
    dc, dy, dx = offset
    c, h, w = x.shape[1:]
    return functional.pad(x.long() + 1, (-dx, 0, -dy, 0, -dc, 0))[:, :c, :h, :w]


def _some(count: int, every: int, device: torch.device) -> Tensor | slice:
    """Every n-th of so many positions, drawn anew."""
    return slice(None) if every == 1 else torch.randperm(count, device=device)[: max(1, count // every)]
