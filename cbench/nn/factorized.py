"""The factorised prior of a hyper-latent z: one learned distribution for each channel.

For training it is CompressAI's `EntropyBottleneck`, whose checkpoints therefore load. For coding it becomes integers
once, in float64, which then belong to the weights file: no machine ever evaluates the network behind them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cbench.coding import CodingIO, Tables
from cbench.errors import ConfigError
from cbench.nn.rounding import round_through
from cbench.nn.torchvision_guard import guard

guard()
from compressai.entropy_models import EntropyBottleneck  # noqa: E402 - must follow guard()

MEDIAN_BITS = 12
"""Medians are stored in units of 2^-12."""
WEIGHT_BITS = 30
"""Probabilities are stored in units of 2^-30."""
REACH = 1 << 12
"""Quantiles are searched for, and tables end, this far from zero."""
TAIL = 1e-6
"""Share of a distribution that its table leaves to the escape symbol, on each side."""
_OLD_KEY = re.compile(r"_(matrix|bias|factor)(\d)")
_NEW_KEY = re.compile(r"(matrices|biases|factors)\.(\d)")
_NEW_NAMES = {"matrix": "matrices", "bias": "biases", "factor": "factors"}
_OLD_NAMES = {new: old for old, new in _NEW_NAMES.items()}
_KEYS = ("weights", "size", "offset", "median")


class FactorizedPrior(EntropyBottleneck):
    """`EntropyBottleneck` with the pieces that mixed quantisation needs, and with quantiles found by bisection."""

    def likelihood(self, v: Tensor) -> Tensor:
        """Probability of [v - 1/2, v + 1/2] for v (B, C, ...), at least 1e-9; same shape."""
        columns = v.transpose(0, 1)
        p = self.likelihood_lower_bound(self._likelihood(columns.reshape(self.channels, 1, -1))[0])
        return p.reshape(columns.shape).transpose(0, 1)

    def rounded(self, z: Tensor) -> Tensor:
        """Round z (B, C, ...) to the nearest values that the coder can send, median + integer; gradients pass."""
        median = self.quantiles[:, 0, 1].detach().view(-1, *[1] * (z.ndim - 2))
        return round_through(z - median) + median

    @torch.no_grad()
    def settle(self) -> None:
        """Move the three quantiles to where the distribution has them now, by bisection in float64.

        So they need no loss and no optimiser of their own.
        """
        for i in range(3):
            self.quantiles[:, 0, i] = self._quantile(float(self.target[i])).float()

    @torch.no_grad()
    def integers(self) -> FactorizedTables:
        """Tables and medians as stored integers; medians are the present `quantiles`, rounded."""
        unit = 1 << MEDIAN_BITS
        median = (self.quantiles[:, 0, 1].double() * unit).round().clamp(-REACH * unit, REACH * unit)
        tail = float(np.log(TAIL / (1 - TAIL)))
        low = (self._quantile(tail) - median / unit).floor().clamp(-REACH, 0).long()
        high = (self._quantile(-tail) - median / unit).ceil().clamp(0, REACH).long()
        rows = [self._row(c, float(median[c]) / unit, int(low[c]), int(high[c])) for c in range(self.channels)]
        size = np.array([len(row) - 1 for row in rows], np.int32)
        weights = np.zeros((len(rows), int(size.max()) + 1), np.uint32)
        for stored, row in zip(weights, rows, strict=True):
            stored[: len(row)] = row
        return FactorizedTables(weights, size, low.int().cpu().numpy(), median.int().cpu().numpy())

    def _row(self, channel: int, median: float, low: int, high: int) -> np.ndarray:
        """Weights of the symbols low..high and of the escape."""
        edges = torch.arange(low, high + 2, dtype=torch.float64, device=self.quantiles.device) + (median - 0.5)
        cumulative = self._cumulative(edges.expand(self.channels, 1, -1))[channel, 0].sigmoid()
        tail = cumulative[:1] + (1 - cumulative[-1:])
        scaled = torch.cat([cumulative.diff(), tail]).mul(1 << WEIGHT_BITS).round()
        return scaled.clamp(1, 1 << WEIGHT_BITS).cpu().numpy().astype(np.uint32)

    def _quantile(self, target: float) -> Tensor:
        """Where each channel's logit of the distribution function is `target`: (C,) float64."""
        low = torch.full((self.channels, 1, 1), -float(REACH), dtype=torch.float64, device=self.quantiles.device)
        high = -low
        for _ in range(60):
            middle = (low + high) / 2
            below = self._cumulative(middle) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2)[:, 0, 0]

    def _cumulative(self, v: Tensor) -> Tensor:
        """Logits of the distribution functions at v (C, 1, N) float64."""
        logits = v
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            logits = torch.matmul(torch.nn.functional.softplus(matrix.double()), logits) + bias.double()
            if i < len(self.factors):
                logits = logits + self.factors[i].double().tanh() * logits.tanh()
        return logits


