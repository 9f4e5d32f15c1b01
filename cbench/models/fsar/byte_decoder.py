"""The decoder network of byte formats 2 and 3: products of 8-bit integers, several times faster than
`integer.IntegerDecoder`.

Activations are "words", 15-bit integers with a scale for each channel; the residual branch, which bears coarser steps,
takes "bytes" of 8. Weights have a scale for each output: 14 bits for bytes, 8 bits for words. Scales come from the
batch norms, which tell the channels' standard deviations. What has more than 8 bits is multiplied as two bytes.

Every machine gets the same integers. Sums of products are below 2^31, and a product by the library is used only if it
adds up the largest values rightly here (some processors saturate); else 64-bit floats do, in which such sums are exact.
What leaves a layer is converted to float32, multiplied with the output's scale and rounded: single operations, each of
which IEEE 754 defines to the last bit.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from cbench.errors import ConfigError
from cbench.models.fsar.integer import BITS, IntegerDecoder
from cbench.models.fsar.network import FsarNetwork, Residual, ShuffleUp, SkipStack
from cbench.models.fsar.pixels import FINE_BITS, FINE_LOW, FINE_MEANS, LEVELS, LOG_STD_LOW, LOG_STD_STEPS
from cbench.nn.exact import fold_batch_norm, interleave, patches

WORD, BYTE = (1 << 14) - 1, 255
"""Largest word and byte."""
WEIGHT, HALF, LOW_BITS = 127, 64, 7
"""Largest weight of 8 bits, largest upper byte of one of 14, bits of a lower byte."""
REACH = 8
"""Standard deviations that a channel's words cover at the latents' resolution."""
UP_REACH = {2: 8, 3: 32}
"""Those that they cover behind an upsampling, by byte format. A few pictures go far beyond 8 there, and cost several
bits a sample if they are cut."""
NARROW_REACH = 6
"""Those that bytes cover."""


class _Scratch(threading.local):
    """Memory of large intermediate results, kept by each thread: fresh pages would cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor with any content, which the next call with that name overwrites."""
        size, key = math.prod(shape), (name, dtype, device)
        if key not in self._kept or self._kept[key].numel() < size:
            with torch.inference_mode(False):
                self._kept[key] = torch.empty(size, dtype=dtype, device=device)
        return self._kept[key][:size].view(shape)


SCRATCH = _Scratch()


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Int8 or uint8 (M, K) @ int8 (K, N) -> int32, exact; the next call overwrites it."""
    out = SCRATCH.take("sums", (len(a), b.shape[1]), torch.int32, a.device)
    if a.device.type == "cpu" and _library_is_exact():
        return torch._int_mm(a, b, out=out)
    return out.copy_(a.double() @ b.double())


@cache
def _library_is_exact() -> bool:
    """Whether `torch._int_mm` adds up the largest bytes without saturating on this processor."""
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.int8).repeat(64, 128)
    b = (signs[:64].T * WEIGHT).contiguous()
    extremes = (torch.where(signs > 0, 127, -128).to(torch.int8), torch.where(signs > 0, 255, 0).to(torch.uint8))
    try:
        return all(torch.equal(torch._int_mm(a, b), (a.double() @ b.double()).int()) for a in extremes)
    except RuntimeError:
        return False


def _windows(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B, H', W', size * size * C)."""
    windows = patches(x, size)
    out = SCRATCH.take("windows", windows.shape, x.dtype, x.device)
    return out.copy_(windows).flatten(3)


class _Product(nn.Module):
    """Weights (I, O) and bias as integers, and a multiplier that brings sums to the units of the output.

    Inputs are in units of `unit` (I,) and at most `largest`, outputs in units of `target` (O,).
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, unit: Tensor, target: Tensor, *, largest: int, precise: bool
    ) -> None:
        """`precise`: weights of 14 bits instead of 8, their upper bytes (I, O) beside the lower ones."""
        super().__init__()
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ConfigError("the network has weights that are not finite numbers")
        scaled = weight * unit[:, None]
        step = (scaled.abs().amax(0) / (HALF << LOW_BITS if precise else WEIGHT)).clamp_min(1e-30)
        while True:
            whole, offset = (scaled / step).round(), (bias / step).round()
            if float((whole.abs().sum(0) * largest + offset.abs()).max()) < 2**31 - 1:
                break
            step = step * 2
        self.register_buffer("weight", split_weights(whole.long()) if precise else whole.to(torch.int8))
        self.register_buffer("bias", offset.int())
        self.register_buffer("scale", (step / target).float())


