"""The codec: z with its factorised prior, then y slice after slice with Gaussians that h_s and ChARM give it.

Byte format tbtc/v2, through the coder in this order, every block as (channel, row, column):

    C6 * h * w        symbols of z, table = channel; h and w are H and W divided by 64, rounded up
    [8 bits]          Swin models: the rounding offset of h_s's output
    for each slice    s * 4h * 4w symbols of y: round((y - mu) / step), table = index of scale / step (without ChARM:
                      one slice of all C4)

The header has one byte of parameters, the signed quality q: step = 2^(-q/8). Format v1 has none, and a step of 1.

What decides a table is computed exactly (see exact.py), so the same file decodes to the same symbols on every machine,
with any number of threads; the header's check covers the symbols. g_s then runs in float32: a pixel may differ by one
level between machines.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cbench.coding import CodingIO, DecodeIO, ScriptCodec
from cbench.coding.container import Header, unpack
from cbench.coding.distributions import exp_fixed
from cbench.errors import BitstreamError, ConfigError
from cbench.models.tbtc import checkpoint
from cbench.models.tbtc.config import SIDE
from cbench.models.tbtc.exact import BITS, GRID, ExactPrior, round_with, safe_offset
from cbench.nn.gaussian import gaussian_tables, scale_index
from cbench.nn.pictures import check_picture, round_up, to_pictures, to_tensor
from cbench.nn.running import device_of, running
from cbench.zoo.weights import shipped

LARGEST = 1 << 20
"""Symbols of y are clamped to this."""
QUALITIES = range(-24, 17)
"""Of files; 0 is what the weights were trained for, 8 more halve the step of y."""


@cache
def step_of(quality: int) -> int:
    """Step of y in units of 2^-BITS."""
    log_2 = Fraction(Context(prec=40).ln(Decimal(2)))
    return exp_fixed(log_2 * Fraction(-quality, 8), BITS)


@dataclass(frozen=True)
class Latents:
    """What the encoder makes of a picture."""

    y: np.ndarray
    """(C4, 4h, 4w) float64."""
    z: np.ndarray
    """(C6, h, w) int32, the symbols."""


class TbtcCodec(ScriptCodec):
    """Lossy codec for 8-bit RGB and grey pictures of any size."""

    max_error = None
    format = 2
    checks_symbols = True
    qualities = QUALITIES

    def __init__(
        self, name: str, weights: checkpoint.Weights, device: str = "cpu", threads: int = 1, *, half: bool = False
    ) -> None:
        """Prepare networks and tables.

        Args:
            name: as in `cbench.load_codec`.
            weights: of any TBTC model.
            device: where networks run.
            threads: of the CPU.
            half: run g_a in bfloat16: encodes about twice as fast into slightly larger files that anyone decodes.

        Raises:
            ConfigError: a device that is not there, or weights too large for exact sums.
        """
        self.name = name
        self.threads = threads
        self._half = half
        self._quality = 0
        self.fingerprint = weights.fingerprint()
        self.config = weights.network.config
        self._device = device_of(device)
        network = weights.network.to(self._device)
        if self.config.transform == "conv":
            network = network.to(memory_format=torch.channels_last)
        self._g_a, self._h_a, self._g_s = network.g_a, network.h_a, network.g_s
        self._prior = ExactPrior(network).to(self._device)
        self._hyper_tables = weights.tables

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one or three channels."""
        check_picture(array, self.name)

    def with_quality(self, quality: int) -> TbtcCodec:
        """The same codec with another step for y, for compressing; files say which step they have.

        Raises:
            ConfigError: a quality that is not in `qualities`.
        """
        if quality not in QUALITIES:
            raise ConfigError(f"quality (={quality}) of {self.name} must lie in {QUALITIES[0]}..{QUALITIES[-1]}")
        other = copy(self)
        other._quality = quality
        return other

    def params(self) -> bytes:
        """The quality."""
        return self._quality.to_bytes(1, "little", signed=True)

    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """See `ScriptCodec.script`; the encoder does not run g_s and returns what it was given."""
        with running(self.threads):
            y_hat = self.code_latents(io, head, None if x is None else self._latents(x))
            return self._picture(y_hat, head) if x is None else x

    def preview(self, data: bytes, slices: int) -> np.ndarray:
        """Decode only the first slices of y and expect the rest: what a file that is still arriving looks like.

        Args:
            data: the whole file.
            slices: 0 .. `config.slices`; all of them give what `decompress` gives.

        Raises:
            ConfigError: a number of slices that there is not.
            BitstreamError: as for `decompress`.
            WrongModelError: as for `decompress`.
        """
        if not 0 <= slices <= self.config.slices:
            raise ConfigError(f"slices (={slices}) must lie in 0..{self.config.slices}")
        head, sections = unpack(data)
        self._check_ours(head)
        with running(self.threads):
            return self._picture(self.code_latents(DecodeIO(sections[0]), head, slices=slices), head)

    def _latents(self, x: np.ndarray) -> Latents:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            y = self._g_a(self._layout(to_tensor([x], SIDE).to(self._device))).float()
        z = self._hyper_tables.symbols(self._h_a(y)[0].cpu().numpy())
        return Latents(y[0].double().cpu().numpy(), z)

    def code_latents(
        self, io: CodingIO, head: Header, latents: Latents | None = None, slices: int | None = None
    ) -> Tensor:
        """Code z and y, all that a file holds; to be called inside `cbench.nn.running.running`.

        Args:
            io: the coder.
            head: size of the picture, and quality.
            latents: what to encode; None: decode.
            slices: only so many slices of y, and of the rest its means; None: all.

        Returns:
            y_hat (1, C4, 4h, 4w) float32.
        """
        h, w = (round_up(side, SIDE) // SIDE for side in head.shape[1:])
        step = _step(head)
        z_symbols, y = (None, None) if latents is None else (latents.z, latents.y)
        last = self.config.slices if slices is None else slices
        z_symbols = self._hyper_tables.code(io, z_symbols, (self.config.hyper_latent, h, w))
        z_hat = torch.from_numpy(self._hyper_tables.values(z_symbols, BITS)).to(self._device).double()
        out = self._prior.hyper(z_hat.permute(1, 2, 0)[None])
        if self._prior.needs_offset:
            given = None if io.decoding else safe_offset(out)
            out = round_with(out, int(io.bits(8, given)))
        scales, means = out.chunk(2, -1)
        done: list[Tensor] = []
        for i in range(self.config.slices):
            mu, scale = means, scales
            if self.config.prior == "charm":
                mu, scale = self._prior.slice(i, scales, means, done)
            own = None if y is None else y[i * mu.shape[-1] : (i + 1) * mu.shape[-1]]
            done.append(self._code_slice(io, mu, scale, step, own) if i < last else mu)
        return (torch.cat(done, -1) * 2.0**-BITS).float().permute(0, 3, 1, 2)

    def _code_slice(self, io: CodingIO, mu: Tensor, scale: Tensor, step: int, y: np.ndarray | None) -> Tensor:
        """Some channels of y (C, h, w) through the coder -> y_hat (1, h, w, C) in units."""
        index = scale_index((_planes(scale) << BITS) // step, BITS)
        symbols = None
        if y is not None:
            steps = (y - _planes(mu) * 2.0**-BITS) * (2.0**BITS / step)
            symbols = np.rint(steps).clip(-LARGEST, LARGEST).astype(np.int32)
        symbols = io.code(gaussian_tables(), index, symbols)
        decoded = torch.from_numpy(symbols).to(self._device).double().permute(1, 2, 0)[None]
        return (mu + decoded * step).clamp_(GRID.low, GRID.high)

    def _layout(self, x: Tensor) -> Tensor:
        conv = self.config.transform == "conv"
        return x.contiguous(memory_format=torch.channels_last if conv else torch.contiguous_format)

    def _picture(self, y_hat: Tensor, head: Header) -> np.ndarray:
        return to_pictures(self._g_s(self._layout(y_hat)), head.shape)[0]

    def decompress(self, data: bytes) -> np.ndarray:
        """See `ScriptCodec.decompress`."""
        head, _ = unpack(data)
        if head.codec == self.name and (head.shape[0] not in (1, 3) or head.dtype != "uint8"):
            raise BitstreamError(f"{self.name} has no files of {head.shape[0]} channels of {head.dtype}")
        return super().decompress(data)


def _step(head: Header) -> int:
    """Step of y in a file."""
    if len(head.params) != (head.format > 1):
        raise BitstreamError(f"a file of tbtc/v{head.format} does not have {len(head.params)} bytes of parameters")
    quality = int.from_bytes(head.params, "little", signed=True)
    if quality not in QUALITIES:
        raise BitstreamError(f"there is no quality {quality}")
    return step_of(quality)


def _planes(x: Tensor) -> np.ndarray:
    """(1, h, w, C) integers in float64 -> (C, h, w) int64."""
    return np.ascontiguousarray(x[0].permute(2, 0, 1).long().cpu().numpy())


def open_shipped(name: str, weights: Path | None, device: str, threads: int) -> TbtcCodec:
    """The codec `name` with its own weights or others."""
    return TbtcCodec(name, checkpoint.load(weights or shipped(name)), device, threads)


conv_xs_1, conv_xs_2, conv_xs_3 = (partial(open_shipped, f"tbtc.conv-xs-{i}") for i in (1, 2, 3))
swin_xs_1, swin_xs_2, swin_xs_3 = (partial(open_shipped, f"tbtc.swin-xs-{i}") for i in (1, 2, 3))
