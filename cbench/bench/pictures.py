"""Pictures to look at: original, reconstruction and error side by side, for the first items of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cbench.codec import Sample

FOLDER = "pictures"
ITEMS = 2
"""Items of each data set that are shown."""
SIDE = 192
"""Side of the part that is shown (the middle of larger pictures), in screen pixels."""
ERROR_GAIN = 8
"""8-bit errors are shown this many times larger; others are scaled to their maximum."""
_FALSE_COLOUR = (0.22, 0.15, 0.06)
"""Where red, green and blue lie among the bands of a cube that runs from 0.4 to 2.5 micrometres."""


def slug(text: str) -> str:
    """`text` as a file name."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "unnamed"


class PictureFolder:
    """Keeps a strip for each of a few items: of lossless codecs the original alone, once for all codecs."""

    def __init__(self, out: Path, dataset: str, codec: str, items: Iterable[str]) -> None:
        self._folder, self._codec, self._items = out / FOLDER / slug(dataset), slug(codec), set(items)

    def keep(self, sample: Sample, decoded: np.ndarray) -> None:
        """Write the strip of this item unless it is none of those to show."""
        if sample.name not in self._items:
            return
        exact = np.array_equal(sample.array, decoded)
        name = slug(sample.name) + ("" if exact else f"--{self._codec}")
        path = self._folder / f"{name}.png"
        if exact and path.exists():
            return
        from PIL import Image

        self._folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(visible(sample.array) if exact else strip(sample.array, decoded)).save(path)


def strip(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Original, reconstruction and error side by side, (H, W, 3) uint8."""
    low, high = _range(x)
    error = np.abs(_colour(x).astype(np.int64) - _colour(y).astype(np.int64))
    gain = ERROR_GAIN if x.dtype == np.uint8 else 255 / max(int(error.max()), 1)
    parts = [_shown(_colour(a), low, high) for a in (x, y)]
    parts.append(_sized(np.minimum(error * gain, 255).astype(np.uint8)))
    gap = np.full((parts[0].shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)


def visible(x: np.ndarray) -> np.ndarray:
    """The middle of one array as (H, W, 3) uint8."""
    return _shown(_colour(x), *_range(x))


def false_colour(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Three bands of a cube (C, H, W) as (H, W, 3) uint8, as bright as those of `like` should be."""
    bands = [int(part * len(x)) for part in _FALSE_COLOUR]
    low, high = np.percentile(like[bands], (1, 99))
    scaled = (x[bands].astype(np.float64) - low) * (255 / max(high - low, 1))
    return np.moveaxis(np.clip(np.round(scaled), 0, 255).astype(np.uint8), 0, -1)


def _colour(x: np.ndarray) -> np.ndarray:
    """Three channels, (3, h, w), of the middle of the picture; bands of a cube in false colour."""
    top, left = ((max(0, n - SIDE) // 2) for n in x.shape[1:])
    middle = x[:, top : top + SIDE, left : left + SIDE]
    bands = len(x)
    if bands < 3:
        return np.repeat(middle[:1], 3, axis=0)
    return middle[:3] if bands <= 4 else middle[[int(part * bands) for part in _FALSE_COLOUR]]


def _range(x: np.ndarray) -> tuple[float, float]:
    """Sample values that are shown as black and white."""
    if x.dtype == np.uint8:
        return 0, 255
    low, high = np.percentile(_colour(x), (1, 99))
    return float(low), max(float(high), float(low) + 1)


def _shown(colour: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = np.clip((colour.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
    return _sized(np.round(scaled).astype(np.uint8))


def _sized(colour: np.ndarray) -> np.ndarray:
    """(3, h, w) to (H, W, 3), small pictures enlarged by a whole factor."""
    factor = max(1, SIDE // max(colour.shape[1:]))
    return np.ascontiguousarray(np.kron(np.moveaxis(colour, 0, -1), np.ones((factor, factor, 1), np.uint8)))
