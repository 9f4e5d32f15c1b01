"""Doors into other libraries, each a thin optional module: `pillow`, `numcodecs` (zarr 2), `zarr` (3)."""

from __future__ import annotations

import numpy as np


def as_planes(array: np.ndarray) -> np.ndarray:
    """An array of any rank as (C, H, W): leading axes are joined, missing ones are 1."""
    rows = array.shape[-2] if array.ndim > 1 else 1
    columns = array.shape[-1] if array.ndim > 0 else 1
    return np.ascontiguousarray(array).reshape(-1, rows, columns)
