"""The paper's pipeline as a codec, made exact and self-contained: `linerwkv.<size>-ccsds`.

The network predicts every sample from the lines before and the bands before; the prediction is rounded, and the
residual goes through the sample-adaptive Golomb coder of CCSDS 123. For a bound delta > 0, samples are quantised with
step 2 delta + 1 first. Unlike the original, encoder and decoder run the same routine (`csrc/engines/linerwkv.cpp`) with
a fixed order of operations, so there is no stream of warnings, and bands are normalised with statistics of the lines
already coded, so there is no side information.
"""

from __future__ import annotations

import numpy as np

from cbench import _core
from cbench.coding.container import Header
from cbench.coding.cube import CubeCodec
from cbench.models.linerwkv import checkpoint


class PipelineCodec(CubeCodec):
    """Lossless or near-lossless codec for cubes of any size; the same bytes on every machine."""

    def __init__(
        self, name: str, weights: checkpoint.Weights, max_error: int = 0, threads: int = 1, *, integers: bool = False
    ) -> None:
        """`threads` share the columns of a line; they change the speed only. `integers`: see `LineRwkvCodec`."""
        super().__init__(name, max_error, threads)
        self.fingerprint = weights.fingerprint()
        self._network = core_network(weights, integers=integers)

    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """See `CubeCodec.encode`."""
        quantised = _quantise(x, self.max_error)
        lines = _lines(quantised)
        payload = _core.linerwkv_encode(self._network, lines, *_range(x.dtype, self.max_error), self.threads)
        return payload, _restore(quantised, self.max_error, x.dtype)

    def band_bits(self, x: np.ndarray) -> np.ndarray:
        """Bits of each band in the stream of (C, H, W) samples; (C,)."""
        lines = _lines(_quantise(x, self.max_error))
        return _core.linerwkv_band_bits(self._network, lines, *_range(x.dtype, self.max_error), self.threads)

    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """See `CubeCodec.decode`."""
        bands, lines, columns = head.shape
        dtype = np.dtype(head.dtype)
        shape = (lines, bands, columns)
        quantised = _core.linerwkv_decode(self._network, payload, *shape, *_range(dtype, max_error), self.threads)
        return _restore(quantised.transpose(1, 0, 2), max_error, dtype)


def core_network(weights: checkpoint.Weights, *, integers: bool = False) -> _core.LineNetwork:
    """The network as the C++ engine holds it; `integers`: with 8-bit weights and 16-bit features."""
    config = weights.config
    sizes = (config.features, config.encoder_layers, config.line_blocks, config.band_blocks, config.decoder_layers)
    return _core.LineNetwork(*sizes, weights.state, integers)


def _quantise(x: np.ndarray, delta: int) -> np.ndarray:
    """X = round(x / q), q = 2 delta + 1; q is odd, so there are no ties."""
    return (x.astype(np.int32) + delta) // (2 * delta + 1)


def _lines(x: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (T, I, C)."""
    return np.ascontiguousarray(x.transpose(1, 0, 2))


def _restore(quantised: np.ndarray, delta: int, dtype: np.dtype) -> np.ndarray:
    """Back to samples: q X, within the range of the samples."""
    limits = np.iinfo(dtype)
    return np.ascontiguousarray((quantised * (2 * delta + 1)).clip(limits.min, limits.max).astype(dtype))


def _range(dtype: np.dtype, delta: int) -> tuple[int, int, int, int]:
    """Step, smallest and largest quantised sample, and bits of a residual."""
    limits = np.iinfo(dtype)
    low, high = (int(v) for v in _quantise(np.array([limits.min, limits.max]), delta))
    return 2 * delta + 1, low, high, max(2, (high - low).bit_length())
