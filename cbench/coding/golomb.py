"""The sample-adaptive Golomb coder of CCSDS 123.0-B: mapped residuals <-> bits, without any header."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cbench import _core
from cbench.errors import UnsupportedInputError


@dataclass(frozen=True, kw_only=True)
class GolombParams:
    """Parameters under the standard's names; the defaults are those of LineRWKV's published pipeline."""

    depth: int = 16
    """D: bits of a mapped residual."""
    u_max: int = 18
    """Longest unary part before a residual is written as D raw bits."""
    gamma_0: int = 1
    """Exponent of the counters' first value."""
    k: int = 3
    """Sets the accumulators' first value."""
    gamma_star: int = 6
    """Exponent of the count at which statistics are halved."""


DEFAULT = GolombParams()


def encode(mapped: np.ndarray, params: GolombParams = DEFAULT) -> bytes:
    """Code mapped residuals (T, I, C): lines, bands, columns, any integer dtype, each within 0..2^D - 1.

    Raises:
        UnsupportedInputError: a residual outside that range, or parameters outside the standard's.
    """
    if mapped.ndim != 3 or mapped.size == 0 or mapped.min() < 0 or mapped.max() >> params.depth:
        raise UnsupportedInputError(f"mapped residuals are (lines, bands, columns) of at most {params.depth} bits")
    return _core.golomb_encode(np.ascontiguousarray(mapped, np.uint16), *_values(params))


def decode(data: bytes, shape: tuple[int, int, int], params: GolombParams = DEFAULT) -> np.ndarray:
    """Inverse of `encode`: (T, I, C) uint16.

    Raises:
        BitstreamError: truncated data, or data left over.
    """
    return _core.golomb_decode(data, *shape, *_values(params))


def _values(params: GolombParams) -> tuple[int, ...]:
    return params.depth, params.u_max, params.gamma_0, params.k, params.gamma_star