def split_weights(whole: Tensor) -> Tensor:
    """Integers (I, O) of 14 bits -> upper and lower bytes beside each other, (I, 2 O) int8."""
    lower = (whole + HALF) % (2 * HALF) - HALF
    return torch.cat([(whole - lower) >> LOW_BITS, lower], 1).to(torch.int8)


class _Bytes(_Product):
    """Bytes (..., I) -> float32 integers (..., O) in units of the target."""

    def __init__(self, weight: Tensor, bias: Tensor, unit: Tensor, target: Tensor) -> None:
        super().__init__(weight, bias, unit, target, largest=BYTE, precise=True)

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = multiply(x.reshape(-1, x.shape[-1]), self.weight).chunk(2, 1)
        sums = lower.add_(self.bias).add_(upper, alpha=1 << LOW_BITS)
        return sums.float().mul_(self.scale).round_().view(*x.shape[:-1], -1)


class _Words(_Product):
    """Pairs of bytes (2, ..., I), upper and lower -> int16 (..., O) in units of the target, from 0 to WORD."""

    def __init__(self, weight: Tensor, bias: Tensor, unit: Tensor, target: Tensor) -> None:
        # Half a unit more: a conversion to integers, which drops the fraction, then rounds.
        super().__init__(weight, bias + target / 2, unit, target, largest=WORD + 1, precise=False)

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = multiply(x.reshape(-1, x.shape[-1]), self.weight).chunk(2)
        sums = lower.add_(self.bias).add_(upper, alpha=1 << LOW_BITS)
        value = SCRATCH.take("values", sums.shape, torch.float32, x.device)
        value.copy_(sums).mul_(self.scale).clamp_(0, WORD)
        return SCRATCH.take("words", sums.shape, torch.int16, x.device).copy_(value).view(*x.shape[1:-1], -1)


def _split(words: Tensor, margin: int = 0) -> Tensor:
    """Words (B, H, W, C) -> their upper and lower bytes (2, B, H + 2 m, W + 2 m, C), with zeros around."""
    b, h, w, c = words.shape
    out = torch.zeros((2, b, h + 2 * margin, w + 2 * margin, c), dtype=torch.int8, device=words.device)
    inner = out[:, :, margin : margin + h, margin : margin + w]
    inner[0].copy_(words >> LOW_BITS)
    inner[1].copy_(words & (1 << LOW_BITS) - 1)
    return out


class _ByteResidual(nn.Module):
    def __init__(self, block: Residual, unit: Tensor, narrow: Tensor) -> None:
        super().__init__()
        wide, wide_norm, _, point, point_norm = block.block
        factor, offset = fold_batch_norm(wide_norm)
        inner = _reach(wide_norm, NARROW_REACH) / BYTE
        self.register_buffer("narrow", (unit / narrow).float())
        weight = (wide.weight.detach().cpu().double() * factor.view(-1, 1, 1, 1)).permute(2, 3, 1, 0).flatten(0, 2)
        self.wide = _Bytes(weight, offset, narrow.repeat(9), inner)
        factor, offset = fold_batch_norm(point_norm)
        weight = (point.weight.detach().cpu().double()[:, :, 0, 0] * factor[:, None]).T
        self.point = _Bytes(weight, offset, inner, unit)

    def forward(self, x: Tensor) -> Tensor:
        """Words -> words."""
        x = x.clamp_min(0)
        b, h, w, c = x.shape
        padded = torch.zeros((b, h + 2, w + 2, c), dtype=torch.uint8, device=x.device)
        padded[:, 1:-1, 1:-1] = x.float().mul_(self.narrow).round_().clamp_max_(BYTE)
        inner = self.wide(_windows(padded, 3)).clamp_(0, BYTE).to(torch.uint8)
        return x.add_(self.point(inner).int()).clamp_(-WORD - 1, WORD)


