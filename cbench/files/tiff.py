"""TIFF and GeoTIFF through tifffile (`pip install cbench[geo]`): any number of bands, planar or interleaved.

Uncompressed files are memory-mapped. The tags that place a picture on the Earth are kept in `meta` and
written back; other tags are not. Files are written uncompressed, planar or interleaved as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cbench.errors import UnsupportedInputError
from cbench.files.atomic import atomic_write
from cbench.files.base import ImageFile, check_array, native, reading

SUFFIXES = (".tif", ".tiff")
# Pixel scale, tie points, transformation, geo keys with numbers and texts, GDAL metadata and no-data value.
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
_PALETTE = 3
_PHOTOMETRICS = ("miniswhite", "minisblack", "rgb")


def read(path: Path) -> ImageFile:
    """All bands as (C, H, W); pages of one size count as bands, a palette picture becomes RGB.

    Raises:
        DataNotFoundError: no such file.
        UnsupportedInputError: no tifffile installed, or the file is damaged, not integers, not one picture.
    """
    tifffile = _tifffile()
    with reading(path), tifffile.TiffFile(path) as tiff:
        if len(tiff.series) != 1:
            raise UnsupportedInputError(f"{path} holds {len(tiff.series)} pictures of different shape; one is read")
        series, page = tiff.series[0], tiff.pages.first
        axes, array = series.axes, _samples(tifffile, path, series)
        if axes == "YX":
            layout, array = "planar", array[None]
        elif len(axes) == 3 and axes.endswith("YX"):
            layout = "planar"
        elif axes == "YXS":
            layout, array = "interleaved", array.transpose(2, 0, 1)
        else:
            raise UnsupportedInputError(f"{path} has the axes {axes}; bands, lines and columns are read")
        if array.dtype == bool:
            array = array.astype(np.uint8) * np.uint8(255)
        array = np.asarray(native(array, path))
        meta: dict[str, Any] = {"format": "tiff", "layout": layout, "byteorder": tiff.byteorder}
        if page.photometric == _PALETTE and array.shape[0] == 1:
            return ImageFile(_colours(array[0], page.colormap), meta | {"photometric": "rgb"})
        name = page.photometric.name.lower()
        if page.extrasamples:
            meta["extra"] = [int(kind) for kind in page.extrasamples]
        geo = [[tag.code, int(tag.dtype), tag.count, tag.value] for tag in page.tags.values() if tag.code in _GEO_TAGS]
        return ImageFile(array, meta | {"photometric": name} | ({"geo": geo} if geo else {}))


def write(path: Path, array: np.ndarray, meta: Mapping[str, Any], force: bool = False) -> None:
    """Write all bands uncompressed, so that the file can be memory-mapped.

    Raises:
        UnsupportedInputError: tifffile is not installed, or an array that is not (C, H, W) integers.
        CbenchError: the file exists and `force` is false.
    """
    tifffile = _tifffile()
    array = check_array(array, path)
    bands = array.shape[0]
    interleaved = meta.get("layout") == "interleaved" if "layout" in meta else bands in (3, 4)
    default = "rgb" if bands in (3, 4) and array.dtype.name in ("uint8", "uint16") else "minisblack"
    photometric = meta.get("photometric", default)
    if photometric not in _PHOTOMETRICS or (photometric == "rgb" and bands < 3):
        photometric = default if bands in (3, 4) else "minisblack"
    samples = array[0] if bands == 1 else array.transpose(1, 2, 0) if interleaved else array
    planar = None if bands == 1 else "contig" if interleaved else "separate"
    geo = [(code, kind, count, _plain(value), True) for code, kind, count, value in meta.get("geo", ())]
    with atomic_write(path, force) as temporary:
        tifffile.imwrite(
            temporary,
            samples,
            photometric=photometric,
            planarconfig=planar,
            extrasamples=_extra(meta, bands, photometric),
            byteorder=meta.get("byteorder") if meta.get("byteorder") in ("<", ">") else None,
            metadata=None,
            extratags=geo,
        )


def _tifffile() -> ModuleType:
    try:
        import tifffile
    except ImportError as error:
        raise UnsupportedInputError("TIFF files need tifffile: pip install cbench[geo]") from error
    return tifffile


def _samples(tifffile: ModuleType, path: Path, series: Any) -> np.ndarray:
    if series.dataoffset is None:  # compressed, or scattered strips
        return series.asarray()
    return tifffile.memmap(path, mode="r", series=0)


def _colours(index: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Palette indices (H, W) -> (3, H, W); 8 bits when the 16-bit palette says no more than that."""
    colours = table[:, index]
    high = table >> 8
    if (table == high * 257).all() or (table == high << 8).all():
        return (colours >> 8).astype(np.uint8)
    return np.ascontiguousarray(colours.astype(np.uint16))


def _extra(meta: Mapping[str, Any], bands: int, photometric: str) -> tuple[int, ...] | None:
    """What the bands beyond grey or RGB mean (0 unknown, 1 or 2 alpha), if the array still has them."""
    extra = tuple(meta.get("extra", ()))
    return extra if extra and len(extra) == bands - (3 if photometric == "rgb" else 1) else None


def _plain(value: Any) -> Any:
    """JSON turns tuples into lists; tifffile wants tuples."""
    return tuple(value) if isinstance(value, list) else value
