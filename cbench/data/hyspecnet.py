"""HySpecNet-11k: 11,483 EnMAP patches of 128 x 128 pixels and 224 bands, reflectance x 10,000.

    hyspecnet/patches/...                                one GeoTIFF a patch, *-SPECTRAL_IMAGE.TIF
    hyspecnet/splits/{easy,hard}/{train,val,test}.csv    one path below patches/ a line

"hard" keeps whole scenes apart, "easy" only patches; published codecs use "hard". 22 bands, where water
vapour absorbs, are invalid everywhere and left out: 202 remain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cbench.data.base import LazySamples, data_folder, missing, read_array
from cbench.errors import ConfigError, UnsupportedInputError
from cbench.files.base import reading

ORIGIN = "HySpecNet-11k from https://hyspecnet.rsim.berlin"
ALL_BANDS = 224
BANDS = tuple(band for band in range(ALL_BANDS) if not (126 <= band <= 140 or 160 <= band <= 166))
"""The 202 valid bands, counted from 0."""
_IMAGE = "-SPECTRAL_IMAGE.TIF"


def train(root: Path | str | None = None, *, split: str = "hard") -> LazySamples[Path]:
    """Training patches (202, 128, 128) int16.

    Args:
        root: The folder hyspecnet/, or the one that holds it.
        split: "hard" or "easy".

    Raises:
        DataNotFoundError: the folder, its split file or a patch is not there.
        UnsupportedInputError: a patch is damaged or has other bands.
    """
    return _patches("train", split, root)


def validation(root: Path | str | None = None, *, split: str = "hard") -> LazySamples[Path]:
    """Validation patches; arguments and errors as `train`."""
    return _patches("val", split, root)


def test(root: Path | str | None = None, *, split: str = "hard") -> LazySamples[Path]:
    """Test patches; arguments and errors as `train`."""
    return _patches("test", split, root)


def select_bands(cube: np.ndarray) -> np.ndarray:
    """(224, H, W) -> the 202 valid bands; a cube of 202 bands is returned as it is.

    Raises:
        UnsupportedInputError: another number of bands.
    """
    if cube.shape[0] == len(BANDS):
        return cube
    if cube.shape[0] != ALL_BANDS:
        raise UnsupportedInputError(f"a HySpecNet-11k patch has {ALL_BANDS} bands, not {cube.shape[0]}")
    return cube[list(BANDS)]


def _patches(part: str, split: str, root: Path | str | None) -> LazySamples[Path]:
    if split not in ("easy", "hard"):
        raise ConfigError(f'split (={split!r}) must be "easy" or "hard"')
    folder = data_folder("hyspecnet", root, ORIGIN)
    table = folder / "splits" / split / f"{part}.csv"
    if not table.is_file():
        raise missing("hyspecnet", folder, f"no splits/{split}/{part}.csv", ORIGIN)
    with reading(table):
        lines = [line.strip() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise missing("hyspecnet", folder, f"an empty splits/{split}/{part}.csv", ORIGIN)
    listed = [folder / "patches" / line for line in lines]
    return LazySamples([_patch_name(path) for path in listed], listed, _read_patch)


def _patch_name(path: Path) -> str:
    """The part of the file name that tells patches apart."""
    return path.stem.removesuffix("-DATA").removesuffix(_IMAGE.removesuffix(".TIF"))


def _read_patch(listed: Path) -> np.ndarray:
    """The patch's GeoTIFF, whether the split file names it, its folder, or a float copy made of it."""
    beside = (listed / f"{listed.name}{_IMAGE}", listed.with_name(_patch_name(listed) + _IMAGE), listed)
    path = next((place for place in beside if place.is_file()), None)
    if path is None:
        raise missing("hyspecnet", listed.parent, f"no patch {listed.name}", ORIGIN)
    return select_bands(read_array(path))
