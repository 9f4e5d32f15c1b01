"""The codec of the pyramid: level after level, step after step, colour after colour.

Byte format arib_bps.pyramid/v2, through the coder in this order, for the colours of a picture and then for its alpha:

    2 bits         0 small, 1 photograph: which biases the network has; 2: raw, C * H * W bytes follow
    2 bits         photographs only: 1 rows, 2 columns are reversed, which may suit the positions of chroma samples
    C samples      the top left pixel, each colour with one logistic distribution around the one before, R around 128
    levels         from the coarsest: the picture's pixels in steps of 2^level, a quarter of them known
      steps        quarters (1, 1), (0, 1), (1, 0)
        tiles      at most TILE x TILE positions of the quarter, row after row of tiles
          colours  `CodingIO.mixture` for the tile's pixels, row after row

In an archive whose streams all have one lane, as those of small pictures have, an item is its stream without the first
byte, which is zero, and the archive holds no checks: such streams end with a check of all that was coded. (Archives of
v1 hold checks and whole streams; there is no other difference.)

Grey pictures and alpha are shown to the network as R = G = B and coded as R. The network runs in exact arithmetic, so
the same file decodes on every machine, with any number of threads, alone or in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cbench.coding import CodingIO, CountIO, Mixture, ScriptCodec
from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import Header
from cbench.coding.mixture import MEAN_UNIT
from cbench.errors import BitstreamError, UnsupportedInputError
from cbench.models.arib_bps import pyramid_weights
from cbench.models.arib_bps.pyramid import QUARTERS, completed
from cbench.models.arib_bps.pyramid_config import PHOTOGRAPH, SMALL, THUMBNAIL
from cbench.models.arib_bps.pyramid_integer import IntegerPyramid, IntegerStep, Pending
from cbench.nn.running import running
from cbench.nn.tiling import tiles
from cbench.zoo.weights import shipped

TILE = 128
"""Side of a tile in positions of a quarter; part of the format."""
BATCH = 1 << 16
"""Pixels of the pictures that are handled in one batch."""
RAW = 2
ONE_LANE = b"\0"
"""First byte of a stream with one lane, see csrc/FORMAT.md."""
CORNER_SCALES = (147, 112, 112)
"""Scale indices of the logistic distributions of the first pixel's colours: 36 and 8 pixel values."""
TURN_GAIN = 0.9
"""A picture is turned where that reduces the error of interpolated chroma to less than this share."""


