"""The two models. Both code a plane in four steps (sub-images); a step needs the planes above, the steps before, and in
SIG the latent's F_z. Names as in the paper's figure; see README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.arib_bps.config import AribConfig
from cbench.models.arib_bps.layers import (
    Attention,
    ChannelGate,
    NormalisedConv,
    NormalisedStack,
    ResBlock,
    TimedBlock,
    TimeEmbedding,
    conv3,
)
from cbench.models.arib_bps.local import LocalNet, differences
from cbench.models.arib_bps.planes import PLANES, STEPS, known, squeeze, sub_image, top, unsqueeze

PARAMETERS = 6
"""f_r, f_g, f_b, alpha, beta, gamma of every pixel."""
COLOURS = 3

Sample = Callable[[int, Tensor | None, Tensor], Tensor]
"""(scale i, mu_q or None, mu_p) -> z_i."""


class PlaneNet(nn.Module):
    """U-Net over the planes above: plane autoregression."""

    def __init__(self, inputs: int, width: int, depth: int, levels: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.embed = TimeEmbedding(width)
        self.first = conv3(inputs, width)
        self.down, self.smaller = nn.ModuleList(), nn.ModuleList()
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            self.down.append(nn.ModuleList(TimedBlock(width, width, groups, dropout) for _ in range(depth)))
            blocks = (TimedBlock(2 * width, width, groups, dropout) for _ in range(depth + 1))
            self.up.append(nn.ModuleList(blocks))
            if level:
                self.smaller.append(conv3(width, width, stride=2))
                self.larger.append(conv3(width, width))
        self.before, self.after = (TimedBlock(width, width, groups, dropout) for _ in range(2))
        self.attention = Attention(width, groups)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps x (B, inputs, H, W), time (B,) -> (B, width, H, W)."""
        emb = self.embed(time)
        with torch.autocast(x.device.type, enabled=False):  # bits of low planes are differences that bfloat16 loses
            h = self.first(x)
        skips = [h]
        for level, blocks in enumerate(self.down):
            if level:
                h = self.smaller[level - 1](h)
                skips.append(h)
            for block in blocks:
                h = block(h, emb)
                skips.append(h)
        h = self.after(self.attention(self.before(h, emb)), emb)
        for level in reversed(range(len(self.up))):
            for block in self.up[level]:
                h = block(torch.cat([h, skips.pop()], 1), emb)
            if level:
                h = self.larger[level - 1](functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        return h


class LatentModel(nn.Module):
    """Ladder VAE with L scales; one bottom-up, one mean and one deterministic block serve all of them."""

    def __init__(self, config: AribConfig, dropout: float = 0.0) -> None:
        super().__init__()
        w, c, depth = config.latent_width, config.latent_channels, config.latent_depth
        self.channels, self.layers, self.planes = c, config.n_layers, config.sig_num
        self.head = conv3(3, w)
        self.bottom_up = NormalisedStack(4 * w, w, w, depth, dropout)
        self.mean = NormalisedStack(w, c, w, depth, dropout)
        self.deterministic = NormalisedStack(c, w, w, depth, dropout)
        self.grow = NormalisedConv(w, 4 * w, log=True)

    def bottom(self, x: Tensor) -> list[Tensor]:
        """top(x, s) (B, 3, H, W) -> b_0 .. b_{L-1}, b_i at 1/2^(i+1) of the resolution."""
        found, h = [], self.head(x)
        for _ in range(self.layers):
            h = self.bottom_up(functional.silu(squeeze(h)))
            found.append(h)
        return found

    def top_down(self, shape: tuple[int, int, int], bottom: Sequence[Tensor] | None, sample: Sample) -> Tensor:
        """From the coarsest scale to F_z.

        Args:
            shape: (B, H, W) of the pictures.
            bottom: b_i; None where the posterior is not needed (decoder).
            sample: gives z_i; called with i = L - 1 .. 0.

        Returns:
            F_z (B, w, H, W), the "hyperprior".
        """
        batch, height, width = shape
        u: Tensor | None = None
        for i in reversed(range(self.layers)):
            size = (batch, self.channels, height >> (i + 1), width >> (i + 1))
            mu_p = self.head.weight.new_zeros(size) if u is None else self.mean(u)
            mu_q = None if bottom is None else self.mean(bottom[i] if u is None else u + bottom[i])
            h = self.deterministic(sample(i, mu_q, mu_p))
            u = unsqueeze(self.grow(h if u is None else h + u))
        return u


class PlaneModel(nn.Module):
    """What SIG and INS share: context of a plane, and the parameters of a step given all that is known."""

    first_plane: int
    """Number of the first plane that the model codes, from 1."""
    first_context: int
    """0: every plane has a context from the planes above; 1: the first plane has none."""

    def __init__(
        self, config: AribConfig, planes: int, plane_net: tuple[int, int], step: tuple[int, int, int], latent: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, self.planes = config, planes
        width, depth = plane_net
        space_width, entropy_width, entropy_depth = step
        inputs = COLOURS * (4 if config.folded else 1)
        latent = latent * (4 if config.folded else 1)
        self.plane_context = PlaneNet(inputs, width, depth, config.n_layers + 1, config.groups, dropout)
        self.space_contexts, self.entropys = nn.ModuleList(), nn.ModuleList()
        self.locals = nn.ModuleList(
            LocalNet(entropy_width, config.local, PARAMETERS) for _ in range(planes if config.local else 0)
        )
        for plane in range(planes):
            for j in range(1 if config.share else len(STEPS)):
                spatial = config.share or j > 0
                if spatial:
                    block = ResBlock(space_width, config.groups, dropout)
                    self.space_contexts.append(nn.Sequential(conv3(inputs, space_width), block))
                seen = (width if plane >= self.first_context else 0) + latent + (space_width if spatial else 0)
                outputs = PARAMETERS * (len(STEPS) if config.share and config.folded else 1)
                net = _parameter_net(seen, outputs, entropy_width, entropy_depth, config.groups, dropout)
                self.entropys.append(net)

    def contexts(self, x: Tensor, planes: Sequence[int]) -> list[Tensor | None]:
        """Plane contexts of some planes of x (B, 3, H, W) uint8, in one pass of the U-Net.

        Args:
            x: pictures; only the planes above each of `planes` are looked at.
            planes: numbers within this model, from 0.
        """
        wanted = [i for i in planes if i >= self.first_context]
        if not wanted:
            return [None for _ in planes]
        dtype = self.plane_context.first.weight.dtype
        seen = torch.cat([self._fold(top(x, self.first_plane - 1 + i, dtype)) for i in wanted])
        times = torch.tensor([i + 1 - self.first_context for i in wanted], dtype=dtype, device=x.device)
        found = self.plane_context(seen, times.repeat_interleave(len(x))).chunk(len(wanted))
        by_plane = dict(zip(wanted, found, strict=True))
        return [by_plane.get(i) for i in planes]

    def parameters_of(self, plane: int, step: int, context: Sequence[Tensor], plane_signs: Tensor, x: Tensor) -> Tensor:
        """Parameters of one step's pixels.

        Args:
            plane: number within this model, from 0.
            step: 0..3.
            context: plane context (if the plane has one) and folded F_z (SIG), in this order.
            plane_signs: (B, 3, H, W) signs of the plane's bits; only the steps before are looked at.
            x: (B, 3, H, W) uint8; only the planes above are looked at, and only by local nets.

        Returns:
            (B, 6, H/2, W/2).
        """
        share = self.config.share
        parts = list(context)
        if share or step:
            space = self.space_contexts[plane if share else 3 * plane + step - 1]
            parts.append(space(self._fold(known(plane_signs, step))))
        found, seen = self._found(plane if share else 4 * plane + step, parts)
        return self._with_local(self._of_step(found, step), seen, plane, step, plane_signs, x)

    def parameters_of_all(self, plane: int, context: Sequence[Tensor], plane_signs: Tensor, x: Tensor) -> list[Tensor]:
        """`parameters_of` every step, for training: shared nets see the four steps as one batch."""
        steps = range(len(STEPS))
        if not self.config.share:
            return [self.parameters_of(plane, step, context, plane_signs, x) for step in steps]
        known_signs = self._fold(torch.cat([known(plane_signs, step) for step in steps]))
        parts = [torch.cat([part] * len(STEPS)) for part in context]
        both = self._found(plane, [*parts, self.space_contexts[plane](known_signs)])
        return [
            self._with_local(self._of_step(found, step), seen, plane, step, plane_signs, x)
            for step, (found, seen) in enumerate(zip(*(part.chunk(len(STEPS)) for part in both), strict=True))
        ]

    def _found(self, net: int, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What a parameter net gives, and the features before its last layer."""
        *layers, last = self.entropys[net]
        seen = torch.cat(list(parts), 1)
        for layer in layers:
            seen = layer(seen)
        return last(seen), seen

    def _with_local(
        self, found: Tensor, seen: Tensor, plane: int, step: int, plane_signs: Tensor, x: Tensor
    ) -> Tensor:  # fmt: skip
        if not self.config.local:
            return found
        near = differences(x, self.first_plane + plane, step, plane_signs)
        return found + self.locals[plane](near, seen if self.config.folded else sub_image(seen, step), step)

    def _of_step(self, found: Tensor, step: int) -> Tensor:
        if not self.config.folded:
            return sub_image(found, step)
        return found[:, PARAMETERS * step : PARAMETERS * (step + 1)] if self.config.share else found

    def fold_context(self, f_z: Tensor) -> Tensor:
        """F_z as the parameter nets take it."""
        return self._fold(f_z)

    def _fold(self, x: Tensor) -> Tensor:
        return squeeze(x) if self.config.folded else x


class Sig(PlaneModel):
    """Planes 1 .. s, with a latent."""

    first_plane, first_context = 1, 1

    def __init__(self, config: AribConfig, dropout: float = 0.0) -> None:
        plane_net = (config.sig_plane_width, config.sig_plane_depth)
        super().__init__(config, config.sig_num, plane_net, config.sig_step, config.latent_width, dropout)
        self.lvae = LatentModel(config, dropout)


class Ins(PlaneModel):
    """Planes s + 1 .. 8, from the planes above alone."""

    first_context = 0

    def __init__(self, config: AribConfig, dropout: float = 0.0) -> None:
        self.first_plane = config.sig_num + 1
        plane_net = (config.ins_plane_width, config.ins_plane_depth)
        super().__init__(config, PLANES - config.sig_num, plane_net, config.ins_step, 0, dropout)


class AribNetwork(nn.Module):
    """Both models."""

    def __init__(self, config: AribConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.sig = Sig(config, dropout)
        self.ins = Ins(config, dropout)


def logits(parameters: Tensor, step_signs: Tensor | None, colour: int) -> Tensor:
    """Logit of P(bit = 1) of one colour, linear in the signs of the colours before it.

    Args:
        parameters: (B, 6, h, w).
        step_signs: (B, 3, h, w) signs of this step's bits; only the colours before `colour` are looked at.
        colour: 0 red, 1 green, 2 blue.
    """
    f = parameters[:, colour]
    if colour == 1:
        return f + parameters[:, 3] * step_signs[:, 0]
    if colour == 2:
        return f + parameters[:, 4] * step_signs[:, 0] + parameters[:, 5] * step_signs[:, 1]
    return f


def _parameter_net(inputs: int, outputs: int, width: int, depth: int, groups: int, dropout: float) -> nn.Sequential:
    blocks = (ResBlock(width, groups, dropout) for _ in range(depth))
    return nn.Sequential(ChannelGate(inputs), nn.Conv2d(inputs, width, 1), *blocks, nn.SiLU(), conv3(width, outputs))


def parameter_count(module: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(math.prod(p.shape) for p in module.parameters())
