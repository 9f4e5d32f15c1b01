"""CCSDS 123.0-B-2 as codecs: its predictor, quantiser and two of its entropy coders, in our container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbench import _core
from cbench.coding.container import Header
from cbench.coding.cube import CubeCodec
from cbench.errors import BitstreamError, ConfigError


@dataclass(frozen=True)
class Setting:
    """What one file of the standard is made with; all else is fixed (see README.md)."""

    previous_bands: int = 3
    """P of the standard: more bands cost time and gain on some scenes only."""
    hybrid: bool = False
    """The hybrid entropy coder instead of the sample-adaptive one."""


SETTINGS = (Setting(3), Setting(3, hybrid=True), Setting(15), Setting(15, hybrid=True))
"""By the number that a file of `BestCcsds123Codec` begins with; the order never changes."""


class Ccsds123Codec(CubeCodec):
    """Lossless or near-lossless codec for cubes of any size; integer arithmetic, the same bytes on every machine.

    Full prediction mode, wide neighbour-oriented local sums, sample representatives equal to the reconstruction.
    """

    setting = Setting()

    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """See `CubeCodec.encode`."""
        return _encode(x, self.max_error, self.setting)

    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """See `CubeCodec.decode`."""
        return _decode(head, max_error, payload, self.setting)

    def band_bits(self, x: np.ndarray) -> np.ndarray:
        """Bits of each band in the stream of (C, H, W) samples; (C,)."""
        return _band_bits(x, self.max_error, self.setting)


class HybridCcsds123Codec(Ccsds123Codec):
    """The same with the hybrid entropy coder: smaller where a sample costs less than four bits."""

    setting = Setting(hybrid=True)


class BestCcsds123Codec(CubeCodec):
    """The smallest of four files: both entropy coders, three and fifteen previous bands."""

    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """See `CubeCodec.encode`; a byte in front of the stream is the number of the setting."""
        settings = [(setting.previous_bands, setting.hybrid) for setting in SETTINGS]
        depth, low, bound, *_ = _parameters(x.dtype, self.max_error, SETTINGS[0])
        number, payload, restored = _core.ccsds123_smallest(_lines(x), depth, low, bound, settings)
        return bytes([number]) + payload, _samples(restored, x.dtype)

    def band_bits(self, x: np.ndarray) -> np.ndarray:
        """Bits of each band in the stream of (C, H, W) samples; (C,)."""
        payload, _ = self.encode(x)
        return _band_bits(x, self.max_error, SETTINGS[payload[0]])

    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """See `CubeCodec.decode`."""
        if not payload or payload[0] >= len(SETTINGS):
            raise BitstreamError(f"a file of {self.name} names a setting that there is not")
        return _decode(head, max_error, payload[1:], SETTINGS[payload[0]])


def _encode(x: np.ndarray, delta: int, setting: Setting) -> tuple[bytes, np.ndarray]:
    payload, restored = _core.ccsds123_encode(_lines(x), *_parameters(x.dtype, delta, setting))
    return payload, _samples(restored, x.dtype)


def _band_bits(x: np.ndarray, delta: int, setting: Setting) -> np.ndarray:
    return _core.ccsds123_band_bits(_lines(x), *_parameters(x.dtype, delta, setting))


def _decode(head: Header, delta: int, payload: bytes, setting: Setting) -> np.ndarray:
    bands, lines, columns = head.shape
    dtype = np.dtype(head.dtype)
    parameters = _parameters(dtype, delta, setting)
    return _samples(_core.ccsds123_decode(payload, lines, bands, columns, *parameters), dtype)


def _parameters(dtype: np.dtype, delta: int, setting: Setting) -> tuple[int, int, int, int, bool]:
    """D, s_min, m, P, coder; the standard's error limits end below half the range, which is error enough."""
    limits, depth = np.iinfo(dtype), 8 * dtype.itemsize
    bound = min(delta, 2 ** (depth - 1) - 1)
    return depth, int(limits.min), bound, setting.previous_bands, setting.hybrid


def _lines(x: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (T, I, C)."""
    return np.ascontiguousarray(x.transpose(1, 0, 2), np.int32)


def _samples(lines: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Decoded lines (T, I, C) -> (C, H, W)."""
    return np.ascontiguousarray(lines.transpose(1, 0, 2).astype(dtype))


def _without_weights(weights: Path | None) -> None:
    if weights is not None:
        raise ConfigError("ccsds123 has no weights")


def ccsds123(weights: Path | None, device: str, threads: int) -> Ccsds123Codec:
    """`ccsds123`: the sample-adaptive coder, P = 3. Raises `ConfigError` for weights, as the other two."""
    _without_weights(weights)
    return Ccsds123Codec("ccsds123", threads=threads)


def hybrid(weights: Path | None, device: str, threads: int) -> HybridCcsds123Codec:
    """`ccsds123.hybrid`: the hybrid coder, P = 3."""
    _without_weights(weights)
    return HybridCcsds123Codec("ccsds123.hybrid", threads=threads)


def best(weights: Path | None, device: str, threads: int) -> BestCcsds123Codec:
    """`ccsds123.best`: the smallest of both coders with P = 3 and 15."""
    _without_weights(weights)
    return BestCcsds123Codec("ccsds123.best", threads=threads)
