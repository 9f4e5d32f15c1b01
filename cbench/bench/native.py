"""Other programs' picture formats: which one a byte string is, and whether it ends where it should."""

from __future__ import annotations

from cbench.errors import BitstreamError

_BOXED_JXL = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_BOXED_JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_END_MARKERS = {
    "png": b"\x00\x00\x00\x00IEND\xaeB`\x82",
    "jpeg": b"\xff\xd9",
    "jpegls": b"\xff\xd9",
    "jpeg2000": b"\xff\xd9",
    "qoi": b"\x00\x00\x00\x00\x00\x00\x00\x01",
}


def native_codec_of(data: bytes) -> str | None:
    """Name of the classical codec that reads `data`, judged by its first bytes; None: none that we know.

    Lossy and lossless files of one format have one decoder, so the answer is the format's first name:
    "webp" and "jpegxl" for both kinds, "jpeg", "avif", "jpeg2000", "jpegls", "png", "qoi".
    """
    head = bytes(data[:12])
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"\xff\x0a", _BOXED_JXL)):
        return "jpegxl"
    if head.startswith((b"\xff\x4f\xff\x51", _BOXED_JP2)):
        return "jpeg2000"
    if head[:4] == b"qoif":
        return "qoi"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "avif"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpegls" if _is_jpegls(data) else "jpeg"
    return None


def check_whole(family: str, data: bytes) -> None:
    """Raise `BitstreamError` where the format itself tells that bytes are missing or were appended.

    Several decoders fill up a truncated picture without a word. A bare JPEG XL codestream has no end mark,
    but its decoder does refuse truncation.
    """
    if data.startswith((_BOXED_JXL, _BOXED_JP2)) or family == "avif":
        whole = _boxes_end(data) == len(data)
    elif family == "webp":
        whole = len(data) >= 12 and int.from_bytes(data[4:8], "little") + 8 == len(data)
    else:
        whole = data.endswith(_END_MARKERS.get(family, b""))
    if not whole:
        raise BitstreamError(f"the {family} data does not end where it should: truncated, or bytes were appended")


def bare_codestream(data: bytes) -> bytes:
    """A JPEG XL file without the boxes around its codestream, which every JPEG XL decoder also reads."""
    if not data.startswith(_BOXED_JXL):
        return data
    parts = [body for kind, body in _boxes(data) if kind in (b"jxlc", b"jxlp")]
    # A partial codestream box starts with its four-byte number.
    return parts[0] if len(parts) == 1 and b"jxlc" in data[:64] else b"".join(part[4:] for part in parts)


def _is_jpegls(data: bytes) -> bool:
    """Walk the marker segments to the frame header, which tells JPEG-LS from JPEG."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return False
        if kind == 0xF7:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of each top-level box of an ISO file; stops at the first that does not fit."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:
            size = len(data) - at
        if size < start - at or at + size > len(data):
            break
        found.append((data[at + 4 : at + 8], data[start : at + size]))
        at += size
    return found


def _boxes_end(data: bytes) -> int:
    """Where the last complete box ends."""
    at = 0
    for _, body in _boxes(data):
        wide = data[at : at + 4] == b"\x00\x00\x00\x01"
        at += len(body) + (16 if wide else 8)
    return at
