"""The symbols of the latent grid through the coder, with each kind of prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cbench.coding import CodingIO, CountIO, Tables
from cbench.models.fsar.checkpoint import Weights
from cbench.models.fsar.contexts import ConvLatent, conv_tables
from cbench.models.fsar.tables import PriorTables
from cbench.models.fsar.volumes import MlpLatent, VolumeLatent

if TYPE_CHECKING:
    from cbench.nn.factorized import FactorizedTables  # brings CompressAI with it


class Latent(Protocol):
    """What codes the symbols."""

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols (L, h, w) of one picture through the coder; None when decoding."""
        ...

    def bits(self, symbols: np.ndarray) -> float:
        """Their code length."""
        ...


def latent_of(weights: Weights) -> Latent:
    """The one that fits the weights."""
    network = weights.network
    if weights.factorized is not None:
        return FactorizedLatent(weights.factorized)
    if weights.tables is not None:
        return ContextLatent(weights.tables)
    if network.config.context:
        return MlpLatent(network.prior, network.quantizer.codebook)
    if network.config.convolution == "volume":
        return VolumeLatent(network.prior, network.quantizer.codebook)
    if network.config.convolution != "none":
        start = Tables.from_weights(weights.counts) if network.config.static_prior else None
        return ConvLatent(conv_tables(network.prior.conv, network.prior.mask, network.quantizer.codebook), start)
    if network.config.quantizer == "mcquic":
        return StaticLatent(*network.quantizer.tables())
    if network.config.quantizer == "vae":  # its intervals are equally likely
        return StaticLatent(np.ones((network.config.planes, network.quantizer.integer_values(0).size), np.uint32))
    return StaticLatent(weights.counts)


class StaticLatent:
    """Symbols with the frequencies of their group."""

    def __init__(self, weights: np.ndarray | Sequence[np.ndarray], table: np.ndarray | None = None) -> None:
        """`table`: (L,) the row of weights that each group has; None: its own."""
        self._tables = Tables.from_weights(weights)
        self._table = np.arange(len(self._tables)) if table is None else table

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols (L, h, w), through the coder."""
        return io.code(self._tables, self._rows(shape), symbols)

    def bits(self, symbols: np.ndarray) -> float:
        """Their code length."""
        return self._tables.bits(symbols, self._rows(symbols.shape))

    def _rows(self, shape: tuple[int, int, int]) -> np.ndarray:
        return np.broadcast_to(self._table.astype(np.uint16)[:, None, None], shape)


class FactorizedLatent:
    """Rounded values with the tables of their channel (entropy bottleneck)."""

    def __init__(self, tables: FactorizedTables) -> None:
        self._tables = tables

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """See `Latent.code`."""
        return self._tables.code(io, symbols, shape).astype(np.int64)

    def bits(self, symbols: np.ndarray) -> float:
        """See `Latent.bits`."""
        io = CountIO()
        self._tables.code(io, symbols, symbols.shape)
        return io.total


class ContextLatent:
    """Symbols with tables that their neighbours select (FSAR)."""

    def __init__(self, tables: PriorTables) -> None:
        self._prior = tables
        self._tables = tables.state_tables()

    @property
    def nbytes(self) -> int:
        """Memory of the coder's tables."""
        return self._tables.nbytes

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """See `Latent.code`."""
        given = None if symbols is None else self._prior.reduce(symbols)[None]
        return self._prior.expand(io.states(self._tables, given, (1, *shape))[0])

    def bits(self, symbols: np.ndarray) -> float:
        """See `Latent.bits`."""
        return self._tables.bits(self._prior.reduce(symbols)[None])
