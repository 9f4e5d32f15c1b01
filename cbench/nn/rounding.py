"""Rounding that training can see through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def round_through(x: Tensor) -> Tensor:
    """Nearest integers (ties to even); the gradient passes as if nothing had happened."""
    return _Round.apply(x)


def noisy(x: Tensor, noise: Tensor | None = None) -> Tensor:
    """Add noise from U(-1/2, 1/2) to x, the stand-in for rounding in the rate of a training step."""
    return x + (torch.rand_like(x) - 0.5 if noise is None else noise)
