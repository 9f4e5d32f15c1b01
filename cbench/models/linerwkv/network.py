"""The LineRWKV predictor in the paper's symbols: line encoder, line predictor, band predictor, line decoder.

One network in two forms that compute the same: `LineRwkv.forward` predicts all lines of a cube at once (training),
`LineRwkv.lines` yields the predictions line by line and band by band from a recurrent state, as a decoder must.
Tensors are (..., T, C, I) samples or (..., T, C, I, F) features: lines, columns, bands, features. Attribute names are
those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.linerwkv.config import LineRwkvConfig
from cbench.models.linerwkv.wkv import State, empty_state, wkv, wkv_step

KERNEL = 3
"""Columns that one convolution of the encoder sees."""


class LineEncoder(nn.Module):
    """Features of a line: convolutions along the columns, each followed by LayerNorm and GELU."""

    def __init__(self, config: LineRwkvConfig) -> None:
        super().__init__()
        features, more = config.features, range(config.encoder_layers - 1)
        self.conv_in = nn.Conv1d(1, features, KERNEL, padding=KERNEL // 2)
        self.norm_in = nn.LayerNorm(features)
        self.convs = nn.ModuleList(nn.Conv1d(features, features, KERNEL, padding=KERNEL // 2) for _ in more)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in more)

    def forward(self, u: Tensor) -> Tensor:
        """Normalised samples u (..., C, I) -> features a (..., C, I, F)."""
        x = u.transpose(-1, -2)
        lead = x.shape
        x = x.reshape(-1, 1, lead[-1])
        for conv, norm in ((self.conv_in, self.norm_in), *zip(self.convs, self.norms, strict=True)):
            x = functional.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
        return x.transpose(1, 2).reshape(*lead, -1).transpose(-2, -3)


class LineDecoder(nn.Module):
    """From features to one normalised sample."""

    def __init__(self, config: LineRwkvConfig) -> None:
        super().__init__()
        features, more = config.features, range(config.decoder_layers - 1)
        self.convs = nn.ModuleList(nn.Conv1d(features, features, 1) for _ in more)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in more)
        self.conv_out = nn.Conv1d(features, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) -> (...)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.gelu(norm(_pointwise(conv, x)))
        return _pointwise(self.conv_out, x).squeeze(-1)


class BandZeroDecoder(nn.Module):
    """Change of the first band from one line to the next, from the features of the line predictor alone."""

    def __init__(self, config: LineRwkvConfig) -> None:
        super().__init__()
        self.conv_out = nn.Conv1d(config.features, 1, 1)

    def forward(self, s: Tensor) -> Tensor:
        """(..., F) -> (...)."""
        return _pointwise(self.conv_out, s).squeeze(-1)


class TimeMix(nn.Module):
    """Attention over the past: wkv of the step's and the previous step's features, gated."""

    def __init__(self, features: int, at: float, left: float) -> None:
        """`at`: the block's place in its stack in 0..1; `left`: 1 - block / blocks."""
        super().__init__()
        place = torch.arange(features) / (features - 1)
        h = _places(features)
        zigzag = (torch.arange(features) + 1) % 3 - 1
        self.time_decay = nn.Parameter(-5 + 8 * place ** (0.7 + 1.3 * at))
        self.time_first = nn.Parameter(torch.full((features,), 0.3).log() + 0.5 * zigzag)
        self.time_mix_k = nn.Parameter(h**left)
        self.time_mix_v = nn.Parameter(h**left + 0.3 * at)
        self.time_mix_r = nn.Parameter(h ** (0.5 * left))
        self.key = nn.Linear(features, features, bias=False)
        self.value = nn.Linear(features, features, bias=False)
        self.receptance = nn.Linear(features, features, bias=False)
        self.output = nn.Linear(features, features, bias=False)

    def inputs(self, z: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k, v and r of a step from its features and the previous step's."""
        k = self.key(_mix(self.time_mix_k, z, before))
        v = self.value(_mix(self.time_mix_v, z, before))
        return k, v, self.receptance(_mix(self.time_mix_r, z, before))

    def forward(self, z: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, F)."""
        k, v, r = self.inputs(z, _before(z))
        return self.output(torch.sigmoid(r) * wkv(self.time_decay, self.time_first, k, v))

    def step(self, z: Tensor, before: Tensor, state: State) -> tuple[Tensor, State]:
        """(..., F) of one step, the previous step's features, and the wkv state."""
        k, v, r = self.inputs(z, before)
        y, state = wkv_step(self.time_decay, self.time_first, k, v, state)
        return self.output(torch.sigmoid(r) * y), state


class ChannelMix(nn.Module):
    """Gated feed-forward layer over the step's and the previous step's features."""

    def __init__(self, features: int, left: float) -> None:
        super().__init__()
        h = _places(features)
        self.time_mix_k = nn.Parameter(h**left)
        self.time_mix_r = nn.Parameter(h**left)
        self.key = nn.Linear(features, features, bias=False)
        self.receptance = nn.Linear(features, features, bias=False)
        self.value = nn.Linear(features, features, bias=False)

    def forward(self, z: Tensor, before: Tensor) -> Tensor:
        """(..., F) and the previous step's -> (..., F)."""
        k = torch.relu(self.key(_mix(self.time_mix_k, z, before))).square()
        return torch.sigmoid(self.receptance(_mix(self.time_mix_r, z, before))) * self.value(k)


@dataclass
class BlockState:
    """What a block remembers of the steps before, each part (..., F)."""

    att: Tensor
    """Normalised features that entered the time mix."""
    ffn: Tensor
    """Normalised features that entered the channel mix."""
    wkv: State


class Block(nn.Module):
    """One RWKV-4 block: pre-norm time mix and channel mix with residual connections."""

    def __init__(self, features: int, index: int, count: int) -> None:
        super().__init__()
        at, left = index / (count - 1), 1 - index / count
        self.ln1 = nn.LayerNorm(features)
        self.ln2 = nn.LayerNorm(features)
        if index == 0:
            self.ln0 = nn.LayerNorm(features)
        self.att = TimeMix(features, at, left)
        self.ffn = ChannelMix(features, left)
        self.first = index == 0

    def forward(self, z: Tensor) -> Tensor:
        """A whole sequence (B, T, F) -> (B, T, F)."""
        z = self.ln0(z) if self.first else z
        z = z + self.att(self.ln1(z))
        n = self.ln2(z)
        return z + self.ffn(n, _before(n))

    def step(self, z: Tensor, state: BlockState) -> Tensor:
        """One step (..., F) -> (..., F); the state moves on."""
        z = self.ln0(z) if self.first else z
        n = self.ln1(z)
        out, state.wkv = self.att.step(n, state.att, state.wkv)
        state.att = n
        z = z + out
        n = self.ln2(z)
        z = z + self.ffn(n, state.ffn)
        state.ffn = n
        return z


class Stack(nn.ModuleList):
    """Blocks one after the other."""

    def __init__(self, features: int, count: int) -> None:
        super().__init__(Block(features, index, count) for index in range(count))

    def forward(self, z: Tensor) -> Tensor:
        """Whole sequences (B, T, F) -> (B, T, F)."""
        for block in self:
            z = block(z)
        return z

    def step(self, z: Tensor, states: list[BlockState]) -> Tensor:
        """One step (..., F) -> (..., F)."""
        for block, state in zip(self, states, strict=True):
            z = block.step(z, state)
        return z

    def start(self, like: Tensor) -> list[BlockState]:
        """States before the first step, for inputs like `like` (..., F)."""
        zero = torch.zeros_like(like)
        return [BlockState(zero, zero, empty_state(tuple(like.shape), like)) for _ in self]


class LineRwkv(nn.Module):
    """The whole predictor."""

    def __init__(self, config: LineRwkvConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = LineEncoder(config)
        self.decoder = LineDecoder(config)
        self.bandzerodec = BandZeroDecoder(config)
        self.blocks_lines = Stack(config.features, config.line_blocks)
        self.blocks_bands = Stack(config.features, config.band_blocks)

    def forward(self, u: Tensor, positions: Tensor | None = None) -> Tensor:
        """Predictions of lines 1.. of normalised cubes, all at once.

        Args:
            u: (B, T, C, I).
            positions: (P) numbers b * C + c of the columns to predict (training on a sample of them); None: all.

        Returns:
            (B, T - 1, C, I) or, with positions, (P, T - 1, I); normalised as u.
        """
        shape = u.shape
        a = self.encoder(u).transpose(1, 2).flatten(0, 1)  # (B C, T, I, F): a sequence of lines for every column
        u = u.transpose(1, 2).flatten(0, 1)
        if positions is not None:
            a, u = a[positions], u[positions]
        s = _along(self.blocks_lines, a, 1)[:, :-1]
        b = _along(self.blocks_bands, a[:, 1:] - s, 2)
        first = self.bandzerodec(s[:, :, :1]) + u[:, :-1, :1]
        p = torch.cat([first, self.decoder(s[:, :, 1:] + b[:, :, :-1])], 2)
        return p if positions is not None else p.unflatten(0, (shape[0], shape[2])).transpose(1, 2)

    def lines(self, u: Tensor) -> Iterator[Tensor]:
        """Predictions (C, I) of lines 1.. of one cube, each from what a decoder knows when it needs them.

        Args:
            u: (T, C, I) normalised.
        """
        a = self.encoder(u[0])
        past = self.blocks_lines.start(a)
        for t in range(1, len(u)):
            s = self.blocks_lines.step(a, past)
            p = [self.bandzerodec(s[:, 0]) + u[t - 1, :, 0]]
            row = self.blocks_bands.start(s[:, 0])
            seen = []
            for i in range(u.shape[2]):
                # From here on the decoder knows the samples of band i.
                seen.append(self.encoder(u[t, :, i : i + 1])[:, 0])
                b = self.blocks_bands.step(seen[i] - s[:, i], row)
                if i + 1 < u.shape[2]:
                    p.append(self.decoder(s[:, i + 1] + b))
            a = torch.stack(seen, 1)
            yield torch.stack(p, 1)


def _along(stack: Stack, x: Tensor, axis: int) -> Tensor:
    """A stack over one axis of x (P, T, I, F), all else being batch."""
    if axis == 1:
        return _along(stack, x.transpose(1, 2), 2).transpose(1, 2)
    return stack(x.flatten(0, 1)).reshape(x.shape)


def _pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of kernel 1 over features that lie last."""
    return functional.linear(x, conv.weight[..., 0], conv.bias)


def _mix(m: Tensor, z: Tensor, before: Tensor) -> Tensor:
    """Token shift: m of this step and 1 - m of the one before, feature by feature."""
    m = m.flatten()
    return z * m + before * (1 - m)


def _before(z: Tensor) -> Tensor:
    """(B, T, F) one step later, zero first."""
    return functional.pad(z, (0, 0, 1, -1))


def _places(features: int) -> Tensor:
    """h_j = j / F as (1, 1, F)."""
    return (torch.arange(features) / features).view(1, 1, -1)
