"""Convolutions whose results are the same on every machine, because nothing in them is ever rounded by the hardware.

Weights and activations are *integers held in floating-point tensors*: a value v is stored as n = v * 2^bits.
Every product and every partial sum of a layer is then an integer, and as long as the largest possible sum
stays below 2^53 (float64; 2^24 for float32) it is represented exactly. Exact sums do not depend on their
order, so neither the number of threads, the batch size, the instruction set, fused multiply-adds nor the
device can change a bit. The only rounding is `snap`, one exactly specified step after each layer: a division
by a power of two, to the nearest integer, ties to even.

The bound is proved, not hoped for: an input grid has a stated range to which `snap` clamps, and a layer takes
as many fraction bits for its weights as leave sum |w| * max |x| + |b| inside the exact range.

Layout: (B, H, W, C), so that each layer is one matrix product; no convolution kernel of a library is called,
since those may use transforms (Winograd, FFT) that are not integer arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.errors import ConfigError

EXACT_BITS = {torch.float64: 53, torch.float32: 24}
"""All integers up to 2^this are floating-point numbers of that type."""
MAX_WEIGHT_BITS = 24
"""More fraction bits than a float32 weight has make no difference."""
CACHED_WINDOWS = 384
"""Windows multiplied at a time."""


@dataclass(frozen=True)
class Grid:
    """The integers n in [low, high]; each stands for the value n * 2^-bits."""

    bits: int
    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest absolute value of an integer on the grid."""
        return max(abs(self.low), abs(self.high))


def largest_sum(weight: Tensor, bias: Tensor, grid: Grid) -> float:
    """No partial sum of x @ weight + bias, in whatever order, exceeds sum |w| * max |x| + |b| (all integers)."""
    return float((weight.abs().sum(0) * grid.magnitude + bias.abs()).max())


def snap(sums: Tensor, shift: int, grid: Grid) -> Tensor:
    """Divide integers by 2^shift, round to the nearest (ties to even), clamp to the grid; works in place.

    The scaled sum is exact, because a power of two only changes the exponent; so the result is one
    well-defined integer.
    With `grid.low == 0` this is also the ReLU.
    """
    if shift:
        sums.mul_(2.0**-shift)
    return sums.round_().clamp_(grid.low, grid.high)


def patches(x: Tensor, size: int) -> Tensor:
    """View x (B, H, W, C) as all its windows (B, H - size + 1, W - size + 1, size, size, C)."""
    return x.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)


def pad(x: Tensor, margin: int) -> Tensor:
    """Zeros around (B, H, W, C) on both spatial axes."""
    return functional.pad(x, (0, 0, margin, margin, margin, margin))


