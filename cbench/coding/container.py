r"""One coded array as one self-describing file.

Layout, little-endian, "varint" as in `cbench.coding.varint`; fields in brackets depend on their flag:

    4 bytes     magic "CBN" 0x1A (the last byte also catches damage by text-mode transfer)
    u8          bits 0-3 container version (1); bit 4 fingerprint, bit 5 check, bit 6 environment; bit 7 zero
    varint + n  codec name, ASCII
    u8          bits 0-3 the codec's format number (1..15), bits 4-7 number of sections (1..15)
    [4 bytes]   fingerprint of the codec's weights
    u8          bits 0-3 dtype code (`DTYPES`), bits 4-7 rank (3)
    varint x 3  shape (C, H, W), each at least 1
    [u16]       environment (`cbench.coding.environment`)
    varint + n  private parameters of the codec, at most 255 bytes
    varint      length of every section but the last, which runs to the end
    [u32]       check: CRC-32 of the decoded array in C order, little-endian
    ...         the sections
    u32         CRC-32 of everything before it

That is 40 bytes around a picture of 3x512x768 with everything in it. Many small arrays share one header in
an archive (`cbench.coding.archive`, magic "CBA" 0x1A). A file made by the shell also records what its
source file looked like, in an envelope around the coded bytes (`cbench.coding.envelope`, magic "CBE" 0x1A);
`cbench.decompress` takes envelopes as well as containers.
"""

from __future__ import annotations

import zlib
from typing import Any

from cbench.coding.environment import Environment
from cbench.coding.header import (
    DTYPES,
    MAX_SAMPLES,
    Header,
    build_header,
    check_samples,
    content_check,
    describe_header,
    describe_sizes,
    open_checked,
    pack_common,
    pack_tail,
    read_common,
    read_size,
    read_tail,
    verify_content,
)
from cbench.coding.varint import Reader, varint
from cbench.errors import BitstreamError, ConfigError

__all__ = [
    "DTYPES",
    "MAX_SAMPLES",
    "Environment",
    "Header",
    "content_check",
    "describe",
    "is_container",
    "pack",
    "payload_size",
    "read_header",
    "unpack",
    "verify_content",
]

MAGIC = b"CBN\x1a"
VERSION = 1
MAX_SECTIONS = 15


def pack(head: Header, *sections: bytes) -> bytes:
    """Header and 1..15 sections as one file.

    Raises:
        ConfigError: no section, or too many.
    """
    if not 1 <= len(sections) <= MAX_SECTIONS:
        raise ConfigError(f"a container has 1 to {MAX_SECTIONS} sections, not {len(sections)}")
    parts = [MAGIC, pack_common(head, VERSION, len(sections)), b"".join(varint(n) for n in head.shape)]
    parts.append(pack_tail(head))
    parts += [varint(len(section)) for section in sections[:-1]]
    if head.check is not None:
        parts.append(head.check.to_bytes(4, "little"))
    parts += sections
    body = b"".join(parts)
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(data: bytes, max_samples: int = MAX_SAMPLES) -> tuple[Header, tuple[bytes, ...]]:
    """Header and sections of a file made by `pack`.

    Args:
        data: the whole file, nothing more.
        max_samples: refuse arrays larger than this before anything is allocated.

    Raises:
        BitstreamError: damaged, truncated, extended, made by a newer version, too large, or not ours.
    """
    reader, flags = open_checked(data, MAGIC, "container", VERSION)
    head, sections = _read(reader, flags, max_samples)
    return head, tuple(reader.take(size, "sections") for size in sections)


def read_header(data: bytes, max_samples: int = MAX_SAMPLES) -> Header:
    """The header alone, after the same checks as in `unpack`, without copying the sections."""
    reader, flags = open_checked(data, MAGIC, "container", VERSION)
    return _read(reader, flags, max_samples)[0]


def is_container(data: bytes) -> bool:
    """Whether `data` starts as a container does."""
    return bytes(data[:4]) == MAGIC


def payload_size(data: bytes) -> int:
    """Bytes of the sections alone, without the header and checksums around them."""
    return sum(len(section) for section in unpack(data)[1])


def describe(data: bytes) -> dict[str, Any]:
    """Everything a container says about itself, as plain values for `cbench info --json`."""
    head, sections = unpack(data)
    return {
        "kind": "container",
        **describe_header(head),
        "shape": list(head.shape),
        "check": None if head.check is None else f"{head.check:08x}",
        "sections": [len(section) for section in sections],
        **describe_sizes(head.shape, head.raw_bytes, len(data), sum(map(len, sections))),
    }


def _read(reader: Reader, flags: int, max_samples: int) -> tuple[Header, list[int]]:
    """The header and the size of each section; leaves the reader at the first section."""
    if flags & 0x80:
        raise BitstreamError("the container has a flag that this version does not know")
    common = read_common(reader, flags)
    if common.high < 1:
        raise BitstreamError("the container has no sections")
    shape = (
        read_size(reader, max_samples),
        read_size(reader, max_samples),
        read_size(reader, max_samples),
    )
    check_samples(shape, max_samples)
    where, params = read_tail(reader, flags)
    sizes = [reader.varint("section lengths") for _ in range(common.high - 1)]
    check = reader.uint(4, "check") if common.has_check else None
    if sum(sizes) > reader.left:
        raise BitstreamError(f"the sections need {sum(sizes)} bytes but only {reader.left} are there")
    sizes.append(reader.left - sum(sizes))
    return build_header(common, shape, check, where, params), sizes
