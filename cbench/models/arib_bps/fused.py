"""Convolutions on the CPU with what stands between them in one call of the C++ core (csrc/engines/conv.hpp).

Norms, gates, SiLU and sums are a small part of a network's arithmetic, but each would take a pass through memory of its
own. The 3 x 3 convolutions are Winograd's, with 36 products for 16 pixels instead of 144. A picture's numbers depend
neither on the other pictures of the batch nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench import _core
from cbench.models.arib_bps.layers import ChannelGate, GroupNorm, NormalisedBlock, ResBlock, TimedBlock
from cbench.models.arib_bps.network import PlaneNet


class FusedConv(nn.Module):
    """[norm or gate, SiLU,] convolution [+ shift] [+ skip], float32 or float64, best with channels last in memory."""

    def __init__(
        self,
        conv: nn.Conv2d,
        crew: _core.ConvCrew,
        before: GroupNorm | ChannelGate | None = None,
        *,
        silu: bool = False,
    ) -> None:
        """Take over the weights of a convolution of 1 x 1 or 3 x 3 that keeps the sides, or halves them."""
        super().__init__()
        self.in_channels, self.out_channels, self.stride = conv.in_channels, conv.out_channels, conv.stride[0]
        self.weight = conv.weight.new_empty(0)
        """The weights are in the core; this has their type."""
        norm = gate = None
        if isinstance(before, GroupNorm):
            norm = (_doubles(before.weight), _doubles(before.bias), before.num_groups, before.eps)
        elif before is not None:
            gate = _doubles(before.conv.weight.flatten())
        kind = _core.Convolution64 if conv.weight.dtype == torch.float64 else _core.Convolution32
        self._native = kind(_doubles(conv.weight), _doubles(conv.bias), norm, gate, silu)
        self._crew = crew

    def forward(self, *parts: Tensor, shift: Tensor | None = None, skip: Tensor | None = None) -> Tensor:
        """Maps parts (B, some of I, H, W), shift (B, O), skip (B, O, H, W) -> (B, O, H, W)."""
        batch, _, height, width = parts[0].shape
        out = self.weight.new_empty(batch, height, width, self.out_channels)
        added = None if shift is None else shift.contiguous().numpy()
        skipped = None if skip is None else _channels_last(skip)
        self._native.run(self._crew, [_channels_last(part) for part in parts], out.numpy(), added, skipped)
        # With a stride this computes four times what is needed, as fast as an ordinary convolution the fourth of it.
        return out.permute(0, 3, 1, 2)[:, :, :: self.stride, :: self.stride]


class FusedBlock(nn.Module):
    """A residual block of any kind."""

    def __init__(self, block: ResBlock | TimedBlock | NormalisedBlock, crew: _core.ConvCrew) -> None:
        """Take over the weights."""
        super().__init__()
        if isinstance(block, NormalisedBlock):
            self.first, self.second = FusedConv(block.first, crew, silu=True), FusedConv(block.second, crew, silu=True)
        else:
            self.first, self.second = (_sequence(part, crew)[0] for part in (block.first, block.second))
        skip = getattr(block, "skip", None)
        self.skip = FusedConv(skip, crew) if isinstance(skip, nn.Conv2d) else None
        self.time = getattr(block, "time", None)

    def forward(self, *parts: Tensor, shift: Tensor | None = None) -> Tensor:
        """Maps parts (B, some of I, H, W), shift (B, O), for the middle, -> (B, O, H, W)."""
        h = self.first(*parts, shift=shift)
        return self.second(h, skip=parts[0] if self.skip is None else self.skip(*parts))


class FusedPlaneNet(nn.Module):
    """`PlaneNet`; what it makes of the number of a plane is computed once."""

    def __init__(self, net: PlaneNet, crew: _core.ConvCrew) -> None:
        """Take over the weights."""
        super().__init__()
        self.embed, self.attention = net.embed, net.attention
        self.first, self.before, self.after = (fuse(part, crew) for part in (net.first, net.before, net.after))
        self.down, self.up, self.smaller, self.larger = (
            fuse(part, crew) for part in (net.down, net.up, net.smaller, net.larger)
        )
        self._shifts: dict[float, list[Tensor]] = {}

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps x (B, inputs, H, W), time (B,) -> (B, width, H, W)."""
        shifts = self._shifts_of(time)
        h = self.first(x)
        skips = [h]
        for level, blocks in enumerate(self.down):
            if level:
                h = self.smaller[level - 1](h)
                skips.append(h)
            for block in blocks:
                h = block(h, shift=next(shifts))
                skips.append(h)
        h = self.attention(self.before(h, shift=next(shifts)))
        h = self.after(h, shift=next(shifts))
        for level in reversed(range(len(self.up))):
            for block in self.up[level]:
                h = block(h, skips.pop(), shift=next(shifts))
            if level:
                h = self.larger[level - 1](functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        return h

    def _shifts_of(self, time: Tensor) -> Iterator[Tensor]:
        """What is added in each block, in their order."""
        numbers = time.tolist()
        for number in set(numbers) - self._shifts.keys():
            emb = self.embed(time.new_tensor([number]))
            levels = [*self.down, [self.before, self.after], *reversed(self.up)]
            self._shifts[number] = [block.time(emb) for blocks in levels for block in blocks]
        return map(torch.cat, zip(*(self._shifts[number] for number in numbers), strict=True))


def fuse(module: nn.Module, crew: _core.ConvCrew) -> nn.Module:
    """The same function by fused convolutions; `module` is in evaluation mode and is used up."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        return FusedConv(module, crew)
    if isinstance(module, ResBlock | TimedBlock | NormalisedBlock):
        return FusedBlock(module, crew)
    if isinstance(module, PlaneNet):
        return FusedPlaneNet(module, crew)
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*_sequence(module, crew))
    for name, child in module.named_children():
        setattr(module, name, fuse(child, crew))
    return module


def _sequence(modules: Iterable[nn.Module], crew: _core.ConvCrew) -> list[nn.Module]:
    """Modules that follow each other; what stands in front of a convolution becomes part of it."""
    found: list[nn.Module] = []
    for module in modules:
        if isinstance(module, nn.Conv2d):
            normed = len(found) > 1 and isinstance(found[-2], GroupNorm)
            if normed:
                found.pop()  # the SiLU
            before = found.pop() if normed or (found and isinstance(found[-1], ChannelGate)) else None
            found.append(FusedConv(module, crew, before, silu=normed))
        elif not isinstance(module, nn.Dropout):
            found.append(module if isinstance(module, GroupNorm | ChannelGate) else fuse(module, crew))
    return found


def _channels_last(x: Tensor) -> np.ndarray:
    """(B, C, H, W) -> (B, H, W, C), copied if it lies otherwise in memory."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def _doubles(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()
