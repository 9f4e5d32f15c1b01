"""The decoder network in exact integer arithmetic: the same pixel parameters on every machine.

Batch norms are folded into the convolutions, weights are rounded to integers, activations to multiples of
2^-16 in [-256, 256]; `cbench.nn.exact` proves that no sum is ever rounded. The first layer sees only sums
of code vectors, one of each group, so it becomes a table look-up.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding.mixture import SCALE_ZERO
from cbench.coding.pixels import Layer, PixelModel
from cbench.errors import ConfigError
from cbench.models.fsar.causal import FEATURE_SCALE, LINEAR_SCALE, MEAN_SCALE, CausalHead
from cbench.models.fsar.network import FsarNetwork, Residual, ShuffleUp, SkipStack
from cbench.models.fsar.pixels import LEVELS, LOG_STD_LOW, LOG_STD_STEPS
from cbench.nn.exact import (
    ExactConv2d,
    ExactConvTranspose2d,
    ExactProduct,
    Grid,
    fold_batch_norm,
    interleave,
    pad,
    patches,
    snap,
)

BITS = 16
BIAS_BITS = 10
"""Fraction bits of the causal head's hidden units."""
RANGE = 256
SIGNED = Grid(BITS, -RANGE << BITS, RANGE << BITS)
POSITIVE = Grid(BITS, 0, RANGE << BITS)
"""Clamping to it is the ReLU, too."""
PIXELS = Grid(0, -255, 255)
BIAS = Grid(BIAS_BITS, -32768, 32767)