@dataclass(frozen=True)
class FactorizedTables:
    """The prior as integers: what a weights file holds and what encoder and decoder use."""

    weights: np.ndarray
    """(C, L + 1) uint32: row c has size[c] symbols and then the escape."""
    size: np.ndarray
    """(C,) int32."""
    offset: np.ndarray
    """(C,) int32: first symbol of each row."""
    median: np.ndarray
    """(C,) int32 in units of 2^-MEDIAN_BITS: symbol s stands for s + median."""

    def __post_init__(self) -> None:
        """Make the coder's tables, which checks them."""
        channels = len(self.weights) if self.weights.ndim == 2 else -1
        if any(len(part) != channels or part.ndim != 1 for part in (self.size, self.offset, self.median)):
            raise ConfigError("the tables of the factorised prior differ in their number of channels")
        if not channels or self.size.min() < 1 or self.size.max() >= self.weights.shape[1]:
            raise ConfigError("the tables of the factorised prior have lengths that do not fit")
        rows = [row[: n + 1] for row, n in zip(self.weights, self.size, strict=True)]
        object.__setattr__(self, "tables", Tables.from_weights(rows, self.offset, escape=True))

    tables: Tables = None  # type: ignore[assignment]
    """For the coder, one row a channel."""

    def code(self, io: CodingIO, symbols: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols (C, h, w) through the coder; None when decoding."""
        channel = np.arange(len(self.size), dtype=np.uint16)[:, None, None]
        return io.code(self.tables, np.broadcast_to(channel, shape), symbols)

    def symbols(self, z: np.ndarray) -> np.ndarray:
        """Nearest symbols of z (C, h, w), int32."""
        return np.rint(z - self.median[:, None, None] / (1 << MEDIAN_BITS)).clip(-(1 << 20), 1 << 20).astype(np.int32)

    def values(self, symbols: np.ndarray, bits: int) -> np.ndarray:
        """Symbols (C, h, w) -> z_hat as int64 in units of 2^-bits, bits >= MEDIAN_BITS: no rounding, on any machine."""
        unit = np.int64(1) << bits
        return symbols * unit + (self.median.astype(np.int64) << (bits - MEDIAN_BITS))[:, None, None]

    def state(self, prefix: str) -> dict[str, np.ndarray]:
        """The entries of a weights file."""
        return {prefix + key: getattr(self, key) for key in _KEYS}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], prefix: str) -> FactorizedTables | None:
        """Back from `state`; None where there are none.

        Raises:
            ConfigError: incomplete or inconsistent.
        """
        if not any(prefix + key in state for key in _KEYS):
            return None
        if not all(prefix + key in state for key in _KEYS):
            raise ConfigError(f"the weights file has only a part of {prefix}*")
        dtypes = (np.uint32, np.int32, np.int32, np.int32)
        return cls(*(np.asarray(state[prefix + key]).astype(kind) for key, kind in zip(_KEYS, dtypes, strict=True)))


def modern_key(key: str) -> str:
    """A key of an `EntropyBottleneck` in today's names: "_matrix0" of old checkpoints is "matrices.0"."""
    return _OLD_KEY.sub(lambda m: f"{_NEW_NAMES[m[1]]}.{m[2]}", key)


def old_key(key: str) -> str:
    """The inverse of `modern_key`."""
    return _NEW_KEY.sub(lambda m: f"_{_OLD_NAMES[m[1]]}{m[2]}", key)
