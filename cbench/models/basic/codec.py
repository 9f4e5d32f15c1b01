"""The codec: z with its factorised prior, then y by the steps of its order, then the synthesis.

Byte format basic/v1. The header's private parameters are three bytes, what the decoder must run: the candidates of z ->
y and of y -> x and the coder of y. Through the coder:

    Z * h/4 * w/4   z: integers, one table a channel; channel by channel, rows top to bottom
    M * h * w       y - mean: step by step of the compiled order; inside a step by channel group, position and channel,
                    each with the table of its scale

h and w are H and W divided by 64, rounded up, times 4. Everything that decides a table is exact integer arithmetic, so
the symbols are the same on every machine; the synthesis is float32, and the check in the header covers the symbols. The
candidates of x -> y and y -> z are the encoder's own business.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cbench.coding import CodingIO, ScriptCodec
from cbench.coding.container import Header
from cbench.errors import BitstreamError, ConfigError
from cbench.models.basic import checkpoint
from cbench.models.basic.complexity import Complexity, Cost
from cbench.models.basic.integer import (
    BITS,
    LARGEST_SYMBOL,
    MEAN_BITS,
    IntegerHyperSynthesis,
    IntegerUnit,
)
from cbench.models.basic.network import STRIDE, Structure
from cbench.models.basic.orders import compile_order
from cbench.models.basic.search import spread
from cbench.models.basic.timing import Timing
from cbench.nn.factorized import FactorizedTables
from cbench.nn.gaussian import gaussian_tables, scale_index
from cbench.nn.pictures import check_picture, round_up, to_pictures, to_tensor
from cbench.nn.running import device_of, running
from cbench.zoo.weights import shipped

LEVELS = 8
"""Complexity levels that `with_complexity` offers: 0 the most complex, 7 the least."""


@dataclass(frozen=True)
class Analysis:
    """What the encoder found in one picture."""

    y: np.ndarray
    """(M, h, w) float32."""
    z: np.ndarray
    """(Z, h / 4, w / 4) float32."""


class BasicCodec(ScriptCodec):
    """Lossy codec for 8-bit RGB and grey pictures of any size, at a complexity that the encoder chooses."""

    max_error = None
    format = 1
    exact = True
    checks_symbols = True

    def __init__(self, name: str, weights: checkpoint.Weights, device: str = "cpu", threads: int = 1) -> None:
        """Prepare the networks; those that decide tables run on the CPU, in exact arithmetic.

        Raises:
            ConfigError: a device that is not there, or weights too large for exact sums.
        """
        self.name = name
        self.threads = threads
        self.fingerprint = weights.fingerprint()
        self.config = weights.network.config
        self.front = weights.front
        self.structure = weights.front[0]
        """What `compress` runs."""
        self._device = device_of(device)
        self.network = weights.network.to(self._device)
        self._tables = weights.tables
        self._complexity = Complexity(weights.network)
        self._hyper: dict[int, IntegerHyperSynthesis] = {}
        self._units: dict[int, IntegerUnit] = {}

    def cost(self, structure: Structure | None = None) -> Cost:
        """KMAC a pixel of a structure; None: of the present one."""
        return self._complexity.cost(structure or self.structure)

    def with_structure(self, structure: Structure) -> BasicCodec:
        """The same codec, compressing with that structure; decoding takes every file's own.

        Raises:
            ConfigError: choices that this model does not have.
        """
        self.network.check(structure)
        other = copy(self)
        other.structure = structure
        return other

    def with_complexity(self, level: int) -> BasicCodec:
        """The same codec at one of 8 levels, from the most (0) to the least complex (7).

        They are those structures of the front whose KMAC a pixel fall as evenly, in ratio, as the front allows.

        Raises:
            ConfigError: no such level.
        """
        if not 0 <= level < LEVELS:
            raise ConfigError(f"complexity (={level}) must lie in 0..{LEVELS - 1}")
        places = spread([self.cost(structure).total for structure in self.front], LEVELS)
        return self.with_structure(self.front[places[level]])

    def with_max_kmac(self, limit: float) -> BasicCodec:
        """The same codec with the best structure that costs at most `limit` KMAC a pixel, encoder and decoder together.

        Raises:
            ConfigError: even the cheapest one costs more.
        """
        return self._first_within(limit, [self.cost(s).total for s in self.front], "KMAC a pixel")

    def with_max_ms(self, limit: float, shape: tuple[int, int] = (512, 768)) -> BasicCodec:
        """The same codec with the best structure that codes and decodes a picture in at most `limit` ms, as predicted.

        The prediction adds up what the parts take on this machine, measured at the first call (some seconds).

        Args:
            limit: milliseconds, encoder and decoder together.
            shape: (H, W) of the picture.

        Raises:
            ConfigError: even the fastest one takes longer.
        """
        timing = Timing.of(self, shape)
        return self._first_within(limit, [timing.predict(s).total for s in self.front], "ms")

    def _first_within(self, limit: float, costs: list[float], unit: str) -> BasicCodec:
        """The front is sorted by falling complexity and rising loss, so the first that fits is the best."""
        for structure, cost in zip(self.front, costs, strict=True):
            if cost <= limit:
                return self.with_structure(structure)
        raise ConfigError(f"the limit of {limit:g} {unit} is below the least that {self.name} needs, {min(costs):.4g}")

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one or three channels."""
        check_picture(array, self.name)

    def params(self) -> bytes:
        """What the decoder must run."""
        return bytes([self.structure.z_y, self.structure.y_x, self.structure.coder])

    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """See `ScriptCodec.script`; the encoder does not run the synthesis and returns what it was given."""
        structure = self._structure_of(head)
        with running(self.threads):
            found = None if x is None else self.analyse(x)
            y_hat = self.code(io, structure, head.shape[1:], found)
            return self.synthesise(y_hat, structure, head.shape) if x is None else x

    def analyse(self, x: np.ndarray) -> Analysis:
        """Run x -> y -> z on a picture (C, H, W)."""
        edges, s = self.network.edges, self.structure
        y = edges["x_y"](to_tensor([x], STRIDE).to(self._device), s.x_y)
        z = edges["y_z"](y.abs() if self.config.magnitudes else y, s.y_z)
        return Analysis(y[0].cpu().numpy(), z[0].cpu().numpy())

    def code(self, io: CodingIO, structure: Structure, size: tuple[int, int], found: Analysis | None) -> np.ndarray:
        """Z and y through the coder, `found` None when decoding; y_hat (M, h, w) int32 in units of 2^-MEAN_BITS."""
        h, w = (round_up(n, STRIDE) // STRIDE for n in size)
        prior_of_z = self.z_tables(structure)
        given = None if found is None else prior_of_z.symbols(found.z)
        symbols = prior_of_z.code(io, given, (len(prior_of_z.size), h, w))
        prior = self.prior(prior_of_z.values(symbols.astype(np.int64), BITS), structure.z_y)
        return self.code_y(io, structure.coder, prior, None if found is None else found.y)

    def z_tables(self, structure: Structure) -> FactorizedTables:
        """The prior of z: that of its width where latents are slimmable."""
        return self._tables[len(self._tables) - 1 - structure.z_y if len(self._tables) > 1 else 0]

    def prior(self, z_hat: np.ndarray, choice: int) -> Tensor:
        """z_hat (Z, h, w) integers in units of 2^-BITS -> the prior of y (4h, 4w, 2M), the same on every machine."""
        z = torch.from_numpy(z_hat.astype(np.float64))
        return self._integer_hyper(choice)(z.permute(1, 2, 0)[None])[0]

    def code_y(self, io: CodingIO, coder: int, prior: Tensor, y: np.ndarray | None) -> np.ndarray:
        """Y (M, h, w) through the coder, None when decoding; y_hat as `code` gives it."""
        if self.config.framework == "hyperprior":
            return _code_by_scale(io, y, prior)
        model = self.network.y_coders[coder]
        schedule = compile_order(model.order(*prior.shape[:2]), model.config.kernel)
        return self._integer_unit(coder).code(io, y, prior, schedule)[1]

    def synthesise(self, y_hat: np.ndarray, structure: Structure, shape: tuple[int, int, int]) -> np.ndarray:
        """y_hat (M, h, w) int32 -> picture (C, H, W) uint8."""
        y = torch.from_numpy(y_hat)[None].to(self._device).float() / (1 << MEAN_BITS)
        return to_pictures(self.network.edges["y_x"](y, structure.y_x), shape)[0]

    def _structure_of(self, head: Header) -> Structure:
        """The structure of a file: its own for what the decoder runs, ours for the rest."""
        if len(head.params) != 3:
            raise BitstreamError(f"a file of {self.name} has 3 bytes of parameters, not {len(head.params)}")
        z_y, y_x, coder = head.params
        structure = replace(self.structure, z_y=z_y, y_x=y_x, coder=coder)
        if self.config.slim_latents:
            structure = replace(structure, x_y=z_y, y_z=z_y)
        try:
            self.network.check(structure)
        except ConfigError:
            raise BitstreamError(f"the file was made with a structure that {self.name} does not have") from None
        return structure

    def _integer_hyper(self, choice: int) -> IntegerHyperSynthesis:
        if choice not in self._hyper:
            edge = self.network.edges["z_y"]
            inputs = edge.widths[-1 - choice] if self.config.slim_latents else self.config.hyper
            self._hyper[choice] = IntegerHyperSynthesis(edge, inputs, choice)
        return self._hyper[choice]

    def _integer_unit(self, coder: int) -> IntegerUnit:
        if coder not in self._units:
            self._units[coder] = IntegerUnit(self.network.y_coders[coder].model)
        return self._units[coder]


def _code_by_scale(io: CodingIO, y: np.ndarray | None, prior: Tensor) -> np.ndarray:
    """Y without means, scales straight from the prior (h, w, M): the hyperprior."""
    index = scale_index(prior.permute(2, 0, 1).numpy(), BITS)
    symbols = None if y is None else np.rint(y).clip(-LARGEST_SYMBOL, LARGEST_SYMBOL).astype(np.int32)
    found = io.code(gaussian_tables(), index, symbols)
    return (found.astype(np.int64) << MEAN_BITS).clip(-(1 << 30), 1 << 30).astype(np.int32)


def open_codec(name: str, weights: Path | None, device: str = "cpu", threads: int = 1) -> BasicCodec:
    """The codec with a weights file, None: the shipped one of that name."""
    return BasicCodec(name, checkpoint.load(weights or shipped(name)), device, threads)


def photos_1(weights: Path | None, device: str, threads: int) -> BasicCodec:
    """`basic.photos-1`: trained on photographs for low rates (lambda 39)."""
    return open_codec("basic.photos-1", weights, device, threads)


def photos_3(weights: Path | None, device: str, threads: int) -> BasicCodec:
    """`basic.photos-3`: trained on photographs for middle rates (lambda 145)."""
    return open_codec("basic.photos-3", weights, device, threads)
