"""The text header of an ENVI cube: fields to read, and to write back word for word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbench.errors import UnsupportedInputError

TYPES = {1: "uint8", 2: "int16", 3: "int32", 12: "uint16", 13: "uint32"}
_OTHER_TYPES = {4: "float32", 5: "float64", 6: "complex64", 9: "complex128", 14: "int64", 15: "uint64"}
ORDER = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
"""For each interleave the order of the axes (bands, lines, samples) in the data file."""
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


@dataclass(frozen=True)
class EnviHeader:
    """A header's text, cut into fields; only the fields that change are ever rewritten."""

    entries: tuple[tuple[str, str, str], ...]
    """(key in lower case, value without outer blanks, exact text with line ends); key "" for other lines."""
    encoding: str = "utf-8"

    def __getitem__(self, key: str) -> str:
        """The value of a field; of the last one when it is there twice. Raises `KeyError`."""
        return {name: value for name, value, _ in self.entries if name}[key]

    def get(self, key: str, default: str) -> str:
        """The value of a field, or `default`."""
        return next((value for name, value, _ in reversed(self.entries) if name == key), default)

    @property
    def text(self) -> str:
        """The whole header."""
        return "".join(text for _, _, text in self.entries)

    def replace(self, key: str, value: str | int) -> EnviHeader:
        """The header with one field set: in its old place, or at the end."""
        if self.get(key, "") == str(value):
            return self
        end = "\r\n" if "\r\n" in self.text else "\n"
        new = (key, str(value), f"{key} = {value}{end}")
        if all(name != key for name, _, _ in self.entries):
            old = self.entries
            if old and not old[-1][2].endswith("\n"):
                old = (*old[:-1], (*old[-1][:2], old[-1][2] + end))
            return EnviHeader((*old, new), self.encoding)
        return EnviHeader(tuple(new if entry[0] == key else entry for entry in self.entries), self.encoding)

    def without(self, keys: set[str]) -> EnviHeader:
        """The header less some fields."""
        return EnviHeader(tuple(entry for entry in self.entries if entry[0] not in keys), self.encoding)


@dataclass(frozen=True)
class EnviLayout:
    """Where each sample of a cube lies in the data file."""

    shape: tuple[int, int, int]
    """Bands, lines, samples: (C, H, W)."""
    dtype: str
    """A numpy name such as "uint16"."""
    interleave: str = "bsq"
    """"bsq", "bil" or "bip"."""
    byte_order: int = 0
    """0 little-endian, 1 big-endian."""
    offset: int = 0
    """Bytes before the first sample."""

    @property
    def file_dtype(self) -> np.dtype:
        """The type with the byte order of the file."""
        return np.dtype(self.dtype).newbyteorder(">" if self.byte_order else "<")

    @property
    def file_bytes(self) -> int:
        """The exact size of the data file."""
        bands, lines, samples = self.shape
        return self.offset + bands * lines * samples * np.dtype(self.dtype).itemsize


def parse_header(text: str, path: Path | str = "header", encoding: str = "utf-8") -> EnviHeader:
    """Cut a header into fields: `key = value` lines, values in braces over several lines, comments after `;`.

    Lines that are neither are kept and not understood.

    Raises:
        UnsupportedInputError: no "ENVI" in the first line, or a brace that is never closed.
    """
    # Not splitlines: it also cuts at characters that old code pages use inside a line.
    lines = _LINES.findall(text)
    if not lines or lines[0].lstrip("\ufeff").strip().upper() != "ENVI":
        raise UnsupportedInputError(f"{path} is not an ENVI header (its first line is not ENVI)")
    entries = [("", "", lines[0])]
    rest = iter(lines[1:])
    for line in rest:
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith(";"):
            entries.append(("", "", line))
            continue
        whole = line
        while value.lstrip().startswith("{") and "}" not in value:
            more = next(rest, None)
            if more is None:
                raise UnsupportedInputError(f"{path}: the brace of {key.strip()!r} is never closed")
            whole, value = whole + more, value + more
        entries.append((" ".join(key.lower().split()), value.strip(), whole))
    return EnviHeader(tuple(entries), encoding)


def layout_of(header: EnviHeader, path: Path | str = "header") -> EnviLayout:
    """The layout that a header describes.

    Raises:
        UnsupportedInputError: a field is missing or senseless, or the samples are floats or of 64 bits.
    """
    kind = _number(header, "data type", path)
    if kind not in TYPES:
        name = _OTHER_TYPES.get(kind, "unknown")
        raise UnsupportedInputError(
            f"{path}: ENVI data type {kind} ({name}) is not coded, only {', '.join(sorted(TYPES.values()))}"
        )
    interleave = _value(header, "interleave", "bsq").lower()
    order = _number(header, "byte order", path, 0)
    offset = _number(header, "header offset", path, 0)
    shape = tuple(_number(header, key, path) for key in ("bands", "lines", "samples"))
    if interleave not in ORDER:
        raise UnsupportedInputError(f"{path}: interleave {interleave!r} is not bsq, bil or bip")
    if _value(header, "file compression", "0") != "0":
        raise UnsupportedInputError(f"{path}: compressed ENVI data is not read")
    if order not in (0, 1) or offset < 0 or min(shape) < 1:
        raise UnsupportedInputError(f"{path}: sizes must be positive and the byte order 0 or 1")
    return EnviLayout((shape[0], shape[1], shape[2]), TYPES[kind], interleave, order, offset)


def _value(header: EnviHeader, key: str, default: str) -> str:
    """A one-line value without the comment that may follow it."""
    return header.get(key, default).partition(";")[0].strip()


def _number(header: EnviHeader, key: str, path: Path | str, default: int | None = None) -> int:
    value = _value(header, key, "" if default is None else str(default))
    if not re.fullmatch(r"[+-]?[0-9]{1,15}", value):
        what = f"is {value[:40]!r}, not a whole number" if value else "is missing"
        raise UnsupportedInputError(f"{path}: the header field {key!r} {what}")
    return int(value)
