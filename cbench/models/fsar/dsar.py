"""The data-space models ("dsar"): FSAR without an autoencoder, on the pixels themselves.

The distribution of a sub-pixel is a network's output for the values of one to three decoded neighbours (with one more
state for "outside"); evaluated for every combination, it becomes tables. Byte format fsar/v1 of these models: one bit
as in `codec`, then the C * H * W samples through `CodingIO.states`. Those with a convolution have `contexts.ConvLatent`
in its place: the same sums of table rows as over latents, all colours of a position with one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cbench.coding import CodingIO, ScriptCodec, StateTables
from cbench.coding.container import Header
from cbench.errors import ConfigError, UnsupportedInputError
from cbench.models.fsar.contexts import ConvLatent, ConvTables, conv_tables
from cbench.models.fsar.dsar_config import DsarConfig
from cbench.models.fsar.dsar_networks import COLOURS, DsarNetwork, MaskedNetwork, StateNetwork, build_network
from cbench.models.fsar.latents import Latent
from cbench.models.fsar.tables import PriorTables, context_tables
from cbench.zoo.checkpoints import CONFIG, check_shapes, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights, shipped

TABLES = ("tables.weights", "tables.table_of")
"""Keys of the integer tables in a weights file, beside the network's own keys."""
GREY_CHANNEL = 1
"""To a convolution a grey picture is R = G = B, coded as green; tables code it as red."""


@torch.no_grad()
def pixel_states(network: StateNetwork, seen: np.ndarray | None = None) -> PriorTables:
    """The network as integer tables; `seen`: training pictures (B, 3, H, W), see `tables.context_tables`."""

    def evaluate(colour: int, states: np.ndarray) -> Tensor:
        return network.log_probabilities(colour, torch.from_numpy(states))

    config = network.config
    return context_tables(COLOURS, config.context, np.arange(config.values), evaluate, seen)


@dataclass(frozen=True)
class DsarWeights:
    """A network and its tables."""

    network: DsarNetwork
    tables: PriorTables | None
    """None: a convolution, whose tables are made when the codec is."""

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        state = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        if self.tables is not None:
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
    model = build_network(unpack_config(state, DsarConfig))
    tensors = {name: torch.from_numpy(state[name].copy()) for name in state if name not in (CONFIG, *TABLES)}
    check_shapes("a data-space FSAR model", model.state_dict(), tensors)
    model.load_state_dict(tensors)
    model.eval().requires_grad_(False)
    if isinstance(model, MaskedNetwork):
        return DsarWeights(model, None)
    if not all(name in state for name in TABLES):
        raise ConfigError(f"these weights do not fit a data-space FSAR model: {TABLES[0]}")
    kept = np.arange(model.config.values, dtype=np.uint16)
    return DsarWeights(model, PriorTables(*(state[name] for name in TABLES), kept, model.config.context))


class _Neighbours:
    """Pixels whose tables their neighbours select."""

    def __init__(self, tables: PriorTables, colours: int) -> None:
        self._tables = StateTables(tables.weights, tables.table_of[:colours], tables.context)

    def code(self, io: CodingIO, x: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """See `latents.Latent.code`."""
        return io.states(self._tables, None if x is None else x[None], (1, *shape))[0]

    def bits(self, x: np.ndarray) -> float:
        """See `latents.Latent.bits`."""
        return self._tables.bits(x[None])


def convolution(network: MaskedNetwork) -> dict[int, Latent]:
    """What codes colour pictures (3) and grey ones (1), whose three equal colours add up."""
    values = network.config.values
    conv = deepcopy(network.conv)
    conv.bias += network.prior_logits.flatten()
    colour = conv_tables(conv, network.mask, torch.eye(values).expand(COLOURS, -1, -1))
    green = slice(GREY_CHANNEL * values, (GREY_CHANNEL + 1) * values)
    grey = ConvTables(colour.taps, colour.lookup[..., green].sum(1, keepdims=True, dtype=np.int32), colour.bias[green])
    return {3: ConvLatent(colour, None), 1: ConvLatent(grey, None)}


class DsarCodec(ScriptCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size; coding is table look-ups, or sums of them."""

    max_error = 0
    format = 1
    exact = True

    def __init__(self, name: str, weights: DsarWeights) -> None:
        self.name = name
        self.fingerprint = fingerprint(weights.state)
        self.values = weights.network.config.values
        if weights.tables is None:
            self._pixels = convolution(weights.network)
        else:
            self._pixels = {colours: _Neighbours(weights.tables, colours) for colours in (3, 1)}

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one or three channels, and no values that the model does not know."""
        if array.dtype != np.uint8 or array.shape[0] not in self._pixels:
            raise UnsupportedInputError(f"{self.name} codes 8-bit pictures, grey or RGB")
        if array.size and array.max() >= self.values:
            raise UnsupportedInputError(f"{self.name} codes values below {self.values}")

    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """See `ScriptCodec.script`."""
        pixels = self._pixels[head.shape[0]]
        raw = None if x is None else np.uint32(pixels.bits(x) > 8 * x.size)
        if int(io.bits(1, raw)):
            return io.bits(8, x, head.shape).astype(np.uint8)
        return pixels.code(io, x, head.shape).astype(np.uint8)


def build(weights: Path | None, device: str, threads: int) -> DsarCodec:
    """`fsar.dsar`; `weights`: a file that was trained here, as none comes with the package."""
    return DsarCodec("fsar.dsar", load(weights or shipped("fsar.dsar")))
