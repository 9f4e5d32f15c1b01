"""The codec of models with a causal head: pixels are decoded one after the other, in C++."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from cbench.coding import CodingIO
from cbench.coding.container import Header
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import TILE, FsarCodec, _Plan
from cbench.models.fsar.integer import pixel_model
from cbench.nn.tiling import Span, spans

LARGE = 1 << 17
"""Pixels above which a picture's biases are made band by band while coding: they take hundreds of bytes a pixel."""
PIXELS_AT_A_TIME = 1 << 17
"""Several pictures are handled in parts of about so many pixels."""


class CausalCodec(FsarCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size; grey ones are coded as the red of R = G = B."""

    def _prepare(self, weights: checkpoint.Weights) -> None:
        self._model = pixel_model(weights.network.head)

    def script_many(
        self, ios: Sequence[CodingIO], heads: Sequence[Header], xs: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """See `ScriptCodec.script_many`; a part of the pictures at a time, as their biases take much memory."""
        done: list[np.ndarray] = []
        while len(done) < len(heads):
            start = stop = len(done)
            pixels = 0
            while stop < len(heads) and (stop == start or pixels < PIXELS_AT_A_TIME):
                pixels += heads[stop].shape[1] * heads[stop].shape[2]
                stop += 1
            done += super().script_many(ios[start:stop], heads[start:stop], xs[start:stop])
        return done

    def _parameters(self, symbols: np.ndarray, plan: _Plan) -> Iterable[Any]:
        """The bands' biases of each picture, or for large ones the symbols to make them from."""
        shape = plan.shape
        if shape[1] * shape[2] > LARGE:
            return [None] * len(symbols)
        bands = [self._band(symbols, rows, shape) for rows in self._bands(symbols)]
        return [[(first, biases[i]) for first, biases in bands] for i in range(len(symbols))]

    def _code_pixels(self, io: CodingIO, plan: _Plan, x: np.ndarray | None) -> np.ndarray:
        picture = np.zeros(plan.shape, np.uint8) if x is None else np.ascontiguousarray(x)
        for first, biases in self._biases(plan):
            io.pixels(self._model, biases, picture, first)
        return picture if x is None else x

    def _pixel_bits(self, plan: _Plan, x: np.ndarray) -> float:
        picture = np.ascontiguousarray(x)
        return sum(self._model.bits(biases, picture, first) for first, biases in self._biases(plan))

    def _biases(self, plan: _Plan) -> Iterator[tuple[int, np.ndarray]]:
        """First row and biases of each band."""
        if plan.parameters is not None:
            yield from plan.parameters
            return
        symbols = plan.symbols[None]
        for rows in self._bands(symbols):
            first, biases = self._band(symbols, rows, plan.shape)
            yield first, biases[0]

    def _bands(self, symbols: np.ndarray) -> list[Span]:
        return spans(symbols.shape[2], TILE, self._decoder.halo)

    def _band(self, symbols: np.ndarray, rows: Span, shape: tuple[int, int, int]) -> tuple[int, np.ndarray]:
        """First row of a band and its biases (B, rows, W, 3, hidden), for symbols (B, L, h, w)."""
        stride = self.config.stride
        latent = torch.from_numpy(np.ascontiguousarray(symbols[:, :, rows.of("outer")], np.int64)).to(self._device)
        target = rows.of("target", stride)
        height = min(target.stop, shape[1]) - target.start
        out = np.empty((len(symbols), height, shape[2], 3, self.config.outputs // 3), np.int16)
        for columns in spans(symbols.shape[3], TILE, self._decoder.halo):
            biases = self._decoder(latent[..., columns.of("outer")]).cpu().numpy()
            place = columns.of("target", stride)
            width = min(place.stop, shape[2]) - place.start
            biases = biases[:, rows.of("inner", stride), columns.of("inner", stride)]
            out[:, :, place] = biases[:, :height, :width]
        return target.start, out
