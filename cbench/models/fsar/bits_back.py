"""The codec of the VAE: latents are drawn with bits that are already coded, which the decoder gives back ("bits back").

Byte format fsar/v1 of these models: the payload is a stack (csrc/FORMAT.md). All pictures of an archive are on one
stack, in the payload of the first; those of the others are empty. It begins empty, and what is missing to draw the
latents of the first picture are bits of a generator: they stay in the payload and are part of every size. For each
picture:

    latents popped    h * w * C / 2 intervals, with the tables of `posterior_tables`
    escapes pushed    8 raw bits for every pixel value outside its table
    pixels pushed     C * H * W, with the tables of `codec`; the escape is a symbol like any other
    latents pushed    8 raw bits each: all intervals are equally likely
    1 bit             0; 1: raw, H * W * C bytes and nothing else before this bit

The decoder takes pictures off from the last to the first. Encoder and decoder network are both exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np
import torch

from cbench.coding import StackIO, Tables
from cbench.coding.container import Header
from cbench.coding.distributions import CDF_BITS, Z_BITS, deviations, exp_fixed, normal_cdf
from cbench.coding.header import content_check
from cbench.errors import BitstreamError
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import TILE, FsarCodec, looks_random
from cbench.models.fsar.continuous import LOG_STD_RANGE, PRIOR_BITS, borders
from cbench.models.fsar.integer import BITS, IntegerEncoder
from cbench.nn.running import running
from cbench.nn.tiling import tiles

MEAN_REACH, MEAN_BITS = 4, 6
"""Means of the posterior go to -4..4 in steps of 2^-6."""
STD_STEPS = 4
"""Levels of the log standard deviation in one unit."""
LEVELS = round((LOG_STD_RANGE[1] - LOG_STD_RANGE[0]) * STD_STEPS) + 1
_INVERSE_BITS = 20


@cache
def posterior_tables() -> Tables:
    """Rows for (mean, level), level innermost: masses of N(mean, std^2) in the prior's intervals; integers only."""
    means = np.arange(-MEAN_REACH << MEAN_BITS, (MEAN_REACH << MEAN_BITS) + 1, dtype=np.int64) << (Z_BITS - MEAN_BITS)
    distance = borders() - means[:, None]
    rows = np.empty((len(means), LEVELS, 1 << PRIOR_BITS), np.uint32)
    for level in range(LEVELS):
        log_std = Fraction(round(LOG_STD_RANGE[0] * STD_STEPS) + level, STD_STEPS)
        cdf = normal_cdf(deviations(distance, Z_BITS, exp_fixed(-log_std, _INVERSE_BITS), _INVERSE_BITS))
        cdf[:, 0], cdf[:, -1] = 0, 1 << CDF_BITS
        rows[:, level] = np.diff(cdf)
    return Tables.from_weights(rows.reshape(-1, rows.shape[-1]))


def posterior_rows(z: np.ndarray) -> np.ndarray:
    """The encoder's z (B, C, h, w) in units of 2^-BITS -> row of each latent, (B, C / 2, h, w) int32."""
    mean, log_std = np.split(z, 2, 1)
    place = (mean + (1 << (BITS - MEAN_BITS - 1)) >> (BITS - MEAN_BITS)) + (MEAN_REACH << MEAN_BITS)
    lowest = round(LOG_STD_RANGE[0] * STD_STEPS)
    level = (log_std * STD_STEPS + (1 << (BITS - 1)) >> BITS) - lowest
    return (place.clip(0, 2 * MEAN_REACH << MEAN_BITS) * LEVELS + level.clip(0, LEVELS - 1)).astype(np.int32)


