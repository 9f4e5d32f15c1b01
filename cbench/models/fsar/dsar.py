"""The data-space models ("dsar"): FSAR without an autoencoder, on the pixels themselves.

The distribution of a sub-pixel is a network's output for the values of one to three decoded neighbours (one-hot, with
one more state for "outside"); evaluated for every combination, it becomes tables. Byte format fsar/v1 of these models:
one bit as in `codec`, then the C * H * W samples through `CodingIO.states`. Grey pictures are coded as red ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.coding import CodingIO, ScriptCodec, StateTables
from cbench.coding.container import Header
from cbench.coding.states import Offset
from cbench.errors import ConfigError, UnsupportedInputError
from cbench.models.fsar.dsar_config import DsarConfig
from cbench.models.fsar.tables import PriorTables, context_tables
from cbench.zoo.checkpoints import CONFIG, check_shapes, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights, shipped

COLOURS = 3
TABLES = ("tables.weights", "tables.table_of")
"""Keys of the integer tables in a weights file, beside the network's own keys."""


class DsarNetwork(nn.Module):
    """A small network for each colour."""

    def __init__(self, config: DsarConfig) -> None:
        super().__init__()
        self.config = config
        inputs = len(config.context) * (config.values + 1)
        hidden = config.expansion * inputs, config.expansion * config.values
        self.first = nn.ModuleList(nn.Linear(inputs, hidden[0]) for _ in range(COLOURS))
        self.rest = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(), nn.Linear(*hidden), nn.LeakyReLU(), nn.Linear(hidden[1], config.values))
            for _ in range(COLOURS)
        )
        self.prior_logits = nn.Parameter(torch.zeros(COLOURS, config.values))

    def log_probabilities(self, colour: int, states: Tensor) -> Tensor:
        """Neighbours' states (N, W), 0 = outside, else value + 1 -> (N, values)."""
        layer, step = self.first[colour], self.config.values + 1
        place = states + step * torch.arange(states.shape[1], device=states.device)
        inner = functional.embedding(place, layer.weight.T).sum(1) + layer.bias  # of one-hot vectors
        return functional.log_softmax(self.rest[colour](inner) + self.prior_logits[colour], -1)

    def nats(self, x: Tensor, every: int = 1) -> Tensor:
        """-ln P a sub-pixel of pictures x (B, 3, H, W) of integers; `every`: look at so many positions less."""
        states = torch.stack([_states(x, offset) for offset in self.config.context], -1)
        total = 0.0
        for colour in range(COLOURS):
            own, around = x[:, colour].reshape(-1).long(), states[:, colour].flatten(0, 2)
            if every > 1:
                chosen = torch.randperm(len(own), device=x.device)[: max(1, len(own) // every)]
                own, around = own[chosen], around[chosen]
            total = total + functional.nll_loss(self.log_probabilities(colour, around), own)
        return total / COLOURS


def _states(x: Tensor, offset: Offset) -> Tensor:
    """The state of each sample's neighbour, (B, 3, H, W) int64."""
    dc, dy, dx = offset
    c, h, w = x.shape[1:]
    return functional.pad(x.long() + 1, (-dx, 0, -dy, 0, -dc, 0))[:, :c, :h, :w]


@torch.no_grad()
def pixel_states(network: DsarNetwork, seen: np.ndarray | None = None) -> PriorTables:
    """The network as integer tables; `seen`: training pictures (B, 3, H, W), see `tables.context_tables`."""

    def evaluate(colour: int, states: np.ndarray) -> Tensor:
        return network.log_probabilities(colour, torch.from_numpy(states))

    config = network.config
    return context_tables(COLOURS, config.context, np.arange(config.values), evaluate, seen)


@dataclass(frozen=True)
class DsarWeights:
    """A network and its tables."""

    network: DsarNetwork
    tables: PriorTables

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        state = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        state |= dict(zip(TABLES, (self.tables.weights, self.tables.table_of), strict=True))
        return state | {CONFIG: pack_config(self.network.config)}


def save(path: Path, weights: DsarWeights, metadata: Mapping[str, str]) -> None:
    """Write a weights file."""
    save_weights(path, weights.state, metadata)


def load(path: Path) -> DsarWeights:
    """Read a weights file.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of a data-space model.
    """
    state, _ = load_weights(path)
    network = DsarNetwork(unpack_config(state, DsarConfig))
    tensors = {name: torch.from_numpy(state[name].copy()) for name in state if name not in (CONFIG, *TABLES)}
    check_shapes("a data-space FSAR model", network.state_dict(), tensors)
    if not all(name in state for name in TABLES):
        raise ConfigError(f"these weights do not fit a data-space FSAR model: {TABLES[0]}")
    network.load_state_dict(tensors)
    network.eval().requires_grad_(False)
    kept = np.arange(network.config.values, dtype=np.uint16)
    return DsarWeights(network, PriorTables(*(state[name] for name in TABLES), kept, network.config.context))


class DsarCodec(ScriptCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size; coding is table look-ups only."""

    max_error = 0
    format = 1
    exact = True

    def __init__(self, name: str, weights: DsarWeights) -> None:
        self.name = name
        self.fingerprint = fingerprint(weights.state)
        self.values = weights.network.config.values
        rows, table_of, context = weights.tables.weights, weights.tables.table_of, weights.tables.context
        self._tables = {3: StateTables(rows, table_of, context), 1: StateTables(rows, table_of[:1], context)}

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one or three channels, and no values that the model does not know."""
        if array.dtype != np.uint8 or array.shape[0] not in self._tables:
            raise UnsupportedInputError(f"{self.name} codes 8-bit pictures, grey or RGB")
        if array.size and array.max() >= self.values:
            raise UnsupportedInputError(f"{self.name} codes values below {self.values}")

    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """See `ScriptCodec.script`."""
        tables = self._tables[head.shape[0]]
        raw = None if x is None else np.uint32(tables.bits(x[None]) > 8 * x.size)
        if int(io.bits(1, raw)):
            return io.bits(8, x, head.shape).astype(np.uint8)
        return io.states(tables, None if x is None else x[None], (1, *head.shape))[0].astype(np.uint8)


def build(weights: Path | None, device: str, threads: int) -> DsarCodec:
    """`fsar.dsar`; `weights`: a file that was trained here, as none comes with the package."""
    return DsarCodec("fsar.dsar", load(weights or shipped("fsar.dsar")))
