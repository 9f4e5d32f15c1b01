"""The codec of models with mixtures for the pixels: all at once, or colour after colour; see `mixture`."""

from __future__ import annotations

import math
from decimal import Context, Decimal

import numpy as np

from cbench.coding import CodingIO, CountIO, Mixture
from cbench.coding.mixture import MEAN_UNIT, SCALE_STEP, SCALE_ZERO
from cbench.models.fsar import checkpoint
from cbench.models.fsar.causal_codec import CausalCodec
from cbench.models.fsar.codec import _Plan
from cbench.models.fsar.integer import BIAS_BITS
from cbench.models.fsar.mixture import MEAN_SCALE, MIDDLE, start_scales

_C = Context(prec=20)
WEIGHTS = np.array(
    [round(_C.multiply(65535, _C.power(2, _C.divide(Decimal(-i), SCALE_STEP)))) for i in range(17 * SCALE_STEP)],
    np.uint16,
)
"""65535 * 2^(-i / SCALE_STEP), down to nothing."""


class MixtureCodec(CausalCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size; grey ones are coded as the red of R = G = B."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        self._start = np.rint(start_scales(self.config.mixtures) * (SCALE_STEP / math.log(2)) + SCALE_ZERO)

    def _code_pixels(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray:
        picture = np.zeros(plan.shape, np.uint8)
        for first, params in self._biases(plan):
            rows = slice(first, first + len(params))
            for colour, own in enumerate(picture[:, rows]):
                mixture = self._mixture(params[:, :, colour], picture[:colour, rows])
                given = None if x is None else x[colour, rows].reshape(-1)
                own[:] = io.mixture(mixture, given).reshape(own.shape)
        return picture

    def _pixel_bits(self, plan: _Plan, x: np.ndarray) -> float:
        io = CountIO()
        self._code_pixels(io, plan, x)
        return io.total

    def _mixture(self, params: np.ndarray, before: np.ndarray) -> Mixture:
        """Integer parameters of one colour's mixtures.

        Args:
            params: (rows, W, P) int16, the decoder's outputs in units of 2^-BIAS_BITS.
            before: (c, rows, W), the colours before.
        """
        k = self.config.mixtures
        own = params.reshape(-1, params.shape[-1]).T.astype(np.int64)
        octaves = np.rint(np.concatenate([own[:k], own[2 * k : 3 * k]]) * (SCALE_STEP / math.log(2) / (1 << BIAS_BITS)))
        weight = WEIGHTS[np.minimum(octaves[:k].max(0) - octaves[:k], len(WEIGHTS) - 1).astype(np.int64)]
        scale = (octaves[k:] + self._start[:, None]).clip(0, 255)
        mean = MIDDLE * MEAN_UNIT + own[k : 2 * k] * (MEAN_SCALE * MEAN_UNIT >> BIAS_BITS)
        for coefficient, values in zip(own[3 * k :], before, strict=False):
            moved = coefficient * (values.reshape(-1).astype(np.int64) - MIDDLE) * MEAN_UNIT
            mean = mean + (moved + (1 << (BIAS_BITS - 1)) >> BIAS_BITS)
        return Mixture(mean.astype(np.int32), scale.astype(np.uint8), weight)