class BitsBackCodec(FsarCodec):
    """Lossless codec for 8-bit RGB and grey pictures; an archive is one chain, so single files cost more."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        super()._prepare(weights)
        # A stack has no escapes: here they are one more symbol, and raw bits beside.
        escaping = self._pixels.tables
        self._plain = Tables(escaping.cdf, escaping.size + 1, escaping.offset, escaping.precision)
        self._exact_encoder = IntegerEncoder(weights.network).to(self._device)

    def bits(self, array: np.ndarray) -> float:
        """What a picture adds to a stack, in bits."""
        self.header(array)
        stack = StackIO(clean_bits=True)
        empty = stack.size_bits
        with running(self.threads):
            self._push(stack, array)
        return stack.size_bits - empty - stack.clean_bits

    def _encode(self, heads: Sequence[Header], arrays: Sequence[np.ndarray]) -> list[tuple[bytes, int]]:
        stack = StackIO(clean_bits=True)
        with running(self.threads):
            for x in arrays:
                self._push(stack, x)
        payloads = [stack.to_bytes(), *[b""] * (len(arrays) - 1)]
        return list(zip(payloads, map(content_check, arrays), strict=True))

    def _decode(self, heads: Sequence[Header], streams: Sequence[bytes]) -> list[tuple[np.ndarray, int]]:
        if any(streams[1:]):
            raise BitstreamError(f"an archive of {self.name} has all of its content in the first item")
        stack = StackIO(streams[0])
        with running(self.threads):
            arrays = [self._pop(stack, head.shape) for head in reversed(heads)][::-1]
        return [(array, content_check(array)) for array in arrays]

    def _push(self, stack: StackIO, x: np.ndarray) -> None:
        posterior = self._posterior(x)
        bins = stack.pop(posterior_tables(), posterior)
        row, centre = (part[0] for part in self._rows(bins[None], x.shape))
        residual = x.astype(np.int32) - centre
        cost = PRIOR_BITS * bins.size + self._pixels.tables.bits(residual, row) if looks_random(x) else 0
        raw = cost - posterior_tables().bits(bins, posterior) > 8 * x.size if cost else False
        if raw:
            stack.push(posterior_tables(), posterior, bins)
            stack.push_bits(8, x)
        else:
            escape = self._escape(row)
            outside = (residual < self._plain.offset[row]) | (residual >= escape)
            stack.push_bits(8, x[outside])
            stack.push(self._plain, row, np.where(outside, escape, residual))
            stack.push_bits(PRIOR_BITS, bins)
        stack.push_bits(1, np.uint32(raw))

    def _pop(self, stack: StackIO, shape: tuple[int, int, int]) -> np.ndarray:
        if int(stack.pop_bits(1)):
            return stack.pop_bits(8, shape).astype(np.uint8)
        bins = stack.pop_bits(PRIOR_BITS, (self.config.planes, *self._grid(shape))).astype(np.int64)
        row, centre = (part[0] for part in self._rows(bins[None], shape))
        residual = stack.pop(self._plain, row)
        outside = residual == self._escape(row)
        values = residual + centre
        values[outside] = stack.pop_bits(8, (np.count_nonzero(outside),))
        if values.min() < 0 or values.max() > 255:
            raise BitstreamError("the data decodes to pixel values outside 0..255")
        x = values.astype(np.uint8)
        stack.push(posterior_tables(), self._posterior(x), bins)
        return x

    def _escape(self, row: np.ndarray) -> np.ndarray:
        """The escape symbol of each row."""
        return (self._plain.offset + self._plain.size - 1)[row]

    def _posterior(self, x: np.ndarray) -> np.ndarray:
        """Rows of a picture's latents, (C / 2, h, w)."""
        stride, (h, w) = self.config.stride, self._grid(x.shape)
        rest = ((0, 0), (0, h * stride - x.shape[1]), (0, w * stride - x.shape[2]))
        picture = torch.from_numpy(np.pad(x, rest, mode="edge")).to(self._device).expand(3, -1, -1)[None]
        out = np.empty((self.config.planes, h, w), np.int32)
        for rows, columns in tiles(h, w, TILE, self._encoder_margin):
            z = self._exact_encoder(picture[:, :, rows.of("outer", stride), columns.of("outer", stride)])
            z = z[:, :, rows.of("inner"), columns.of("inner")].cpu().numpy()
            out[:, rows.of("target"), columns.of("target")] = posterior_rows(z)[0]
        return out
