"""Awkward arrays that every codec codes within its error bound or refuses with `UnsupportedInputError`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SIZES = ((1, 1), (1, 2), (1, 37), (41, 1), (2, 2), (3, 5), (17, 23), (32, 32), (33, 64))
"""(H, W): single pixels, lines, odd, even, and just above what a network halves."""


def awkward_arrays() -> dict[str, np.ndarray]:
    """Name -> (C, H, W) array: all sizes with smooth content, and all kinds of content in one odd size."""
    found: dict[str, np.ndarray] = {}
    for channels, bits in ((1, 8), (3, 8), (1, 16), (3, 16)):
        kind = f"{'grey' if channels == 1 else 'rgb'}{bits}"
        for height, width in SIZES:
            found[f"{kind}-{height}x{width}"] = gradient(channels, height, width, bits)
        for name, array in contents(channels, 19, 26, bits):
            found[f"{kind}-{name}"] = array
    for channels in (2, 4, 5, 9):
        found[f"bands{channels}-8"] = gradient(channels, 11, 14, 8)
        found[f"bands{channels}-16"] = gradient(channels, 11, 14, 16)
    signed = np.random.default_rng(5).integers(-3000, 3000, (4, 9, 13))
    found["int16"] = signed.astype(np.int16)
    found["int16-extremes"] = np.where(signed > 0, 32767, -32768).astype(np.int16)
    found["int32"] = (signed * 100_000).astype(np.int32)
    view = gradient(3, 20, 30, 8)
    found["strided"] = view[:, ::2, ::-3]
    found["pixel-interleaved"] = np.ascontiguousarray(view.transpose(1, 2, 0)).transpose(2, 0, 1)
    return found


def contents(channels: int, height: int, width: int, bits: int) -> Iterator[tuple[str, np.ndarray]]:
    """Flat, extreme and random pictures."""
    rng, top, shape = np.random.default_rng(bits), (1 << bits) - 1, (channels, height, width)
    dtype = np.dtype(f"uint{bits}")
    yield "zero", np.zeros(shape, dtype)
    yield "max", np.full(shape, top, dtype)
    yield "constant", np.full(shape, 77, dtype)
    yield "noise", rng.integers(0, top, shape, dtype, endpoint=True)
    yield "two-levels", (rng.random(shape) < 0.5).astype(dtype) * dtype.type(top)
    yield "checker", (np.indices(shape).sum(axis=0) % 2).astype(dtype) * dtype.type(top)
    lone = np.zeros(shape, dtype)
    lone[-1, -1, -1] = top
    yield "lone-sample", lone


def gradient(channels: int, height: int, width: int, bits: int) -> np.ndarray:
    """A slanted ramp over the full range with a little noise."""
    rng, top = np.random.default_rng(height * 1000 + width), (1 << bits) - 1
    band, row, column = np.indices((channels, height, width))
    ramp = (row * 2 + column + band * 3) / max(1, 2 * height + width + 3 * channels) * top
    return np.clip(ramp + rng.normal(0, top / 64, ramp.shape), 0, top).round().astype(f"uint{bits}")


def bad_arrays() -> dict[str, np.ndarray]:
    """Arrays that no codec takes."""
    return {
        "float": np.zeros((3, 4, 4), np.float32),
        "bool": np.zeros((1, 4, 4), bool),
        "two-axes": np.zeros((4, 4), np.uint8),
        "four-axes": np.zeros((1, 3, 4, 4), np.uint8),
        "no-rows": np.zeros((3, 0, 4), np.uint8),
        "no-channels": np.zeros((0, 4, 4), np.uint8),
    }
