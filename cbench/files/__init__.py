"""Arrays <-> files: pictures, TIFF, NumPy, MATLAB and ENVI cubes, always as (C, H, W) integers.

    picture = read("scene.hdr")
    picture.array          # (C, H, W)
    write("copy.hdr", picture.array, picture.meta)

Writers never overwrite unless told to, never leave half a file, and never change a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cbench.errors import DataNotFoundError, UnsupportedInputError
from cbench.files import envi, image, npy, tiff
from cbench.files.atomic import atomic_write
from cbench.files.base import ImageFile, writing

__all__ = ["SUFFIXES", "ImageFile", "atomic_write", "find", "outputs", "read", "restored_suffix", "write"]

_FORMATS: tuple[ModuleType, ...] = (image, tiff, npy, envi)

SUFFIXES: tuple[str, ...] = tuple(suffix for form in _FORMATS for suffix in form.SUFFIXES)
"""Suffixes that `read` takes, in lower case; ENVI data files without a suffix are read too."""

_LISTED = frozenset(SUFFIXES) - frozenset(envi.DATA_SUFFIXES)


def read(path: Path | str) -> ImageFile:
    """Read a file as (C, H, W) integers with the metadata that `write` needs to make such a file again.

    Large formats (.npy, ENVI, uncompressed TIFF) are memory-mapped, read-only.

    Raises:
        DataNotFoundError: the file, or the other half of an ENVI pair, is not there.
        UnsupportedInputError: a damaged file, floats, or a kind of file that is not read.
    """
    path = Path(path)
    form = _format_of(path)
    if form is None:
        if not path.exists():
            raise DataNotFoundError(f"there is no file {path}")
        raise UnsupportedInputError(f"{path} is of no kind that is read (known suffixes: {' '.join(SUFFIXES)})")
    result: ImageFile = form.read(path)
    return result


def write(path: Path | str, array: np.ndarray, meta: Mapping[str, Any] | None = None, *, force: bool = False) -> None:
    """Write (C, H, W) integers in the format that the suffix names, exactly.

    Args:
        path: The file. For ENVI the header or the data file; the other one is written beside it.
        array: (C, H, W) integers.
        meta: What `read` gave, so that header, layout and byte order come back. None: a plain file.
        force: Overwrite.

    Raises:
        UnsupportedInputError: the format cannot hold these samples exactly, or is unknown.
        CbenchError: the file exists and `force` is false.
    """
    path, meta = Path(path), dict(meta or {})
    form = _format_of(path) or (envi if meta.get("format") == "envi" and not path.suffix else None)
    if form is None:
        raise UnsupportedInputError(f"{path}: files of this kind are not written (known: {' '.join(SUFFIXES)})")
    with writing(path):
        form.write(path, array, meta, force)


def restored_suffix(meta: Mapping[str, Any], array: np.ndarray) -> str:
    """The suffix under which `write` makes a file of the same kind as the one `meta` was read from.

    ".hdr" for ENVI, ".png" for a JPEG or an unknown picture, ".npy" for arrays that no picture holds.
    """
    bands, kind = array.shape[0], array.dtype.name
    if meta.get("format") in ("tiff", "npy", "mat", "envi"):
        return {"tiff": ".tif", "npy": ".npy", "mat": ".mat", "envi": ".hdr"}[str(meta["format"])]
    if bands > 4 or kind not in ("uint8", "uint16"):
        return ".npy"
    if meta.get("format") == "pnm" and bands in (1, 3):
        return ".pgm" if bands == 1 else ".ppm"
    # What a lossy codec makes of a WebP may be what WebP cannot hold, such as an opaque alpha channel.
    if meta.get("format") == "webp" and kind == "uint8" and bands == 3:
        return ".webp"
    return ".png"


def outputs(path: Path | str, meta: Mapping[str, Any] | None = None) -> tuple[Path, ...]:
    """The files that `write(path, array, meta)` would make: one, or the two of an ENVI pair."""
    path, meta = Path(path), dict(meta or {})
    if _format_of(path) is envi or (meta.get("format") == "envi" and not path.suffix):
        return envi._names(path, meta)
    return (npy.split_variable(path)[0],)


def find(folder: Path | str, suffixes: frozenset[str] | tuple[str, ...] = tuple(_LISTED)) -> list[Path]:
    """Readable files below a folder, sorted, without hidden ones; an ENVI pair is listed once, by its header.

    Raises:
        DataNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataNotFoundError(f"there is no folder {folder}")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _format_of(path: Path) -> ModuleType | None:
    suffix = npy.split_variable(path)[0].suffix.lower()
    for form in _FORMATS:
        if suffix in form.SUFFIXES:
            return form
    # Any other file is a cube when an ENVI header stands beside it.
    return envi if path.is_file() and envi.header_of(path) else None
