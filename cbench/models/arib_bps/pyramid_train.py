"""Training of the pyramid: its loss is the code length; weights that mix channels learn by Muon, all others by Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cbench.models.arib_bps import pyramid_weights
from cbench.models.arib_bps.pyramid import Pyramid
from cbench.models.arib_bps.pyramid_codec import PyramidCodec
from cbench.models.arib_bps.pyramid_config import PyramidTraining
from cbench.models.arib_bps.pyramid_data import split
from cbench.train.module import Group, PaperModule

MIXING = ("wide", "narrow", "carry", "inner", "up")
"""Layers that Muon trains."""
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class PyramidModule(PaperModule):
    """Trains a `Pyramid` on pictures of one kind or of both."""

    network: Pyramid

    def __init__(self, config: PyramidTraining) -> None:
        super().__init__(config)
        self.network = Pyramid(config.model).to(memory_format=torch.channels_last)

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, 3, H, W) uint8, or (B, 4, 64, 64) of `pyramid_data.Mixed`."""
        if batch.shape[1] == 3:
            bpd = self._bpd(batch.float(), self.config.kind_of(*batch.shape[2:]))
        else:
            seed = (self.seed << 40) ^ (self.step << 8) ^ self.global_rank
            parts = split(batch, torch.Generator().manual_seed(seed))
            bpd = torch.stack([self._bpd(x, kind) for x, kind in parts]).mean()
        return {"loss": bpd, "bpd": bpd}

    def _bpd(self, x: Tensor, kind: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        found = self.network.nats(x, torch.full((len(x),), kind, device=x.device))
        return torch.stack([nats.sum() for nats in found]).sum() / (x.numel() * math.log(2))

    def groups(self) -> list[Group]:
        """The weights that mix channels, and all others."""
        named = list(self.network.named_parameters())
        mixing = {name for name, value in named if value.ndim == 4 and name.split(".")[-2] in MIXING}
        return [
            Group(name="mixing", parameters=tuple(v for n, v in named if n in mixing), lr=self.config.muon),
            Group(name="main", parameters=tuple(v for n, v in named if n not in mixing), betas=(0.9, 0.99)),
        ]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """See `PaperModule.configure_optimizers`."""
        mixing, main = self.groups()
        return [
            Muon(mixing.parameters, self.peak_lr * mixing.lr),
            torch.optim.Adam(main.parameters, lr=self.peak_lr, betas=main.betas),
        ]

    def codec(self) -> PyramidCodec:
        """See `PaperModule.codec`."""
        return PyramidCodec("arib_bps.pyramid", pyramid_weights.build(self.network), torch.get_num_threads())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`."""
        pyramid_weights.save(path, pyramid_weights.build(self.network), metadata)

    def load(self, path: Path) -> None:
        """See `PaperModule.load`."""
        self.network.load_state_dict(pyramid_weights.load(path).network.state_dict())


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, so that all directions of a matrix (O, I * k * k) learn alike."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"]).flatten(1)
                factor = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                weight.sub_(orthogonal(ahead).view_as(weight), alpha=group["lr"] * factor)


def orthogonal(x: Tensor) -> Tensor:
    """About the nearest matrix to x (n, m) whose singular values are equal, by Newton and Schulz's iteration."""
    wide = x if len(x) <= x.shape[1] else x.T
    y = wide / (wide.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = y @ y.T
        y = a * y + (b * square + c * square @ square) @ y
    return y if wide is x else y.T
