"""CCSDS 123.0-B-2 as a codec: its predictor, quantiser and sample-adaptive coder, in our container."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cbench import _core
from cbench.coding.container import Header
from cbench.coding.cube import CubeCodec
from cbench.errors import ConfigError

PREVIOUS_BANDS = 3
"""P of the standard: more bands cost time and gain nothing on most scenes."""


class Ccsds123Codec(CubeCodec):
    """Lossless or near-lossless codec for cubes of any size; integer arithmetic, the same bytes on every machine.

    Full prediction mode, wide neighbour-oriented local sums, sample representatives equal to the reconstruction.
    """

    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """See `CubeCodec.encode`."""
        lines = np.ascontiguousarray(x.transpose(1, 0, 2), np.int32)
        payload, restored = _core.ccsds123_encode(lines, *_parameters(x.dtype, self.max_error))
        return payload, _samples(restored, x.dtype)

    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """See `CubeCodec.decode`."""
        bands, lines, columns = head.shape
        dtype = np.dtype(head.dtype)
        parameters = _parameters(dtype, max_error)
        return _samples(_core.ccsds123_decode(payload, lines, bands, columns, *parameters), dtype)


def _parameters(dtype: np.dtype, delta: int) -> tuple[int, int, int, int]:
    """D, s_min, m and P; the standard's error limits end below half the range, which is error enough."""
    limits, depth = np.iinfo(dtype), 8 * dtype.itemsize
    return depth, int(limits.min), min(delta, 2 ** (depth - 1) - 1), PREVIOUS_BANDS


def _samples(lines: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Decoded lines (T, I, C) -> (C, H, W)."""
    return np.ascontiguousarray(lines.transpose(1, 0, 2).astype(dtype))


def ccsds123(weights: Path | None, device: str, threads: int) -> Ccsds123Codec:
    """`ccsds123`; there are no weights.

    Raises:
        ConfigError: weights were given.
    """
    if weights is not None:
        raise ConfigError("ccsds123 has no weights")
    return Ccsds123Codec("ccsds123", threads=threads)