class IntegerDecoder(nn.Module):
    """Symbols (B, L, h, w) -> exact parameters of the pixels' distributions.

    Gaussians: mean (float64, in pixel values; for a linear head what the sigmoid takes) and log-std level (int64), each
    (B, 3, H, W). With a causal head: the biases of its hidden units, (B, H, W, 3, hidden) int16 in units of
    2^-BIAS_BITS; with mixtures: the decoder's outputs in the same units.
    """

    def __init__(self, network: FsarNetwork) -> None:
        """Derive everything from a trained network, by exact or correctly rounded steps only.

        Raises:
            ConfigError: weights too large for exact sums.
        """
        super().__init__()
        layers = list(network.decoder)
        self.first = _first_layer(network, layers[0], layers[1])
        self.levels = network.config.levels
        stack = next((layer for layer in layers if isinstance(layer, SkipStack)), None)
        self.skip = stack is not None
        blocks = layers if stack is None else stack.blocks
        self.residuals = nn.ModuleList(_IntegerResidual(layer) for layer in blocks if isinstance(layer, Residual))
        self.ups = nn.ModuleList(
            _IntegerUp(layer, norm)
            for layer, norm in pairwise(layers)
            if isinstance(layer, (nn.ConvTranspose2d, ShuffleUp))
        )
        self.plain = network.config.pixels not in ("gaussian", "linear")
        self.head = _plain_head(layers[-1]) if self.plain else _head(layers[-1], network.config.pixels)

    @property
    def halo(self) -> int:
        """Latent positions around a tile that influence its pixels."""
        own = len(self.residuals) + len(self.ups)
        return self.first.halo(own) if self.levels else own

    def forward(self, symbols: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Run the network."""
        # The head sees single pixels, so it runs before the (now much smaller) phases are put together.
        x = self.head(self._phases(symbols))
        if self.plain:
            biases = snap(x, self.head.bits - BIAS_BITS, BIAS).to(torch.int16)
            return self._join(biases).unflatten(-1, (3, -1))
        x = self._join(x).unflatten(-1, (3, 2)).permute(0, 3, 1, 2, 4)
        level = snap(x[..., 1].clone(), self.head.bits, Grid(0, 0, LEVELS - 1))
        return x[..., 0] * 2.0**-self.head.bits, level.long()

    def _join(self, phases: Tensor) -> Tensor:
        return self.ups[-1].join(phases) if self.ups else phases

    def _phases(self, symbols: Tensor) -> Tensor:
        """What the head sees: (B, H, W, C), or phases of it that `_join` puts together."""
        x = self.first(symbols.permute(0, 2, 3, 1))
        around = x.clamp_min(0) if self.skip else None
        for residual in self.residuals:
            x = residual(x)
        if around is not None:
            x = x.add_(around).clamp_(SIGNED.low, SIGNED.high)
        for i, up in enumerate(self.ups):
            x = up(x)
            if i + 1 < len(self.ups):
                x = up.join(x)
        return x


class _IntegerUp(nn.Module):
    """Twice the sides, as phases that `join` puts together; ReLU included."""

    def __init__(self, layer: nn.Module, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.shuffle = isinstance(layer, ShuffleUp)
        if self.shuffle:
            factor, offset = fold_batch_norm(norm)
            weight = layer[0].weight.detach().cpu().double()
            four = factor.repeat_interleave(4).view(-1, 1, 1, 1)
            self.product = ExactConv2d(weight * four, offset.repeat_interleave(4), SIGNED)
        else:
            self.product = _folded(ExactConvTranspose2d, layer, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> phases."""
        x = snap(self.product(x), self.product.bits - BITS, POSITIVE)
        return x.unflatten(-1, (-1, 2, 2)).permute(0, 1, 2, 4, 5, 3) if self.shuffle else x

    def join(self, phases: Tensor) -> Tensor:
        """Phases -> (B, 2H, 2W, C)."""
        if not self.shuffle:
            return interleave(phases)
        b, h, w, _, _, c = phases.shape
        return phases.transpose(2, 3).reshape(b, 2 * h, 2 * w, c)


class _IntegerResidual(nn.Module):
    def __init__(self, layer: Residual) -> None:
        super().__init__()
        wide, wide_norm, _, narrow, narrow_norm = layer.block
        self.wide = _folded(ExactConv2d, wide, wide_norm)
        self.narrow = _folded(ExactConv2d, narrow, narrow_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp_min(0)
        inner = snap(self.wide(x), self.wide.bits - BITS, POSITIVE)
        return snap(self.narrow(inner), self.narrow.bits - BITS, SIGNED).add_(x).clamp_(SIGNED.low, SIGNED.high)


def _folded(kind: type[ExactConv2d | ExactConvTranspose2d], layer: nn.Module, norm: nn.Module) -> nn.Module:
    factor, offset = fold_batch_norm(norm)
    weight = layer.weight.detach().cpu().double()
    shape = (1, -1, 1, 1) if kind is ExactConvTranspose2d else (-1, 1, 1, 1)
    return kind(weight * factor.view(shape), offset, SIGNED)


def _head(layer: nn.Conv2d, pixels: str) -> ExactConv2d:
    """Scale the outputs: means to pixel values (unless a sigmoid follows), log-stds to levels of the tables."""
    scale = torch.tensor([1.0 if pixels == "linear" else 255.0, LOG_STD_STEPS]).double().repeat(3)
    shift = torch.tensor([0.0, -LOG_STD_LOW * LOG_STD_STEPS]).double().repeat(3)
    weight, bias = layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double()
    return ExactConv2d(weight * scale.view(-1, 1, 1, 1), bias * scale + shift, SIGNED)


def _plain_head(layer: nn.Conv2d) -> ExactConv2d:
    """Outputs as they are."""
    return ExactConv2d(layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double(), SIGNED)


def _first_layer(network: FsarNetwork, layer: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Symbols (B, h, w, L) -> the first layer's output (B, h, w, C) on the signed grid."""
    factor, offset = fold_batch_norm(norm)
    weight = layer.weight.detach().cpu().double()[:, :, 0, 0] * factor[:, None]
    if network.config.has_codes:
        return _CodeSums(network.quantizer.codebook.detach().cpu().double(), weight, offset)
    if network.config.quantizer == "mcquic":
        from cbench.models.fsar.mcquic_exact import IntegerLevels  # made of this file's parts

        return IntegerLevels(network.quantizer, weight, offset)
    kind = _Intervals if network.config.quantizer == "vae" else _Rounded
    return kind(network.quantizer.integer_values(BITS), weight, offset)


class _CodeSums(nn.Module):
    """What each code adds, from a table."""

    lookup: Tensor

    def __init__(self, codebook: Tensor, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        groups, codes, embedding = codebook.shape
        tables = codebook.new_empty(groups, codes, len(offset))
        for g in range(groups):
            part = weight[:, g * embedding : (g + 1) * embedding].T
            product = ExactProduct(part, offset if g == 0 else None, SIGNED)
            rounded = (codebook[g] * 2.0**BITS).round().clamp(SIGNED.low, SIGNED.high)
            tables[g] = snap(product(rounded), product.bits - BITS, SIGNED)
        self.register_buffer("lookup", tables)

    def forward(self, symbols: Tensor) -> Tensor:
        groups = torch.arange(symbols.shape[-1], device=symbols.device)
        return self.lookup[groups, symbols].sum(-2).clamp_(SIGNED.low, SIGNED.high)


class _Intervals(nn.Module):
    """Every channel's symbol stands for one of the same values; then a product."""

    values: Tensor

    def __init__(self, values: np.ndarray, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", torch.from_numpy(values).double().clamp(SIGNED.low, SIGNED.high))
        self.product = ExactProduct(weight.T, offset, SIGNED)

    def forward(self, symbols: Tensor) -> Tensor:
        return snap(self.product(self.values[symbols]), self.product.bits - BITS, SIGNED)


class _Rounded(nn.Module):
    """A symbol counts from the median of its channel; then a product."""

    values: Tensor

    def __init__(self, values: np.ndarray, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", torch.from_numpy(values).double())
        self.product = ExactProduct(weight.T, offset, SIGNED)

    def forward(self, symbols: Tensor) -> Tensor:
        values = (symbols.double() * 2.0**BITS + self.values).clamp_(SIGNED.low, SIGNED.high)
        return snap(self.product(values), self.product.bits - BITS, SIGNED)


class IntegerEncoder(nn.Module):
    """Pictures (B, 3, H, W) uint8 -> z (B, C, h, w), int64 in units of 2^-BITS: the encoder, exact as the decoder is.

    Only bits-back coding needs it, whose decoder asks for the posterior that the encoder drew from.
    """

    def __init__(self, network: FsarNetwork) -> None:
        """Derive everything from a trained network with D >= 1; raises as `IntegerDecoder`."""
        super().__init__()
        layers = list(network.encoder)
        blocks = next((list(layer.blocks) for layer in layers if isinstance(layer, SkipStack)), None)
        self.skip = blocks is not None
        self.downs = nn.ModuleList()
        for layer, norm in pairwise(layers):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                self.downs.append(_IntegerDown(layer, norm, first=not self.downs))
        blocks = layers if blocks is None else blocks
        self.residuals = nn.ModuleList(_IntegerResidual(layer) for layer in blocks if isinstance(layer, Residual))
        last = layers[-1]
        self.last = ExactConv2d(last.weight.detach().cpu().double(), last.bias.detach().cpu().double(), SIGNED)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        x = 2 * x.permute(0, 2, 3, 1).double() - 255
        for i, down in enumerate(self.downs):
            x = down(x.clamp_min_(0) if i else x)
        around = x.clamp_min(0) if self.skip else None
        for residual in self.residuals:
            x = residual(x)
        if around is not None:
            x = x.add_(around).clamp_(SIGNED.low, SIGNED.high)
        x = snap(self.last(x), self.last.bits - BITS, SIGNED)
        return x.permute(0, 3, 1, 2).long()


class _IntegerDown(nn.Module):
    """Convolution of size 4, stride 2, padding 1, or of size 1; the first one takes 2 x - 255 for pixel values x."""

    def __init__(self, layer: nn.Conv2d, norm: nn.BatchNorm2d, *, first: bool) -> None:
        super().__init__()
        factor, offset = fold_batch_norm(norm)
        weight = layer.weight.detach().cpu().double() * factor.view(-1, 1, 1, 1) / (510 if first else 1)
        self.size = weight.shape[-1]
        self.product = ExactProduct(weight.permute(2, 3, 1, 0).flatten(0, 2), offset, PIXELS if first else SIGNED)

    def forward(self, x: Tensor) -> Tensor:
        if self.size > 1:
            x = patches(pad(x, 1), self.size)[:, ::2, ::2].flatten(3)
        return snap(self.product(x), self.product.bits - BITS, SIGNED)


def pixel_model(head: CausalHead) -> PixelModel:
    """The causal head in 16-bit integers, every layer with as many fraction bits as its sums allow.

    Raises:
        ConfigError: weights that are not finite or too large.
    """
    seen = head.seen.double().cpu().numpy()
    tensors = {name: value.detach().cpu().double().numpy() for name, value in head.named_parameters()}
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise ConfigError("the network has weights that are not finite numbers")
    k, octave = head.mixtures, 16 / math.log(2)
    inner, inner_shift = _sixteen_bits(tensors["inner"] * seen[..., None] * (2**BIAS_BITS / FEATURE_SCALE), 255)
    linear, linear_shift = _sixteen_bits(tensors["linear"] * seen * (LINEAR_SCALE * 256), 255)
    unit = np.repeat([octave, 256.0 * MEAN_SCALE, octave], k)
    zero = np.repeat([0.0, 0.0, SCALE_ZERO], k)
    middle = _layer(tensors["middle"], tensors["middle_bias"] * 2**BIAS_BITS)
    outer = _layer(tensors["outer"] * (unit / 2**BIAS_BITS), tensors["outer_bias"] * unit + zero)
    return PixelModel(inner, inner_shift, middle, outer, linear, linear_shift)


def _sixteen_bits(weight: np.ndarray, largest: int) -> tuple[np.ndarray, int]:
    """Weights (3, inputs, ...) as int16 with one number of fraction bits, for inputs up to `largest`."""
    for shift in range(16, 0, -1):
        whole = np.rint(weight * 2.0**shift)
        if np.abs(whole).max() < 1 << 15 and np.abs(whole).sum(1).max() * largest + 2**shift < 1 << 31:
            return whole.astype(np.int16), shift
    raise ConfigError("the causal head's weights are too large for 16 bits")


def _layer(weight: np.ndarray, bias: np.ndarray) -> Layer:
    """Weights (3, inputs, outputs) and bias (3, outputs) with fraction bits for each output on its own."""
    shift = np.zeros(bias.shape, np.int32)
    for bits in range(1, 25):
        whole, base = np.rint(weight * 2.0**bits), np.rint((np.abs(bias) + 1) * 2.0**bits)
        fits = (np.abs(whole).max(1) < 1 << 15) & (np.abs(whole).sum(1) * 32767 + base < 1 << 31)
        shift[fits] = bits
    if not shift.all():
        raise ConfigError("the causal head's weights are too large for 16 bits")
    scale = 2.0**shift
    base = np.rint(bias * scale) + 2.0 ** (shift - 1)
    return Layer(np.rint(weight * scale[:, None]).astype(np.int16), base.astype(np.int32), shift)


def to_numpy(mean: Tensor, level: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Move the decoder's result to arrays."""
    return mean.cpu().numpy(), level.cpu().numpy()
