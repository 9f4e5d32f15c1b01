r"""Coded bytes together with what their source file looked like.

An array does not say whether it came from a PNG or from an ENVI cube with a page of header text, so the
shell wraps what a codec made (a container, or another program's format such as a PNG) and a small record of
the source file. The envelope's checksum also protects foreign formats that have none. Layout,
little-endian:

    4 bytes     magic "CBE" 0x1A
    u8          bits 0-3 envelope version (1); bit 4: the record is deflated; bits 5-7 zero
    varint + n  the record: a JSON object, UTF-8
    ...         the coded bytes
    u32         CRC-32 of everything before it
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from cbench.coding.header import open_checked
from cbench.coding.varint import varint
from cbench.errors import BitstreamError, ConfigError

MAGIC = b"CBE\x1a"
VERSION = 1
MAX_RECORD = 1 << 24
"""Bytes of JSON; a header text is kilobytes."""
_DEFLATED = 0x10


def wrap(coded: bytes, record: dict[str, Any]) -> bytes:
    """Coded bytes and a JSON-able record in one envelope.

    Raises:
        ConfigError: the record is larger than 16 MiB.
    """
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    if len(text) > MAX_RECORD:
        raise ConfigError(f"the description of the source file takes {len(text)} bytes; {MAX_RECORD} are allowed")
    deflated = zlib.compress(text, 9)
    flag, text = (_DEFLATED, deflated) if len(deflated) < len(text) else (0, text)
    body = b"".join((MAGIC, bytes([VERSION | flag]), varint(len(text)), text, coded))
    return body + zlib.crc32(body).to_bytes(4, "little")


def unwrap(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """The coded bytes in an envelope and its record; data that is not an envelope comes back as it is.

    Raises:
        BitstreamError: the envelope is damaged, cut off, or made by a newer version.
    """
    if not is_envelope(data):
        return data, {}
    reader, flags = open_checked(data, MAGIC, "envelope", VERSION)
    if flags & 0xE0:
        raise BitstreamError("the envelope has a flag that this version does not know")
    text = reader.take(reader.varint("record"), "record")
    record = _parse(_inflate(text) if flags & _DEFLATED else text)
    return reader.take(reader.left, "coded bytes"), record


def is_envelope(data: bytes) -> bool:
    """Whether `data` starts as an envelope does."""
    return bytes(data[:4]) == MAGIC


def _inflate(text: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(text, MAX_RECORD)
    except zlib.error as error:
        raise BitstreamError(f"the envelope's record cannot be inflated: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise BitstreamError("the envelope's record is too large or has bytes behind its end")
    return plain


def _parse(text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BitstreamError(f"the envelope's record is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BitstreamError("the envelope's record is not a JSON object")
    return record
