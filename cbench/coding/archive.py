r"""Many small arrays under one header, each readable alone.

Layout, little-endian, "varint" as in `cbench.coding.varint`; fields in brackets depend on their flag:

    4 bytes     magic "CBA" 0x1A
    u8          bits 0-3 archive version (1); bit 4 fingerprint, bit 5 checks, bit 6 environment, bit 7 names
    varint + n  codec name, ASCII
    u8          bits 0-3 the codec's format number; bits 4, 5, 6: C, H, W differ from item to item
    [4 bytes]   fingerprint of the codec's weights
    u8          bits 0-3 dtype code, bits 4-7 rank (3)
    varint x 3  shape (C, H, W); of a dimension that differs, the smallest
    [u16]       environment
    varint + n  private parameters of the codec, at most 255 bytes
    varint x 2  number of items, length of the shortest payload
    varint x n  length of each payload, less the shortest
    varint x n  for each dimension that differs: its size in each item, less the smallest
    [u16 x n]   check of each item: low half of the CRC-32 of its decoded array
    [... x n]   name of each item: varint length and UTF-8
    ...         the payloads
    u32         CRC-32 of everything before it

An item of common shape costs four bytes beyond its payload, three where its payload is less than 128 bytes
longer than the shortest: CIFAR-10 pictures cost 0.01 bits a sample.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cbench.coding.header import (
    MAX_SAMPLES,
    Header,
    both_environments,
    build_header,
    content_check,
    describe_header,
    open_checked,
    pack_common,
    pack_tail,
    read_common,
    read_size,
    read_tail,
)
from cbench.coding.varint import Reader, varint
from cbench.errors import BitstreamError, ConfigError, DecodeMismatchError

MAGIC = b"CBA\x1a"
VERSION = 1
_NAMES = 0x80

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Archive:
    """An opened archive; `item(i)` touches nothing but item i."""

    head: Header
    """What the items have in common; its shape is the first item's."""
    shapes: tuple[Shape, ...]
    """(C, H, W) of each item."""
    checks: tuple[int, ...] | None
    """Low half of each item's `content_check`."""
    names: tuple[str, ...] | None
    file_bytes: int
    """Size of the whole archive."""
    _data: memoryview = field(repr=False)
    _starts: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.shapes)

    def item(self, i: int) -> bytes:
        """Payload of item `i`, which the codec decodes with `header(i)`."""
        return bytes(self._data[self._starts[i] : self._starts[i + 1]])

    def header(self, i: int) -> Header:
        """Header of item `i`: the common one with the item's shape."""
        return replace(self.head, shape=self.shapes[i])

    def payload_bytes(self, i: int) -> int:
        """Size of the payload of item `i`."""
        return int(self._starts[i + 1] - self._starts[i])

    def verify(self, i: int, array: np.ndarray, found: int | None = None) -> None:
        """Raise `DecodeMismatchError` unless `array` is what item `i` promises; `found` as for `verify_content`."""
        if array.shape != self.shapes[i] or array.dtype != np.dtype(self.head.dtype):
            raise DecodeMismatchError(
                f"item {i} decoded to {array.shape} {array.dtype}; the archive holds {self.shapes[i]} {self.head.dtype}"
            )
        if self.checks is None:
            return
        found = content_check(array) if found is None else found
        if found & 0xFFFF != self.checks[i]:
            raise DecodeMismatchError(
                f"the archive is intact but {self.head.codec} decoded item {i} to something else than was "
                f"encoded{both_environments(self.head.environment)}"
            )


