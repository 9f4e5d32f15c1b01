"""Training of LineRWKV: random columns of random band runs; the published loss, or one close to what the codec pays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cbench.models.linerwkv import checkpoint
from cbench.models.linerwkv.config import LineRwkvTraining
from cbench.models.linerwkv.network import LineRwkv
from cbench.models.linerwkv.pipeline import PipelineCodec
from cbench.train.module import Group, PaperModule

UNIT = 1000
"""The published loss counts errors in thousands of counts (reflectance x 10,000 becomes about 0..10)."""
TINY = 1e-8
BLOCK = 16
"""Lines for which the codec keeps one normalisation."""


class LineRwkvModule(PaperModule):
    """Trains a `LineRwkv`."""

    network: LineRwkv

    def __init__(self, config: LineRwkvTraining) -> None:
        super().__init__(config)
        self.network = LineRwkv(config.model)

    @property
    def peak_lr(self) -> float:
        """The learning rate, falling linearly to `final_lr` of its start."""
        return self._first_lr * (1 - (1 - self.config.final_lr) * self.progress)

    @peak_lr.setter
    def peak_lr(self, value: float) -> None:
        self._first_lr = value

    def groups(self) -> list[Group]:
        """Decay rates learn twice, bonuses three times as fast as the rest."""
        factors = {"time_decay": 2.0, "time_first": 3.0}
        parts: dict[str, list[torch.nn.Parameter]] = {"main": [], **{name: [] for name in factors}}
        for name, parameter in self.network.named_parameters():
            parts[next((part for part in factors if part in name), "main")].append(parameter)
        return [
            Group(name=part, parameters=tuple(own), lr=factors.get(part, 1.0), betas=(0.9, 0.99))
            for part, own in parts.items()
        ]

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, I, T, C): bands, lines, columns."""
        chance = torch.Generator().manual_seed((self.seed << 32) ^ (self.step if self.network.training else 1))
        bands = self.config.bands if self.network.training else None
        x = _band_run(batch, bands, chance).permute(0, 2, 3, 1).to(torch.int32)
        count = x.shape[0] * x.shape[2]
        positions = torch.randperm(count, generator=chance)[: self.config.positions].to(x.device)
        if not self.config.codec_loss:
            error = columns_error(self.network, x.float() / UNIT, positions)
            bits = _bits(error.detach() * UNIT)
            return {"loss": error.abs().mean(), "bpd": bits.mean(), "error": error.detach().abs().mean() * UNIT}
        step = self.config.steps[int(torch.randint(len(self.config.steps), (1,), generator=chance))]
        error = codec_error(self.network, x, step if self.network.training else 1, positions)
        bits = _bits(error).mean()
        return {"loss": bits, "bpd": bits, "error": error.detach().abs().mean()}

    def codec(self) -> PipelineCodec:
        """See `PaperModule.codec`; the codec whose rate says most about the network."""
        return PipelineCodec("linerwkv.training", self._weights(), threads=torch.get_num_threads())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`."""
        checkpoint.save(path, self._weights(), metadata)

    def load(self, path: Path) -> None:
        """See `PaperModule.load`; published weights are as good a start as ours."""
        self.network.load_state_dict(checkpoint.load(path).network.state_dict())

    def _weights(self) -> checkpoint.Weights:
        return checkpoint.build(self.network.state_dict())


def columns_error(network: LineRwkv, x: Tensor, positions: Tensor) -> Tensor:
    """Prediction errors under the published normalisation: statistics of each band over the whole patch.

    Args:
        network: the predictor.
        x: (B, T, C, I) samples.
        positions: (P) columns b * C + c.

    Returns:
        (P, T - 1, I) in the units of x.
    """
    mu, sigma = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
    p = network((x - mu) / (sigma + TINY), positions)
    image = positions // x.shape[2]
    return p * sigma[image, 0] + mu[image, 0] - x.transpose(1, 2).flatten(0, 1)[positions, 1:]


def codec_error(network: LineRwkv, x: Tensor, step: int, positions: Tensor) -> Tensor:
    """Prediction errors as the codec sees them: samples (B, T, C, I) int quantised, normalised by the lines before.

    Returns:
        (P, T - 1, I) in quantiser steps.
    """
    quantised = torch.div(x + step // 2, step, rounding_mode="floor").float()
    mu, sigma = causal_scale(quantised * step)
    mu, sigma = mu / step, sigma / step
    p = network((quantised - mu) / sigma, positions)
    image = positions // x.shape[2]
    true = quantised.transpose(1, 2).flatten(0, 1)[positions, 1:]
    return p * sigma[image, 1:, 0] + mu[image, 1:, 0] - true


def causal_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, T, 1, I) that the codec has for each line of x (B, T, C, I).

    They are those of all lines before the last multiple of 16, and of line 0 for the first 16.
    """
    lines, columns = x.shape[1:3]
    x = x.double()
    count = (torch.arange(lines, device=x.device) // BLOCK * BLOCK).clamp(min=1)
    number = (count * columns).view(1, -1, 1).double()
    total = x.sum(2).cumsum(1)[:, count - 1]
    squares = x.square().sum(2).cumsum(1)[:, count - 1]
    variance = (squares - total.square() / number) / (number - 1).clamp(min=1)
    mu, sigma = (total / number).round(), variance.clamp(min=0).sqrt().round().clamp(min=1)
    return mu.float()[:, :, None], sigma.float()[:, :, None]


def _bits(error: Tensor) -> Tensor:
    """Bits a sample of a coder that knows each band's mean error (P, T, I): the entropy of a Laplace distribution."""
    return (2 * math.e * (error.abs().mean((0, 1)) + 0.2)).log2()


def _band_run(batch: Tensor, length: int | None, chance: torch.Generator) -> Tensor:
    """A random run of consecutive bands of (B, I, T, C), another one in every image."""
    bands = batch.shape[1]
    if length is None or length >= bands:
        return batch
    starts = torch.randint(bands - length + 1, (len(batch),), generator=chance).tolist()
    return torch.stack([image[start : start + length] for image, start in zip(batch, starts, strict=True)])