class ExactProduct(nn.Module):
    """x (..., I) integers on a grid -> x @ weight + bias, (..., O) integers in units of 2^-bits."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        grid: Grid,
        *,
        max_bits: int = MAX_WEIGHT_BITS,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        """Round `weight` (I, O) and `bias` (O) to integers with as many fraction bits as the exact range allows.

        Raises:
            ConfigError: the weights are not finite, or too large to be exact even without fraction bits.
        """
        super().__init__()
        weight = weight.detach().cpu().double()
        bias = torch.zeros(weight.shape[1]).double() if bias is None else bias.detach().cpu().double()
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ConfigError("the network has weights that are not finite numbers")
        for fraction_bits in range(max_bits, -1, -1):
            whole = (weight * 2.0**fraction_bits).round()
            offset = (bias * 2.0 ** (grid.bits + fraction_bits)).round()
            if largest_sum(whole, offset, grid) < 2.0 ** EXACT_BITS[dtype]:
                break
        else:
            raise ConfigError(f"a layer's sums would leave the integers that {dtype} holds exactly")
        self.bits = grid.bits + fraction_bits
        self.register_buffer("weight", whole.to(dtype))
        self.register_buffer("bias", offset.to(dtype))

    def rescale(self, bits: int) -> None:
        """Give the sums in units of 2^-bits from now on: as exact as before, since only exponents change."""
        factor = 2.0 ** (bits - self.bits)
        self.weight.mul_(factor)
        self.bias.mul_(factor)
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """One matrix product."""
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], flat.shape[-1])

    def windowed(self, x: Tensor, size: int) -> Tensor:
        """The product with every window of x (B, H, W, C), a block of rows at a time so that windows stay in cache."""
        windows = patches(x, size)
        b, h, w = windows.shape[:3]
        out = x.new_empty(b, h, w, self.weight.shape[1])
        rows = max(1, CACHED_WINDOWS // w)
        for image, target in zip(windows, out, strict=True):
            for top in range(0, h, rows):
                block = image[top : top + rows].reshape(-1, self.weight.shape[0])
                # Transposed, as libraries are faster with the many positions than with the few channels in the rows.
                sums = torch.addmm(self.bias[:, None], self.weight.t(), block.t())
                target[top : top + rows].view(len(block), -1).copy_(sums.t())
        return out


class ExactConv2d(ExactProduct):
    """Convolution of odd size, stride 1, zero padding that keeps the sides."""

    def __init__(self, weight: Tensor, bias: Tensor | None, grid: Grid, *, dtype: torch.dtype = torch.float64) -> None:
        """`weight` (O, I, k, k) and `bias` (O) as in `torch.nn.Conv2d`."""
        super().__init__(weight.permute(2, 3, 1, 0).flatten(0, 2), bias, grid, dtype=dtype)
        self.size = weight.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, I) -> (B, H, W, O)."""
        return super().forward(x) if self.size == 1 else self.windowed(pad(x, self.size // 2), self.size)


class ExactConvTranspose2d(ExactProduct):
    """Transposed convolution of size 4, stride 2, padding 1, as one product that yields the four output phases.

    The output pixel (2i + a, 2j + b) sees only the 2x2 inputs that begin at (i + a - 1, j + b - 1). So all four phases
    are made from the same 2x2 windows of the input, padded by one; `interleave` picks each phase's part.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, grid: Grid, *, dtype: torch.dtype = torch.float64) -> None:
        """`weight` (I, O, 4, 4) and `bias` (O) as in `torch.nn.ConvTranspose2d`."""
        inputs, outputs = weight.shape[:2]
        # Input (u, v) of a window reaches phase (a, b) through kernel element (3 - 2u - a, 3 - 2v - b): the flipped
        # kernel's axes split into (u, a) and (v, b).
        taps = weight.flip(2, 3).reshape(inputs, outputs, 2, 2, 2, 2)
        matrix = taps.permute(2, 4, 0, 3, 5, 1).reshape(4 * inputs, 4 * outputs)
        super().__init__(matrix, None if bias is None else bias.repeat(4), grid, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, I) -> phases (B, H + 1, W + 1, 2, 2, O); pointwise layers may follow before `interleave`."""
        return self.windowed(pad(x, 1), 2).unflatten(-1, (2, 2, -1))


def interleave(phases: Tensor) -> Tensor:
    """Window phases (B, H + 1, W + 1, 2, 2, O) of `ExactConvTranspose2d` -> picture (B, 2H, 2W, O)."""
    b, h, w, _, _, c = phases.shape
    out = phases.new_empty(b, h - 1, 2, w - 1, 2, c)
    for i in range(2):
        for j in range(2):
            out[:, :, i, :, j] = phases[:, i : h - 1 + i, j : w - 1 + j, i, j]
    return out.view(b, 2 * h - 2, 2 * w - 2, c)


class ExactUpsampling(ExactProduct):
    """Transposed convolution of size 5, stride 2, padding 2, output padding 1: twice the size, as one product.

    The output pixel (2i + a, 2j + b) sees inputs (i + 1 - u, j + 1 - v) through kernel element (2u + a, 2v + b), where
    the kernel has one; so all four phases are made from 3x3 windows of the input, padded by one.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, grid: Grid, *, dtype: torch.dtype = torch.float64) -> None:
        """`weight` (I, O, 5, 5) and `bias` (O) as in `torch.nn.ConvTranspose2d`."""
        inputs, outputs = weight.shape[:2]
        taps = functional.pad(weight, (0, 1, 0, 1)).reshape(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
        matrix = taps.permute(2, 4, 0, 3, 5, 1).reshape(9 * inputs, 4 * outputs)
        super().__init__(matrix, None if bias is None else bias.repeat(4), grid, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, I) -> (B, 2H, 2W, O)."""
        b, h, w, _ = x.shape
        phases = self.windowed(pad(x, 1), 3).view(b, h, w, 2, 2, -1)
        return phases.transpose(2, 3).reshape(b, 2 * h, 2 * w, -1)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """Integers below 2^37 in magnitude -> max(x, slope x), exact integers in units 2^16 times finer; `snap` follows."""
    return torch.maximum(x * 65536, x * round(slope * 65536))


class ExactStack(nn.Module):
    """Convolutions with ReLU or LeakyReLU between them, from one grid to the same grid."""

    def __init__(self, layers: nn.Sequential, grid: Grid) -> None:
        """Take over `Conv2d` (odd size, stride 1, "same"), `ConvTranspose2d` (5, stride 2), `ReLU` and `LeakyReLU`.

        Raises:
            ConfigError: another layer, or weights that are too large for exact sums.
        """
        super().__init__()
        self.grid = grid
        self.layers = nn.ModuleList()
        self.slopes: list[float | None] = []
        """Of the activation behind each layer; 0: ReLU; None: no activation."""
        for layer in layers:
            if isinstance(layer, nn.Conv2d) and layer.stride == (1, 1):
                self.layers.append(ExactConv2d(layer.weight, layer.bias, grid))
                self.slopes.append(None)
            elif isinstance(layer, nn.ConvTranspose2d) and (layer.kernel_size, layer.stride) == ((5, 5), (2, 2)):
                self.layers.append(ExactUpsampling(layer.weight, layer.bias, grid))
                self.slopes.append(None)
            elif isinstance(layer, nn.ReLU | nn.LeakyReLU) and self.slopes and self.slopes[-1] is None:
                self.slopes[-1] = getattr(layer, "negative_slope", 0.0)
            else:
                raise ConfigError(f"there is no exact form of {layer}")
        for layer in self.layers:
            layer.rescale(grid.bits)
        self.positive = Grid(grid.bits, 0, grid.high)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) integers on the grid, float64 -> (B, H', W', C') likewise."""
        for layer, slope in zip(self.layers, self.slopes, strict=True):
            x = snap(layer(x), 0, self.positive if slope == 0 else self.grid)
            if slope:
                x = snap(leaky_relu(x, slope), 16, self.grid)
        return x


def fold_batch_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The factor and the offset (C), float64, that replace a batch norm in evaluation mode: y = x * factor + offset."""
    factor = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return factor, norm.bias.detach().double() - norm.running_mean.double() * factor
