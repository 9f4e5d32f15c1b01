"""ENVI cubes: a text header beside a raw data file, memory-mapped as (C, H, W) whatever their interleave.

The header is `scene.hdr` beside `scene.raw` (.img .dat .bsq .bil .bip or no suffix), or `scene.raw.hdr`;
either of the two paths may be given. Fields that are not understood are kept and written back word for word.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cbench.errors import DataNotFoundError, UnsupportedInputError
from cbench.files.atomic import atomic_write, check_free
from cbench.files.base import ImageFile, check_array, native, reading
from cbench.files.envi_header import ORDER, TYPES, EnviHeader, EnviLayout, layout_of, parse_header

DATA_SUFFIXES = (".raw", ".img", ".dat", ".bsq", ".bil", ".bip")
SUFFIXES = (".hdr", *DATA_SUFFIXES)

_LARGEST_HEADER = 1 << 24


def load_header(path: Path) -> EnviHeader:
    """Parse a header file; raises as `parse_header`, or `DataNotFoundError` when there is none."""
    with reading(path):
        if path.stat().st_size > _LARGEST_HEADER:
            raise UnsupportedInputError(f"{path} is too large for an ENVI header")
        data = path.read_bytes()
        try:
            return parse_header(data.decode(), path)
        except UnicodeDecodeError:
            return parse_header(data.decode("latin-1"), path, "latin-1")


def header_of(path: Path) -> Path | None:
    """The header of a data file (`scene.raw.hdr` or `scene.hdr`), or the path itself if it is a header."""
    if path.suffix.lower() == ".hdr":
        return path
    names = [f"{path.name}{end}" for end in (".hdr", ".HDR")]
    names += [f"{path.stem}{end}" for end in (".hdr", ".HDR")] if path.suffix.lower() in DATA_SUFFIXES else []
    return next((place for place in map(path.with_name, names) if place.is_file()), None)


def data_of(header: Path, size: int) -> Path:
    """The data file that belongs to a header; `size` decides when several files could be it.

    Raises:
        DataNotFoundError: there is none.
        UnsupportedInputError: several have that size.
    """
    stem = header.with_suffix("")
    # After `scene.raw.hdr` the stem itself is the data file.
    names = [stem.name] + [stem.name + end for suffix in DATA_SUFFIXES for end in (suffix, suffix.upper())]
    found: list[Path] = []
    for place in map(header.with_name, names):
        # A file system that ignores case shows one file under two names.
        if place.is_file() and not any(place.samefile(other) for other in found):
            found.append(place)
    if not found:
        raise DataNotFoundError(f"no data file beside {header} (looked for {stem.name} and {stem.name}.raw, .img, ...)")
    fitting = [place for place in found if place.stat().st_size == size] or found[:1]
    if len(fitting) > 1:
        raise UnsupportedInputError(
            f"{header} could belong to {' or '.join(place.name for place in fitting)}: give the data file"
        )
    return fitting[0]


def open_cube(path: Path) -> tuple[np.ndarray, EnviLayout, EnviHeader]:
    """A (C, H, W) view of a cube on disk, in the byte order of the file: nothing is read yet.

    Args:
        path: The header or the data file.

    Raises:
        DataNotFoundError: the header or the data file is not there.
        UnsupportedInputError: a header that cannot be used, or a data file of another size than it says.
    """
    place = header_of(path)
    if place is None:
        if not path.is_file():
            raise DataNotFoundError(f"there is no file {path}")
        raise DataNotFoundError(f"no ENVI header beside {path} (looked for {path.name}.hdr and {path.stem}.hdr)")
    header = load_header(place)
    layout = layout_of(header, place)
    data = data_of(place, layout.file_bytes) if path == place else path
    with reading(data):
        actual = data.stat().st_size
        if actual != layout.file_bytes:
            fault = "is truncated" if actual < layout.file_bytes else "is too long"
            raise UnsupportedInputError(f"{data} {fault}: {actual} bytes, but {place.name} says {layout.file_bytes}")
        order = ORDER[layout.interleave]
        in_file = tuple(layout.shape[axis] for axis in order)
        samples = np.memmap(data, layout.file_dtype, "r", layout.offset, in_file)
        return np.asarray(samples).transpose(np.argsort(order)), layout, header


def read(path: Path) -> ImageFile:
    """A cube as (C, H, W): a memory-mapped view, copied only when the file has the other byte order.

    Raises as `open_cube`.
    """
    array, layout, header = open_cube(path)
    place = header_of(path) or path
    data = data_of(place, layout.file_bytes) if path == place else path
    meta = {
        "format": "envi",
        "header": header.text,
        "encoding": header.encoding,
        "suffix": data.suffix,
        "header_name": "append" if place.stem == data.name and data.suffix else "replace",
    }
    return ImageFile(native(array, path), meta)


def write(path: Path, array: np.ndarray, meta: Mapping[str, Any], force: bool = False) -> None:
    """Write header and data file; `path` names either of them.

    With the `meta` of a cube that was read, the header's text, interleave and byte order come back. Only
    bytes before the first sample ("header offset") are not kept.

    Raises:
        UnsupportedInputError: int8 samples, which ENVI does not have.
        CbenchError: one of the files exists and `force` is false.
    """
    array = check_array(array, path)
    codes = {name: code for code, name in TYPES.items()}
    if array.dtype.name not in codes:
        raise UnsupportedInputError(f"{path}: ENVI files do not hold {array.dtype.name} samples")
    header = _header_for(array, meta, codes[array.dtype.name])
    layout = layout_of(header, path)
    data_path, header_path = _names(path, meta)
    check_free(header_path, force)
    in_file = array.transpose(ORDER[layout.interleave])
    # Left in reverse order: a header never stands beside data that is not there yet.
    with atomic_write(header_path, force) as text, atomic_write(data_path, force) as data:
        with data.open("wb") as stream:
            # One outermost slice at a time: the cube may be a memory map larger than the memory.
            for part in in_file:
                stream.write(np.ascontiguousarray(part, dtype=layout.file_dtype).tobytes())
        text.write_bytes(header.text.encode(header.encoding))


def _header_for(array: np.ndarray, meta: Mapping[str, Any], code: int) -> EnviHeader:
    bands, lines, samples = array.shape
    if meta.get("format") == "envi" and "header" in meta:
        header = parse_header(str(meta["header"]), encoding=str(meta.get("encoding", "utf-8")))
        before = header.get("bands", "")
        if before != str(bands):
            header = header.without(_per_band(header, before))
    else:
        text = f"ENVI\nfile type = ENVI Standard\ninterleave = bsq\nbyte order = {int(sys.byteorder == 'big')}\n"
        header = parse_header(text)
    fields = {"samples": samples, "lines": lines, "bands": bands, "data type": code, "header offset": 0}
    for key, value in fields.items():
        header = header if _same_number(header, key, value) else header.replace(key, value)
    return header


def _same_number(header: EnviHeader, key: str, value: int) -> bool:
    stored = header.get(key, "0" if key == "header offset" else "").partition(";")[0].strip()
    return stored.isdecimal() and int(stored) == value


def _per_band(header: EnviHeader, bands: str) -> set[str]:
    """Fields with one entry a band (wavelengths, names): wrong once the number of bands differs."""
    lists = {key: value.count(",") + 1 for key, value, _ in header.entries if value.startswith("{")}
    return {key for key, count in lists.items() if str(count) == bands and key != "description"}


def _names(path: Path, meta: Mapping[str, Any]) -> tuple[Path, Path]:
    """(data file, header) for a path that names one of them."""
    suffix = str(meta.get("suffix", ".raw"))
    suffix = suffix if suffix.lower() in ("", *DATA_SUFFIXES) else ".raw"
    if path.suffix.lower() == ".hdr":
        stem = path.with_suffix("")
        return (stem if stem.suffix.lower() in DATA_SUFFIXES else stem.with_name(stem.name + suffix)), path
    if meta.get("header_name") == "append" or path.suffix.lower() not in DATA_SUFFIXES:
        return path, path.with_name(f"{path.name}.hdr")
    return path, path.with_suffix(".hdr")