class _WordUp(nn.Module):
    """Twice the sides, as phases that `join` puts together; ReLU included."""

    def __init__(self, layer: nn.Module, norm: nn.BatchNorm2d, unit: Tensor, reach: int) -> None:
        super().__init__()
        factor, offset = fold_batch_norm(norm)
        self.shuffle = isinstance(layer, ShuffleUp)
        self.unit = _reach(norm, reach) / WORD
        if self.shuffle:
            kernel = layer[0].weight.detach().cpu().double().unflatten(0, (-1, 4)) * factor.view(-1, 1, 1, 1, 1)
            weight = kernel.permute(3, 4, 2, 1, 0).flatten(0, 2).flatten(1)
        else:
            kernel = layer.weight.detach().cpu().double() * factor.view(1, -1, 1, 1)
            taps = kernel.flip(2, 3).unflatten(2, (2, 2)).unflatten(4, (2, 2))  # see ExactConvTranspose2d
            weight = taps.permute(2, 4, 0, 3, 5, 1).flatten(0, 2).flatten(1)
        self.size = 3 if self.shuffle else 2
        self.product = _Words(weight, offset.repeat(4), unit.repeat(self.size**2), self.unit.repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """Words (B, H, W, C) -> words (B, H', W', 2, 2, C)."""
        halves = _split(x, 1)
        windows = _windows(halves.flatten(0, 1), self.size).unflatten(0, (2, -1))
        return self.product(windows).unflatten(-1, (2, 2, -1))

    def join(self, phases: Tensor) -> Tensor:
        """Phases -> (B, 2H, 2W, C)."""
        if not self.shuffle:
            return interleave(phases)
        b, h, w, _, _, c = phases.shape
        return phases.transpose(2, 3).reshape(b, 2 * h, 2 * w, c)


class _Head(nn.Module):
    """Words -> places in `PixelTables.fine`; weights have 14 bits, sums are 64-bit floats.

    The words' own two bytes in memory are the factors. Weights are split into bytes of 8 bits, too, so that products of
    equal value share a sum.
    """

    def __init__(self, layer: nn.Conv2d, unit: Tensor, zero: int) -> None:
        """`zero`: the word that stands for 0."""
        super().__init__()
        order = [0, 2, 4, 1, 3, 5]  # means, then levels
        target = torch.tensor([255.0 * (1 << FINE_BITS), float(LOG_STD_STEPS)], dtype=torch.float64).repeat(3)
        shift = torch.tensor([-FINE_LOW, -LOG_STD_LOW * LOG_STD_STEPS], dtype=torch.float64).repeat(3)
        weight = (layer.weight.detach().cpu().double()[:, :, 0, 0] * target[:, None]).T * unit[:, None]
        bias = layer.bias.detach().cpu().double() * target + shift
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ConfigError("the network has weights that are not finite numbers")
        step = (weight.abs().amax(0) / (HALF << LOW_BITS)).clamp_min(1e-30)
        whole = (weight / step).round().long()
        bias = (bias - whole.sum(0) * step * zero)[order]
        whole, step = whole[:, order], step[order]
        lower = (whole + 128) % 256 - 128
        upper = (whole - lower) >> 8
        rows = torch.zeros(len(whole), 2, 3, 6, dtype=torch.int8)
        first, second = (0, 1) if sys.byteorder == "little" else (1, 0)
        rows[:, first, 0] = lower
        rows[:, first, 1] = upper
        rows[:, second, 1] = lower
        rows[:, second, 2] = upper
        self.register_buffer("weight", rows.flatten(0, 1).flatten(1))
        self.register_buffer("bias", bias)
        self.register_buffer("step", step)
        self.register_buffer("largest", torch.tensor([FINE_MEANS - 1.0] * 3 + [LEVELS - 1.0] * 3).double())

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) int16 from 0 to 2 WORD + 1 -> (..., 3) int32."""
        sums = multiply(x.reshape(-1, x.shape[-1]).view(torch.uint8), self.weight).double().unflatten(1, (3, 6))
        value = sums[:, 2] * 65536.0  # integers below 2^53 until they are multiplied with the step
        value = value.add_(sums[:, 1], alpha=256.0).add_(sums[:, 0]).mul_(self.step).add_(self.bias).round_()
        mean, level = torch.minimum(value.clamp_min_(0), self.largest).chunk(2, 1)
        return torch.add(mean, level, alpha=FINE_MEANS).int().view(*x.shape[:-1], 3)


def _reach(norm: nn.BatchNorm2d, deviations: int) -> Tensor:
    """(C,) float64: what a channel behind a batch norm hardly exceeds."""
    bias, weight = norm.bias.detach().cpu().double(), norm.weight.detach().cpu().double()
    return (bias.abs() + deviations * weight.abs()).clamp_min(1e-6)


class ByteDecoder(nn.Module):
    """Symbols (B, L, h, w) -> places in `PixelTables.fine`, (B, 3, H, W) int32; for Gaussians."""

    lookup: Tensor

    def __init__(self, network: FsarNetwork, exact: IntegerDecoder, version: int = max(UP_REACH)) -> None:
        """Derive everything from a trained network, by exact or correctly rounded steps only.

        Args:
            network: the network.
            exact: the decoder of byte format 1, whose table of the first layer is used.
            version: the byte format, 2 or 3.

        Raises:
            ConfigError: weights that are not finite.
        """
        super().__init__()
        layers = list(network.decoder)
        stack = next((layer for layer in layers if isinstance(layer, SkipStack)), None)
        self.skip = stack is not None
        blocks = [layer for layer in (layers if stack is None else stack.blocks) if isinstance(layer, Residual)]
        reach, narrow = _reach(layers[1], REACH), _reach(layers[1], NARROW_REACH)
        unit = (reach * (1 + self.skip) + sum(_reach(block.block[-1], REACH) for block in blocks)) / WORD
        scaled = exact.first.lookup.cpu() * 2.0**-BITS / unit
        self.register_buffer("lookup", scaled.round().clamp(-(1 << 20), 1 << 20).int())
        self.residuals = nn.ModuleList()
        for block in blocks:
            self.residuals.append(_ByteResidual(block, unit, narrow / BYTE))
            narrow = narrow + _reach(block.block[-1], NARROW_REACH)
        self.ups = nn.ModuleList()
        for layer, norm in pairwise(layers):
            if isinstance(layer, (nn.ConvTranspose2d, ShuffleUp)):
                self.ups.append(_WordUp(layer, norm, unit, UP_REACH[version]))
                unit = self.ups[-1].unit
        self.head = _Head(layers[-1], unit, 0 if self.ups else WORD + 1)

    @property
    def halo(self) -> int:
        """Latent positions around a tile that influence its pixels."""
        return len(self.residuals) + len(self.ups)

    def forward(self, symbols: Tensor) -> Tensor:
        """Run the network."""
        groups = torch.arange(symbols.shape[1], device=symbols.device)
        codes = self.lookup.shape[1]
        place = (symbols.permute(0, 2, 3, 1) + codes * groups).flatten()
        table = self.lookup.flatten(0, 1)
        found = table.index_select(0, place).view(*symbols.shape[:1], *symbols.shape[2:], len(groups), -1)
        x = found.sum(3, dtype=torch.int32).clamp_(-WORD - 1, WORD)
        around = x.clamp_min(0) if self.skip else None
        for residual in self.residuals:
            x = residual(x)
        if around is not None:
            x = x.add_(around).clamp_(-WORD - 1, WORD)
        for i, up in enumerate(self.ups):
            x = up(x)
            if i + 1 < len(self.ups):
                x = up.join(x)
        places = self.head(x if self.ups else x.add_(WORD + 1).to(torch.int16))
        if self.ups:
            places = self.ups[-1].join(places)
        return places.permute(0, 3, 1, 2)