def pack_archive(
    head: Header,
    payloads: Sequence[bytes],
    shapes: Sequence[Shape] | None = None,
    checks: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> bytes:
    """Many payloads of one codec as one file.

    Args:
        head: codec, format, dtype, fingerprint, params and environment of all items; its `check` is not used.
        payloads: one byte string an item, at least one.
        shapes: (C, H, W) of each item; None: all have `head.shape`.
        checks: `content_check` of each decoded item (the low half is stored); None: unchecked.
        names: of each item; None: items have numbers only.

    Raises:
        ConfigError: the sequences have different lengths, or there is no item.
    """
    count = len(payloads)
    given = {"shapes": shapes, "checks": checks, "names": names}
    for what, values in given.items():
        if values is not None and len(values) != count:
            raise ConfigError(f"an archive of {count} payloads was given {len(values)} {what}")
    if count < 1:
        raise ConfigError("an archive holds at least one item")
    sizes = [len(payload) for payload in payloads]
    shortest = min(sizes)
    smallest, differing = _dimensions(shapes or [head.shape])
    common = replace(head, shape=smallest, check=0 if checks is not None else None)
    mask = sum(1 << axis for axis in differing)
    flag = _NAMES if names is not None else 0
    parts = [
        MAGIC,
        pack_common(common, VERSION | flag, mask),
        *map(varint, smallest),
        pack_tail(common),
        varint(count),
        varint(shortest),
        *(varint(size - shortest) for size in sizes),
    ]
    for axis in differing:
        parts += [varint(shape[axis] - smallest[axis]) for shape in shapes or ()]
    if checks is not None:
        parts.append(np.array([check & 0xFFFF for check in checks], "<u2").tobytes())
    for name in names or ():
        parts += [varint(len(name.encode())), name.encode()]
    body = b"".join((*parts, *payloads))
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack_archive(data: bytes, max_samples: int = MAX_SAMPLES) -> Archive:
    """Open an archive made by `pack_archive`.

    Args:
        data: the whole archive, nothing more.
        max_samples: refuse archives with more samples in total.

    Raises:
        BitstreamError: damaged, truncated, extended, made by a newer version, too large, or not ours.
    """
    reader, flags = open_checked(data, MAGIC, "archive", VERSION)
    common = read_common(reader, flags)
    if common.high > 7:
        raise BitstreamError("the archive has a flag that this version does not know")
    smallest = [read_size(reader, max_samples) for _ in range(3)]
    where, params = read_tail(reader, flags)
    count, shortest = reader.varint("number of items"), reader.varint("shortest length")
    if not 1 <= count <= reader.left:
        raise BitstreamError(f"the archive announces {count} items in {reader.left} bytes")
    sizes = _varints(reader, count, shortest, "payload lengths")
    dims = [
        _varints(reader, count, smallest[axis], "shapes") if common.high >> axis & 1 else [smallest[axis]] * count
        for axis in range(3)
    ]
    shapes: tuple[Shape, ...] = tuple(zip(*dims, strict=True))
    if sum(map(math.prod, shapes)) > max_samples:
        raise BitstreamError(f"the archive announces more than {max_samples} samples")
    checks = np.frombuffer(reader.take(2 * count, "checks"), "<u2").tolist() if common.has_check else None
    names = tuple(_name(reader) for _ in range(count)) if flags & _NAMES else None
    if sum(sizes) != reader.left:
        raise BitstreamError(f"the payloads take {sum(sizes)} bytes but {reader.left} are there")
    return Archive(
        head=build_header(common, shapes[0], None, where, params),
        shapes=shapes,
        checks=None if checks is None else tuple(checks),
        names=names,
        file_bytes=len(data),
        _data=memoryview(data),
        _starts=np.cumsum([reader.position, *sizes]),
    )


def is_archive(data: bytes) -> bool:
    """Whether `data` starts as an archive does."""
    return bytes(data[:4]) == MAGIC


def describe_archive(data: bytes) -> dict[str, Any]:
    """Everything an archive says about itself, as plain values for `cbench info --json`."""
    archive = unpack_archive(data)
    samples = sum(map(math.prod, archive.shapes))
    payload = sum(map(archive.payload_bytes, range(len(archive))))
    raw = samples * np.dtype(archive.head.dtype).itemsize
    shapes = sorted(set(archive.shapes))
    return {
        "kind": "archive",
        **describe_header(archive.head),
        "items": len(archive),
        "shape": list(shapes[0]) if len(shapes) == 1 else None,
        "checked": archive.checks is not None,
        "raw_bytes": raw,
        "file_bytes": len(data),
        "payload_bytes": payload,
        "bpd": round(8 * len(data) / samples, 6),
        "bpp": round(8 * len(data) / sum(h * w for _, h, w in archive.shapes), 6),
        "ratio": round(len(data) / raw, 6),
    }


def _dimensions(shapes: Sequence[Shape]) -> tuple[Shape, list[int]]:
    """The smallest size along each axis, and the axes along which sizes differ."""
    smallest = tuple(min(shape[axis] for shape in shapes) for axis in range(3))
    differing = [axis for axis in range(3) if any(shape[axis] != smallest[axis] for shape in shapes)]
    return (smallest[0], smallest[1], smallest[2]), differing


def _varints(reader: Reader, count: int, least: int, what: str) -> list[int]:
    return [least + reader.varint(what) for _ in range(count)]


def _name(reader: Reader) -> str:
    try:
        return reader.take(reader.varint("item names"), "item names").decode()
    except UnicodeDecodeError:
        raise BitstreamError("an item's name is not UTF-8") from None
