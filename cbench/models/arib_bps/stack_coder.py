"""Chunks on the stack: what is pushed in which order, and its inverse. See `codec` for the layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from cbench.coding import StackIO
from cbench.errors import BitstreamError
from cbench.models.arib_bps.chunks import Chunk, rows_of
from cbench.models.arib_bps.engine import CodeBits, Engine
from cbench.models.arib_bps.latents import MAX_QP, Posterior, centres, nearest_bins
from cbench.models.arib_bps.planes import PLANES, STEPS

RAW = np.array([4096], np.uint16)
"""Probability (times 65536) that a plane is raw."""
HALF = np.uint16(32768)


class ChunkCoder:
    """Codes batches of chunks of equal tile size, each through the stack of its stream."""

    def __init__(self, engine: Engine, stacks: Sequence[StackIO], *, direct: int | None = None) -> None:
        self.engine, self.stacks, self.direct = engine, list(stacks), direct
        self.sig, self.ins = engine.sig, engine.ins

    def encode(self, batch: Sequence[Chunk]) -> None:
        """Push a batch of chunks, whose `x` is given."""
        starts = [self.stacks[chunk.stream].to_bytes() for chunk in batch]
        x = np.concatenate([chunk.x for chunk in batch])
        rows = rows_of(batch)
        found = self.engine.probabilities(self.ins, x, None)
        for chunk, own in zip(batch, rows, strict=True):
            before = self.stacks[chunk.stream].size_bits
            self._push_planes(chunk, found[:, :, :, own], self.ins.first_plane)
            self._choose_qp(chunk, self.stacks[chunk.stream].size_bits - before)
        f_z = self._pop_latents(batch, x)
        found = self.engine.probabilities(self.sig, x, f_z)
        for chunk, own, start in zip(batch, rows, starts, strict=True):
            self._push_planes(chunk, found[:, :, :, own], self.sig.first_plane)
            self._push_latents(chunk)
            before = StackIO(start).size_bits
            if self.stacks[chunk.stream].size_bits - before > PLANES * chunk.samples + 8:
                self.stacks[chunk.stream] = StackIO(start)
                self._push_raw(chunk)

    def decode(self, batch: Sequence[Chunk]) -> None:
        """Pop a batch of chunks; gives them their `x`."""
        for chunk in batch:
            self._pop_bins(chunk)
        rows = rows_of(batch)
        shape = (rows[-1].stop, *batch[0].side)
        x = np.zeros((shape[0], 3, *shape[1:]), np.uint8)
        parts = list(zip(batch, rows, strict=True))

        def known(i: int, delta: np.ndarray | None, size: tuple[int, ...]) -> np.ndarray:
            return np.concatenate([centres(chunk.bins[i], chunk.qp) for chunk in batch])

        f_z = self.engine.top_down(shape, None, known)
        self.engine.decode_planes(self.sig, x, f_z, PlaneReader(parts, self.stacks).step)
        if any(chunk.qp and not chunk.direct for chunk in batch):
            self._push_back(parts, x, known)
        self.engine.decode_planes(self.ins, x, None, PlaneReader(parts, self.stacks).step)
        for chunk, own in parts:
            chunk.x = x[own]

    def _choose_qp(self, chunk: Chunk, bits: float) -> None:
        """As fine as the bits of this chunk's lower planes can pay for."""
        size = sum(math.prod(chunk.latent_shape(i, self.sig.lvae.channels)) for i in range(self.engine.layers))
        chunk.direct = self.direct is not None
        chunk.qp = min(MAX_QP, int(bits / size)) if self.direct is None else self.direct

    def _pop_latents(self, batch: Sequence[Chunk], x: np.ndarray) -> Tensor:
        """Draw the latents of a batch; where the bits run out, again with coarser bins. Gives F_z."""
        bottom = self.engine.bottom(x)
        saved = {id(chunk): self.stacks[chunk.stream].to_bytes() for chunk in batch}
        rows = rows_of(batch)
        while True:
            failed: set[int] = set()

            def draw(i: int, delta: np.ndarray, size: tuple[int, ...], failed: set[int] = failed) -> np.ndarray:
                out = np.zeros(size)
                for chunk, own in zip(batch, rows, strict=True):
                    if id(chunk) not in failed:
                        try:
                            chunk.bins[i] = self._draw(chunk, delta[own])
                            out[own] = centres(chunk.bins[i], chunk.qp)
                        except BitstreamError:
                            failed.add(id(chunk))
                return out

            f_z = self.engine.top_down((len(x), *batch[0].side), bottom, draw)
            if not failed:
                return f_z
            for chunk in batch:
                self.stacks[chunk.stream] = StackIO(saved[id(chunk)])
                chunk.qp -= id(chunk) in failed

    def _draw(self, chunk: Chunk, delta: np.ndarray) -> np.ndarray:
        if chunk.direct:
            return nearest_bins(delta, chunk.qp)
        return Posterior(delta, chunk.qp).pop(self.stacks[chunk.stream])

    def _push_back(self, parts: Sequence[tuple[Chunk, slice]], x: np.ndarray, known: Callable[..., np.ndarray]) -> None:
        """Give the bits back that the encoder drew the latents from."""

        def remember(i: int, delta: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
            for chunk, own in parts:
                chunk.posteriors[i] = Posterior(delta[own], chunk.qp)
            return known(i, delta, size)

        self.engine.top_down((len(x), *x.shape[2:]), self.engine.bottom(x), remember)
        for chunk, _ in parts:
            for i in range(self.engine.layers):
                if not chunk.direct:
                    chunk.posteriors[i].push(self.stacks[chunk.stream], chunk.bins[i])

    def _push_latents(self, chunk: Chunk) -> None:
        stack = self.stacks[chunk.stream]
        for i in range(self.engine.layers):
            if chunk.qp:
                stack.push_bits(chunk.qp, chunk.bins[i].astype(np.uint32))
        stack.push_bits(5, np.uint32(chunk.qp << 1 | chunk.direct))

    def _pop_bins(self, chunk: Chunk) -> None:
        stack = self.stacks[chunk.stream]
        word = int(stack.pop_bits(5))
        chunk.qp, chunk.direct = word >> 1, bool(word & 1)
        if chunk.qp > MAX_QP:
            raise BitstreamError(f"the data is damaged: it announces latents of {chunk.qp} bits")
        for i in reversed(range(self.engine.layers)):
            size = chunk.latent_shape(i, self.sig.lvae.channels)
            chunk.bins[i] = stack.pop_bits(chunk.qp, size).astype(np.int64) if chunk.qp else np.zeros(size, np.int64)

    def _push_planes(self, chunk: Chunk, p: np.ndarray, first: int, *, stored: bool = False) -> None:
        """Push a model's planes, the last one first; p (planes, 4, 3, n, h, w). `stored`: all of them raw."""
        stack = self.stacks[chunk.stream]
        inside = [chunk.inside(step) for step in range(len(STEPS))]
        for plane in reversed(range(len(p))):
            shift = PLANES - first - plane
            pairs = []
            for step, (row, column) in enumerate(STEPS):
                for colour in range(chunk.colours):
                    bits = chunk.x[:, colour, row::2, column::2] >> shift & 1
                    pairs.append((_cut(p[plane, step, colour], inside[step]), _cut(bits, inside[step])))
            raw = stored or _is_raw(pairs)
            for share, bits in reversed(pairs):
                stack.push_binary(np.full_like(share, HALF) if raw else share, bits)
            stack.push_binary(RAW, np.array([raw], np.uint8))

    def _push_raw(self, chunk: Chunk) -> None:
        """A chunk that the models would make larger than it is."""
        for model in (self.ins, self.sig):
            size = (model.planes, len(STEPS), 3, len(chunk.x), chunk.side[0] // 2, chunk.side[1] // 2)
            self._push_planes(chunk, np.full(size, HALF), model.first_plane, stored=True)
        chunk.qp, chunk.direct = 0, False
        self._push_latents(chunk)


class PlaneReader:
    """Pops a model's planes of a batch, for `Engine.decode_planes`."""

    def __init__(self, parts: Sequence[tuple[Chunk, slice]], stacks: Sequence[StackIO]) -> None:
        self.parts, self.stacks = parts, stacks
        self._raw: list[bool] = []
        self._red = np.zeros(0, np.uint8)

    def step(self, plane: int, step: int) -> CodeBits:
        """What gives the bits of one step of a plane."""
        if step == 0:
            self._raw = [bool(self.stacks[chunk.stream].pop_binary(RAW)[0]) for chunk, _ in self.parts]
        return lambda colour, p: self._pop(step, colour, p)

    def _pop(self, step: int, colour: int, p: np.ndarray) -> np.ndarray:
        out = np.zeros(p.shape, np.uint8)
        for (chunk, own), raw in zip(self.parts, self._raw, strict=True):
            if colour >= chunk.colours:
                out[own] = self._red[own]
                continue
            inside = chunk.inside(step)
            share = _cut(p[own], inside)
            bits = self.stacks[chunk.stream].pop_binary(np.full_like(share, HALF) if raw else share)
            out[own][... if inside is None else inside] = bits
        if colour == 0:
            self._red = out
        return out


def _cut(values: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    return np.ascontiguousarray(values) if inside is None else values[inside]


def _is_raw(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether a plane is smaller without its probabilities (uint16)."""
    cost = count = 0
    for share, bits in pairs:
        p = share.astype(np.float64) / 65536
        cost -= np.log2(np.where(bits != 0, p, 1 - p)).sum()
        count += bits.size
    return bool(cost > count)