class PyramidCodec(ScriptCodec):
    """Lossless codec for 8-bit RGB and grey pictures of any size, with or without alpha."""

    max_error = 0
    format = 2
    exact = True

    def __init__(self, name: str, weights: pyramid_weights.Weights, threads: int = 1) -> None:
        """Prepare the network.

        Raises:
            ConfigError: weights too large for exact sums.
        """
        self.name = name
        self.threads = threads
        self.fingerprint = weights.fingerprint()
        self._network = IntegerPyramid(weights.network)

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one to four channels."""
        if array.dtype != np.uint8:
            raise UnsupportedInputError(f"{self.name} codes 8-bit pictures (uint8), not {array.dtype}")
        if array.shape[0] > 4:
            raise UnsupportedInputError(f"{self.name} codes grey or RGB pictures, not {array.shape[0]} channels")

    def compress_many(self, arrays: Sequence[np.ndarray]) -> bytes:
        """See `ScriptCodec.compress_many`; what small pictures' streams say themselves is not stored twice."""
        data = super().compress_many(arrays)
        archive = unpack_archive(data)
        streams = [archive.item(i) for i in range(len(archive))]
        if not all(stream.startswith(ONE_LANE) for stream in streams):
            return data
        return pack_archive(archive.head, [stream[1:] for stream in streams], archive.shapes)

    def decompress_many(self, data: bytes) -> list[np.ndarray]:
        """Inverse of `compress_many`; raises as `decompress`."""
        archive = unpack_archive(data)
        if archive.checks is None:
            streams = [ONE_LANE + archive.item(i) for i in range(len(archive))]
            data = pack_archive(archive.head, streams, archive.shapes)
        return super().decompress_many(data)

    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """See `ScriptCodec.script`."""
        return self.script_many([io], [head], [x])[0]

    def script_many(
        self, ios: Sequence[CodingIO], heads: Sequence[Header], xs: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """See `ScriptCodec.script_many`; the network runs on batches of pictures of equal size."""
        out = [np.empty(head.shape, np.uint8) for head in heads]
        with running(self.threads), exact_products():
            for which in ("colours", "alpha"):
                places = [planes(head.shape[0], which) for head in heads]
                shapes = [(part.stop - part.start, *head.shape[1:]) for part, head in zip(places, heads, strict=True)]
                for items in batches(shapes):
                    given = [None if xs[i] is None else xs[i][places[i]] for i in items]
                    coded = self._code([ios[i] for i in items], given, shapes[items[0]])
                    for i, picture in zip(items, coded, strict=True):
                        out[i][places[i]] = picture
        return out

    def _code(self, ios: list[CodingIO], xs: list[np.ndarray | None], shape: tuple[int, ...]) -> list[np.ndarray]:
        """Pictures of one shape, grey or RGB."""
        wanted = [None] * len(ios) if xs[0] is None else self._modes(xs)
        modes = [int(io.bits(2, mode)) for io, mode in zip(ios, wanted, strict=True)]
        if max(modes) > RAW:
            raise BitstreamError(f"the data names the unknown mode {max(modes)}")
        out = [io.bits(8, x, shape) if mode == RAW else None for io, x, mode in zip(ios, xs, modes, strict=True)]
        items = [i for i, mode in enumerate(modes) if mode != RAW]
        if items:
            turns = [self._turn(ios[i], xs[i]) if modes[i] == PHOTOGRAPH else 0 for i in items]
            given = None
            if xs[0] is not None:
                given = np.stack([turned(xs[i], turn) for i, turn in zip(items, turns, strict=True)])
            coded = self._pictures([ios[i] for i in items], given, shape, [modes[i] for i in items])
            for i, turn, picture in zip(items, turns, coded, strict=True):
                out[i] = turned(picture, turn)
        return out

    def _turn(self, io: CodingIO, x: np.ndarray | None) -> int:
        """Which axes of a photograph are reversed while it is coded."""
        return int(io.bits(2, None if x is None else best_turn(x)))

    def _modes(self, xs: list[np.ndarray]) -> list[int]:
        """How to code pictures of one shape. Adding up their true cost takes long: only where differences are large."""
        kind = SMALL if max(xs[0].shape[1:]) <= THUMBNAIL else PHOTOGRAPH
        modes = [kind] * len(xs)
        if noisy := [i for i, x in enumerate(xs) if looks_random(x)]:
            counts = [CountIO() for _ in noisy]
            self._pictures(counts, np.stack([xs[i] for i in noisy]), xs[0].shape, [kind] * len(noisy))
            for i, count in zip(noisy, counts, strict=True):
                if count.total > 8 * xs[i].size:
                    modes[i] = RAW
        return modes

    def _pictures(
        self, ios: list[CodingIO], xs: np.ndarray | None, shape: tuple[int, ...], kinds: list[int]
    ) -> np.ndarray:
        """Pictures (B, C, H, W) of one shape, as a pyramid."""
        channels, height, width = shape
        levels = max(height - 1, width - 1).bit_length()
        picture = np.repeat(corners(ios, xs, channels), 3 // channels, 1)
        state = torch.zeros(len(ios), 1, 1, self._network.channels, dtype=torch.int16)
        kind = torch.tensor(kinds)
        for level in reversed(range(levels)):
            stride = 1 << level
            if level < levels - 1:
                state = self._raised(state)[:, : picture.shape[2], : picture.shape[3]]
            finer = np.empty((len(ios), 3, -(-height // stride), -(-width // stride)), np.uint8)
            job = _Level(ios, None if xs is None else xs[..., ::stride, ::stride], channels, level, kind)
            finer[..., ::2, ::2] = picture
            known = [torch.from_numpy(picture)]
            for number, (row, column) in enumerate(QUARTERS[1:], 1):
                own = finer[..., row::2, column::2]
                state = self._step(job, number, known, state, own)
                known.append(completed(torch.from_numpy(own), known[0]))
            picture = finer
        return picture[:, :channels]

    def _raised(self, state: Tensor) -> Tensor:
        """State (B, h, w, C) int16 -> (B, 2h, 2w, C) int16, some rows at a time to save memory."""
        return torch.cat([self._network.raised(rows.float()).to(torch.int16) for rows in state.split(TILE, 1)], 1)

    def _step(self, job: _Level, number: int, known: list[Tensor], state: Tensor, own: np.ndarray) -> Tensor:
        """Code the quarter `own` (B, 3, h, w), tile by tile; the next state."""
        step, after = self._network.steps[number - 1], torch.empty_like(state)
        row, column = QUARTERS[number]
        given = None if job.xs is None else job.xs[..., row::2, column::2]
        for rows, columns in tiles(*known[0].shape[2:], TILE, step.halo):
            outer, inner = (rows.of("outer"), columns.of("outer")), (rows.of("inner"), columns.of("inner"))
            seen = [quarter[..., *outer].float() for quarter in known]
            features, pending = step(seen, state[:, *outer].float(), job.level, job.kind)
            target = (..., rows.of("target"), columns.of("target"))
            after[:, *target[1:]] = features[:, *inner].to(torch.int16)
            height, width = own[target].shape[2:]
            if height and width:
                part = pending.cropped(
                    slice(inner[0].start, inner[0].start + height), slice(inner[1].start, inner[1].start + width)
                )
                self._tile(job, step, part, None if given is None else given[target], own[target])
        return after

    def _tile(self, job: _Level, step: IntegerStep, pending: Pending, xs: np.ndarray | None, own: np.ndarray) -> None:
        """Code the colours of one tile into `own` (B, 3, h, w)."""
        for colour in range(job.channels):
            residual = own[:, :colour] - pending.below[:, :colour]
            found = step.colours.distributions(pending, colour, residual)
            for i, (io, *mine) in enumerate(zip(job.ios, *found, strict=True)):
                symbols = None if xs is None else xs[i, colour].reshape(-1)
                own[i, colour] = io.mixture(Mixture(*mine), symbols).reshape(own.shape[2:])
        own[:, job.channels :] = own[:, :1]


@dataclass(frozen=True)
class _Level:
    """What the steps of a level have in common."""

    ios: list[CodingIO]
    xs: np.ndarray | None
    """(B, C, H, W) the level's pictures, None when decoding."""
    channels: int
    level: int
    kind: Tensor


def planes(channels: int, which: str) -> slice:
    """The colours of a picture with so many channels, or its alpha, which may be empty."""
    colours = channels // 3 * 3 or 1
    return slice(0, colours) if which == "colours" else slice(colours, channels)


def batches(shapes: list[tuple[int, ...]]) -> Iterator[list[int]]:
    """Numbers of the pictures that have samples, equal shapes together, a bounded number at a time."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(i)
    for shape, items in by_shape.items():
        count = max(1, BATCH // (shape[1] * shape[2]))
        for start in range(0, len(items) if shape[0] else 0, count):
            yield items[start : start + count]


def corners(ios: list[CodingIO], xs: np.ndarray | None, channels: int) -> np.ndarray:
    """The top left pixels (B, C, 1, 1), each colour near the one before it."""
    out = np.full((len(ios), 1 + channels), 128)
    for i, io in enumerate(ios):
        for colour, scale in enumerate(CORNER_SCALES[:channels]):
            mean = np.full((1, 1), MEAN_UNIT * out[i, colour], np.int32)
            symbol = None if xs is None else xs[i, colour, :1, 0]
            out[i, colour + 1] = io.mixture(Mixture(mean, np.full((1, 1), scale, np.uint8)), symbol)[0]
    return out[:, 1:, None, None].astype(np.uint8)


def turned(x: np.ndarray, turn: int) -> np.ndarray:
    """A picture (C, H, W) with rows (1), columns (2) or both (3) in reverse order."""
    return x[:, :: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]


def best_turn(x: np.ndarray) -> int:
    """The turn that puts the samples of half-resolution chroma onto the known quarter.

    Some sources, PhotoCD for one, have chroma for every second pixel of every second row and interpolate the rest: easy
    to predict from the true samples, but not the other way round.
    """
    if len(x) < 3 or min(x.shape[1:]) < 3:
        return 0
    costs = []
    for turn in range(4):
        chroma = turned(x[:2].astype(np.int16), turn)
        chroma = chroma[0] - chroma[1]
        height, width = ((n - 1) // 2 * 2 + 1 for n in chroma.shape)
        rows = chroma[:height:2, :width]
        across = rows[:, :-1:2] + rows[:, 2::2]
        costs.append(np.abs(4 * chroma[1:height:2, 1:width:2] - across[:-1] - across[1:]).mean())
    return int(np.argmin(costs)) if min(costs) < TURN_GAIN * costs[0] else 0


def looks_random(x: np.ndarray) -> bool:
    """Whether storing x (C, H, W) raw may be shorter; a wide margin, as pictures have 1 to 4 here and noise 6."""
    differences = np.abs(np.diff(x.astype(np.int16), axis=2))
    return x.shape[2] < 8 or float(np.log2(differences + np.float32(1)).mean()) > 4


@contextmanager
def exact_products() -> Iterator[None]:
    """No short-cuts in float32 products, whatever the program around allows."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def pyramid(weights: Path | None, device: str, threads: int) -> PyramidCodec:
    """`arib_bps.pyramid`: trained on small pictures and photographs; on the CPU whatever the device."""
    return PyramidCodec("arib_bps.pyramid", pyramid_weights.load(weights or shipped("arib_bps.pyramid")), threads)
