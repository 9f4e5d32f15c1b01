"""The networks as the codec runs them: integers in, integer probabilities out, for a batch of tiles.

`exact`: float64, and everything that decides a probability is rounded to a coarse grid. Between thread counts, batch
sizes and instruction sets the results of float64 differ by some 1e-14. A number that lies so close to the middle
between two grid points that it could be rounded differently is hardly ever met; the content check would find it.
`fast` (float32), `plain` (the same by PyTorch's convolutions, as `fast` once was) and `bf16` differ by up to 1e-5, 1e-5
and 1e-2; their files are decoded once before they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cbench import _core
from cbench.models.arib_bps.fused import fuse
from cbench.models.arib_bps.latents import bit_probabilities
from cbench.models.arib_bps.layers import NormalisedConv
from cbench.models.arib_bps.network import COLOURS, AribNetwork, PlaneModel, logits, parameter_count
from cbench.models.arib_bps.planes import STEPS, bit, signs, sub_image, top

Precision = Literal["exact", "plain", "bf16", "fast"]
PRECISIONS: tuple[Precision, ...] = ("exact", "plain", "bf16", "fast")
"""In the order of their numbers in files."""

BATCH_PIXELS = 16384
"""Pixels that a network sees at once; bounds the memory, and more would not be faster."""

FUSED_PARAMETERS = 100_000_000
"""Larger models keep their ordinary convolutions: Winograd's would take up to 32 bytes a weight in float64."""

CodeBits = Callable[[int, np.ndarray], np.ndarray]
"""(colour, probabilities (B, h, w)) -> the bits (B, h, w) uint8."""


class Engine:
    """Both models in evaluation mode, at one precision."""

    def __init__(self, network: AribNetwork, precision: Precision, device: torch.device, threads: int = 1) -> None:
        self.precision = precision
        self.dtype = torch.float64 if precision == "exact" else torch.float32
        self.device = device
        own = deepcopy(network).eval().requires_grad_(False).to(self.dtype)
        _exchange(own, NormalisedConv, NormalisedConv.plain)
        small = parameter_count(own) <= FUSED_PARAMETERS
        if precision in ("exact", "fast") and device.type == "cpu" and small:
            own = fuse(own, _core.ConvCrew(threads))
        elif precision != "exact":
            own = own.to(memory_format=torch.channels_last)
        if precision == "bf16":
            _round_weights(own)
        self.sig, self.ins = own.sig.to(device), own.ins.to(device)
        self.layers = own.config.n_layers

    def probabilities(self, model: PlaneModel, x: np.ndarray, f_z: Tensor | None) -> np.ndarray:
        """Every probability of a model's planes of known tiles: (planes, 4, 3, B, H/2, W/2) uint16."""
        tiles = torch.from_numpy(x).to(self.device)
        latent = [] if f_z is None else [model.fold_context(f_z)]
        out = np.empty((model.planes, len(STEPS), COLOURS, len(x), x.shape[2] // 2, x.shape[3] // 2), np.uint16)
        at_once = max(1, BATCH_PIXELS // (x.size // COLOURS))
        with self._autocast():
            for start in range(0, model.planes, at_once):
                some = range(start, min(start + at_once, model.planes))
                for plane, context in zip(some, model.contexts(tiles, some), strict=True):
                    own = signs(bit(tiles, model.first_plane + plane), self.dtype)
                    parts = [*([] if context is None else [context]), *latent]
                    for step in range(len(STEPS)):
                        found = model.parameters_of(plane, step, parts, own, tiles)
                        given = sub_image(own, step)
                        for colour in range(COLOURS):
                            out[plane, step, colour] = self._bits(found, given, colour)
        return out

    def decode_planes(
        self, model: PlaneModel, x: np.ndarray, f_z: Tensor | None, code: Callable[[int, int], CodeBits]
    ) -> None:
        """Fill in a model's planes of the tiles x (B, 3, H, W) uint8, whose upper planes are known.

        Args:
            model: SIG or INS.
            x: changed in place.
            f_z: of SIG.
            code: (plane, step) -> what gives the bits of its colours.
        """
        tiles = torch.from_numpy(x)
        latent = [] if f_z is None else [model.fold_context(f_z)]
        with self._autocast():
            for plane in range(model.planes):
                seen = tiles.to(self.device)
                context = model.contexts(seen, [plane])[0]
                parts = [*([] if context is None else [context]), *latent]
                bits = torch.zeros_like(tiles)
                for step in range(len(STEPS)):
                    own = signs(bits.to(self.device), self.dtype)
                    found = model.parameters_of(plane, step, parts, own, seen)
                    coder = code(plane, step)
                    target = sub_image(bits, step)
                    for colour in range(COLOURS):
                        given = signs(target.to(self.device), self.dtype)
                        target[:, colour] = torch.from_numpy(coder(colour, self._bits(found, given, colour)))
                tiles |= bits << (8 - model.first_plane - plane)

    def bottom(self, x: np.ndarray) -> list[Tensor]:
        """Features b_i of tiles for the posterior."""
        with self._autocast():
            return self.sig.lvae.bottom(top(torch.from_numpy(x).to(self.device), self.sig.planes, self.dtype))

    def top_down(
        self, shape: tuple[int, int, int], bottom: Sequence[Tensor] | None,
        draw: Callable[[int, np.ndarray | None, tuple[int, ...]], np.ndarray],
    ) -> Tensor:  # fmt: skip
        """F_z of tiles.

        Args:
            shape: (B, H, W).
            bottom: from `bottom`; None where the latents are known.
            draw: (scale i, delta = mu_q - mu_p or None, shape of z_i) -> z_i - mu_p, float64.
        """

        def sample(i: int, mu_q: Tensor | None, mu_p: Tensor) -> Tensor:
            delta = None if mu_q is None else (mu_q - mu_p).double().cpu().numpy()
            return mu_p + torch.from_numpy(draw(i, delta, tuple(mu_p.shape))).to(mu_p)

        with self._autocast():
            return self.sig.lvae.top_down(shape, bottom, sample)

    def _bits(self, parameters: Tensor, given: Tensor, colour: int) -> np.ndarray:
        found = logits(parameters.to(self.dtype), given, colour)
        return bit_probabilities(found.double().cpu().numpy())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def _exchange(module: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]) -> None:
    """Replace every part of a kind by what `make` makes of it."""
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, make(child))
        else:
            _exchange(child, kind, make)


def _round_weights(network: AribNetwork) -> None:
    """Do once what autocast would do in every pass; the U-Nets' first layers run without autocast."""
    spared = {id(model.plane_context.first) for model in (network.sig, network.ins)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear) and id(module) not in spared:
            module.to(torch.bfloat16)


def batches(sizes: Sequence[int]) -> Iterator[range]:
    """Cut a list of things of so many pixels into runs of at most `BATCH_PIXELS`, at least one thing each."""
    start, total = 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > BATCH_PIXELS:
            yield range(start, i)
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield range(start, len(sizes))
