"""The codec: symbols with their prior, then every sub-pixel with the distribution that the decoder network gives it.

Byte formats fsar/v1 to fsar/v3, through the coder in this order:

    1 bit          0: as below; 1: H * W * C raw bytes follow (pictures that the model would make larger than that)
    L * h * w      symbols of the latent grid; without a context: group after group, rows top to bottom, table = group;
                   with one: `CodingIO.states` with the stored tables; otherwise as `latents.latent_of` says
    C * H * W      Gaussians: x - centre of every sample; row and centre from `PixelTables.select` in v1 and
                   `PixelTables.fine` in v2 and v3
                   linear and causal heads: `CodingIO.pixels`
                   mixtures: `CodingIO.mixture`, in bands of 64 latent rows, colour after colour

h and w are H and W divided by 2^D, rounded up. The decoder network runs in exact integer arithmetic, so the same file
decodes on every machine, with any number of threads, alone or in a batch: `IntegerDecoder` in v1, `ByteDecoder` in v2
and v3, which differ in how far its numbers reach. Models with a Gaussian that needs nothing but codes are written as
v3, all others as v1; older formats are read from all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from cbench.coding import CodingIO, ScriptCodec
from cbench.coding.container import Header
from cbench.errors import BitstreamError, UnsupportedInputError
from cbench.models.fsar import checkpoint
from cbench.models.fsar.byte_decoder import UP_REACH, ByteDecoder
from cbench.models.fsar.integer import IntegerDecoder, to_numpy
from cbench.models.fsar.latents import latent_of
from cbench.models.fsar.network import Encoder, Residual
from cbench.models.fsar.pixels import pixel_tables
from cbench.models.fsar.quantizers import Quantizer
from cbench.nn.running import device_of, running
from cbench.nn.tiling import tiles
from cbench.zoo.weights import shipped

Item = TypeVar("Item")

TILE = 64
"""Side of a tile in latent positions."""
ENCODER_POSITIONS = 16384
"""Latent positions that the encoder handles in one batch."""
DECODER_PIXELS = {False: 2048, True: 16384}
"""Pixels that the decoders of v1 and the others take at once: activations should stay in the second-level cache."""
LOG2 = np.log2(np.arange(256, dtype=np.float32) + 1)
GREY_CHANNEL = 1
"""A grey picture is shown to the network as R = G = B and coded with the parameters of green."""


@dataclass
class _Plan:
    """What is known of one picture on the way through the script."""

    shape: tuple[int, int, int]
    version: int = 1
    """The byte format."""
    symbols: np.ndarray | None = None
    """(L, h, w) int64 categories; None: not known yet, or the picture is coded raw."""
    parameters: Any = None
    """What `_parameters` gave for this picture; None: not yet."""


class FsarCodec(ScriptCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size; this class has Gaussians for the pixels."""

    max_error = 0
    exact = True

    def __init__(self, name: str, weights: checkpoint.Weights, device: str = "cpu", threads: int = 1) -> None:
        """Prepare networks and tables.

        Raises:
            ConfigError: a device that is not there, or weights too large for exact sums.
        """
        self.name = name
        self.threads = threads
        self.fingerprint = weights.fingerprint()
        self.config = weights.network.config
        self._device = device_of(device)
        self._encoder = fused(weights.network.encoder).to(self._device, memory_format=torch.channels_last)
        self._quantizer = weights.network.quantizer.to(self._device)
        self._decoder = IntegerDecoder(weights.network).to(self._device)
        self._fine_decoder: ByteDecoder | None = None
        self._older: dict[int, ByteDecoder] = {}
        if self.config.has_codes and self.config.pixels == "gaussian":
            self._network = weights.network
            self._fine_decoder = ByteDecoder(weights.network, self._decoder).to(self._device)
        self._tile = TILE // 2 if self.config.levels else TILE
        self.format = 1 if self._fine_decoder is None else max(UP_REACH)
        self._latent = latent_of(weights)
        self._prepare(weights)

    def _prepare(self, weights: checkpoint.Weights) -> None:
        self._pixels = pixel_tables()

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one or three channels."""
        if array.dtype != np.uint8:
            raise UnsupportedInputError(f"{self.name} codes 8-bit pictures (uint8), not {array.dtype}")
        if array.shape[0] not in (1, 3):
            raise UnsupportedInputError(f"{self.name} codes grey or RGB pictures, not {array.shape[0]} channels")

    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """See `ScriptCodec.script`."""
        return self.script_many([io], [head], [x])[0]

    def script_many(
        self, ios: Sequence[CodingIO], heads: Sequence[Header], xs: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """See `ScriptCodec.script_many`; the networks run on batches of pictures of equal size."""
        with running(self.threads):
            plans = [_Plan(head.shape, head.format) for head in heads]
            given = [(plan, x) for plan, x in zip(plans, xs, strict=True) if x is not None]
            self._analyse(given)
            self._predict([plan for plan, _ in given])
            for plan, x in given:
                if looks_random(x) and self._latent.bits(plan.symbols) + self._pixel_bits(plan, x) > 8 * x.size:
                    plan.symbols = plan.parameters = None
            raw = [self._code_start(*item) for item in zip(ios, plans, xs, strict=True)]
            self._predict([plan for plan in plans if plan.parameters is None and plan.symbols is not None])
            return [
                self._code_pixels(io, plan, x) if pixels is None else pixels
                for io, plan, x, pixels in zip(ios, plans, xs, raw, strict=True)
            ]

    def _code_start(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray | None:
        """Everything before the pixels; returns the picture if it is coded raw."""
        if int(io.bits(1, None if x is None else np.uint32(plan.symbols is None))):
            return io.bits(8, x, plan.shape).astype(np.uint8)
        plan.symbols = self._latent.code(io, plan.symbols, (self.config.planes, *self._grid(plan.shape)))
        return None

    def _code_pixels(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray:
        row, centre = plan.parameters
        residual = io.code(self._pixels.tables, row, None if x is None else x.astype(np.int32) - centre)
        if x is not None:
            return x
        values = residual + centre
        if values.view(np.uint32).max() > 255:  # negative ones are large without their sign
            raise BitstreamError("the data decodes to pixel values outside 0..255")
        return values.astype(np.uint8)

    def _pixel_bits(self, plan: _Plan, x: np.ndarray) -> float:
        """Size of the pixels in bits."""
        row, centre = plan.parameters
        return self._pixels.tables.bits(x.astype(np.int32) - centre, row)

    def _grid(self, shape: tuple[int, int, int]) -> tuple[int, int]:
        """Size of the latent grid of a picture."""
        return -(-shape[1] // self.config.stride), -(-shape[2] // self.config.stride)

    def _analyse(self, given: Sequence[tuple[_Plan, np.ndarray]]) -> None:
        """Pictures -> symbols. Nothing here has to be exact: whatever symbols come out are the ones that are coded."""
        for batch in self._batches(given, lambda item: item[0].shape, ENCODER_POSITIONS):
            symbols = self._symbols(np.stack([x for _, x in batch]))
            for (plan, _), own in zip(batch, symbols, strict=True):
                plan.symbols = own

    def _symbols(self, x: np.ndarray) -> np.ndarray:
        """Pictures (B, C, H, W) uint8 -> (B, L, h, w) int64."""
        stride, (h, w) = self.config.stride, self._grid(x.shape[1:])
        rest = ((0, 0), (0, 0), (0, h * stride - x.shape[2]), (0, w * stride - x.shape[3]))
        picture = torch.from_numpy(np.pad(x, rest, mode="edge")).to(self._device).float().div_(255)
        picture = picture.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        out, finer = np.empty((len(x), self.config.planes, h, w), np.int64), 1 << self.config.levels
        for rows, columns in tiles(h, w, self._tile, self._encoder_margin):
            z = self._encoder(picture[:, :, rows.of("outer", stride), columns.of("outer", stride)])
            z = z[:, :, rows.of("inner", finer), columns.of("inner", finer)]
            out[:, :, rows.of("target"), columns.of("target")] = symbols_of(self._quantizer, z)
        return out

    @property
    def _encoder_margin(self) -> int:
        return self.config.residuals + self.config.downsamples

    def _predict(self, plans: Sequence[_Plan]) -> None:
        """Symbols -> parameters of the pixels' distributions, exactly."""
        if not plans:
            return
        positions = DECODER_PIXELS[plans[0].version > 1] // self.config.stride**2
        for batch in self._batches(plans, lambda plan: plan.shape, positions):
            found = self._parameters(np.stack([plan.symbols for plan in batch]), batch[0])
            for plan, own in zip(batch, found, strict=True):
                plan.parameters = own

    def _parameters(self, symbols: np.ndarray, plan: _Plan) -> Iterable[Any]:
        """Symbols (B, L, h, w) of pictures with the shape of that plan -> what each needs to code its pixels."""
        return zip(*self._rows(symbols, plan.shape, plan.version), strict=True)

    def _rows(
        self, symbols: np.ndarray, shape: tuple[int, int, int], version: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Symbols (B, L, h, w) -> what `_chosen` gives, each (B, C, H, W) for pictures of that (C, H, W)."""
        stride = self.config.stride
        channels, height, width = shape
        latent = torch.from_numpy(np.ascontiguousarray(symbols, np.int64)).to(self._device)
        found: list[np.ndarray] = []
        chosen = slice(None) if channels == 3 else slice(GREY_CHANNEL, GREY_CHANNEL + 1)
        for rows, columns in tiles(*symbols.shape[2:], self._tile, self._decoder.halo):
            outer = latent[:, :, rows.of("outer"), columns.of("outer")]
            where = (slice(None), chosen, rows.of("inner", stride), columns.of("inner", stride))
            top, left = rows.of("target", stride), columns.of("target", stride)
            bottom, right = min(top.stop, height) - top.start, min(left.stop, width) - left.start
            if version > 1:
                places = self._byte_decoder(version)(outer).cpu().numpy()[where]
                own = tuple(table.take(places) for table in self._pixels.fine)
            else:
                mean, level = to_numpy(*self._decoder(outer))
                own = self._chosen(mean[where], level[where])
            found = found or [np.empty((len(symbols), *shape), part.dtype) for part in own]
            for whole, part in zip(found, own, strict=True):
                whole[:, :, top, left] = part[:, :, :bottom, :right]
        return found[0], found[1]

    def _byte_decoder(self, version: int) -> ByteDecoder:
        """That of a byte format above 1; older ones are made when a file asks for them."""
        if version == max(UP_REACH):
            return self._fine_decoder
        if version not in self._older:
            self._older[version] = ByteDecoder(self._network, self._decoder, version).to(self._device)
        return self._older[version]

    def _chosen(self, mean: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and centre of each sub-pixel."""
        row, centre = self._pixels.select(mean, level)
        return row.astype(np.uint16), centre.astype(np.int16)

    def _batches(
        self, items: Iterable[Item], shape_of: Callable[[Item], tuple[int, int, int]], positions: int
    ) -> Iterator[list[Item]]:
        """Items of equal shape together, as many as make about so many latent positions."""
        by_shape: dict[tuple[int, int, int], list[Item]] = {}
        for item in items:
            by_shape.setdefault(shape_of(item), []).append(item)
        for shape, group in by_shape.items():
            count = max(1, positions // math.prod(self._grid(shape)))
            for start in range(0, len(group), count):
                yield group[start : start + count]


def looks_random(x: np.ndarray) -> bool:
    """Whether neighbours in some rows of x (C, H, W) uint8 differ so much that storing it raw may be shorter.

    Adding up the true cost takes as long as coding, so it is only done where this says so. The bound leaves a wide
    margin: photographs have 1 to 3.5 here, noise has 6.
    """
    differences = np.abs(np.diff(x[:, ::3].astype(np.int16), axis=2))
    return x.shape[2] < 8 or float(LOG2[differences].mean()) > 3.6


def symbols_of(quantizer: nn.Module, z: Tensor) -> np.ndarray:
    """Z (B, C, h, w) -> symbols (B, L, h, w) int64."""
    if not isinstance(quantizer, Quantizer):
        return quantizer.symbols(z).cpu().numpy()
    b, _, h, w = z.shape
    return nearest(quantizer, quantizer.split(z)).reshape(b, h, w, -1).transpose(0, 3, 1, 2)


def nearest(quantizer: Quantizer, f: Tensor) -> np.ndarray:
    """Code of each vector f (N, L, E) -> (N, L) int64; numpy's arg-max is several times faster than torch's."""
    bias, codebook = quantizer.bias(), quantizer.codebook
    scores = (torch.addmm(bias[g], f[:, g], codebook[g].T) for g in range(len(codebook)))
    return np.stack([score.cpu().numpy().argmax(1) for score in scores], 1)


def fused(encoder: Encoder) -> nn.Module:
    """The encoder with its batch norms folded into the convolutions; float arithmetic, so only for encoding."""
    encoder = deepcopy(encoder).eval()
    _fuse(encoder)
    for layer in encoder.modules():
        if isinstance(layer, Residual):
            _fuse(layer.block)
    return encoder


def _fuse(layers: nn.Sequential) -> None:
    """Replace every batch norm behind a convolution by nothing, and that convolution by one that does both."""
    for i, (layer, following) in enumerate(pairwise(list(layers))):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()


def open_codec(name: str, weights: checkpoint.Weights, device: str = "cpu", threads: int = 1) -> FsarCodec:
    """The codec that fits the weights."""
    if weights.network.config.pixels == "causal":
        from cbench.models.fsar.causal_codec import CausalCodec

        return CausalCodec(name, weights, device, threads)
    if weights.network.config.pixels == "linear":
        from cbench.models.fsar.linear_codec import LinearCodec

        return LinearCodec(name, weights, device, threads)
    if weights.network.config.pixels in ("mixture", "mixture-colour"):
        from cbench.models.fsar.mixture_codec import MixtureCodec

        return MixtureCodec(name, weights, device, threads)
    if weights.network.config.quantizer == "vae":
        from cbench.models.fsar.bits_back import BitsBackCodec

        return BitsBackCodec(name, weights, device, threads)
    return FsarCodec(name, weights, device, threads)


def cifar10(weights: Path | None, device: str, threads: int) -> FsarCodec:
    """`fsar.cifar10`: the `V2DVQ-c2` baseline trained on CIFAR-10; `weights`: ours or the original's checkpoint."""
    return open_codec("fsar.cifar10", checkpoint.load(weights or shipped("fsar.cifar10")), device, threads)


def ar(weights: Path | None, device: str, threads: int) -> FsarCodec:
    """`fsar.ar`: few latents and a causal head for the pixels, trained on CIFAR-10; the smallest files."""
    return open_codec("fsar.ar", checkpoint.load(weights or shipped("fsar.ar")), device, threads)
