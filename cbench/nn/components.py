"""The best linear transform coder of a model picture: what a short training of a transform can start from.

A short training spends most of its time on finding a transform that packs a picture's energy into few channels. The
best linear one is known (principal components), and steps that halve the resolution can hold it: each maps 2 x 2
neighbours of the channels before to their principal components and keeps the largest. The components are those of a
model picture, neighbouring pixels correlated by RHO and colours by COLOUR, so no data is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

RHO, COLOUR = 0.95, 0.93
MEAN = 0.45
PIXEL = 0.25
"""Mean and standard deviation of a pixel."""


def components(channels: Sequence[int]) -> list[Tensor]:
    """Kernels (m, n, 2, 2) of the steps from 3 channels, m at most the given number; float32."""
    basis, kernels = np.eye(3)[:, :, None, None], []
    for most in channels:
        basis, kernel = _merge(basis, most)
        kernels.append(torch.from_numpy(kernel).float())
    return kernels


def covariances(channels: Sequence[int], reach: int) -> np.ndarray:
    """Covariance of each of the last components with itself some blocks away in the model picture.

    Args:
        channels: as for `components`.
        reach: blocks to each side.

    Returns:
        (m, 2 reach + 1, 2 reach + 1) float64; the middle is the variance.
    """
    basis = np.eye(3)[:, :, None, None]
    for most in channels:
        basis, _ = _merge(basis, most)
    side = basis.shape[2]
    shifts = np.arange(-reach, reach + 1)[:, None, None] * side
    lines = RHO ** np.abs(np.subtract.outer(np.arange(side), np.arange(side)) + shifts)
    rows = np.einsum("kcyx,ayu->akcux", basis, lines, optimize=True)
    mixed = np.einsum("kcyx,cd,bxv->bkdyv", basis, _colours(3), lines, optimize=True)
    return PIXEL**2 * np.einsum("akcux,bkcux->kab", rows, mixed, optimize=True)


def _colours(count: int) -> np.ndarray:
    return np.full((count, count), COLOUR) + (1 - COLOUR) * np.eye(count)


def _merge(basis: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Functionals (n, 3, b, b) of a block -> those of a block twice as large, and the kernel (m, n, 2, 2) between."""
    n, colours, b, _ = basis.shape
    placed = np.zeros((n, 2, 2, colours, 2 * b, 2 * b))
    for i in range(2):
        for j in range(2):
            placed[:, i, j, :, i * b : (i + 1) * b, j * b : (j + 1) * b] = basis
    placed = placed.reshape(4 * n, colours, 2 * b, 2 * b)
    line = RHO ** np.abs(np.subtract.outer(np.arange(2 * b), np.arange(2 * b)))
    spread = np.einsum("kcyx,cd,yu,xv->kduv", placed, _colours(colours), line, line, optimize=True)
    flat = placed.reshape(4 * n, -1)
    _, vectors = np.linalg.eigh(flat @ spread.reshape(4 * n, -1).T)
    kept = np.ascontiguousarray(vectors[:, ::-1][:, :most].T)
    return (kept @ flat).reshape(-1, colours, 2 * b, 2 * b), kept.reshape(-1, n, 2, 2)
