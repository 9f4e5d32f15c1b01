"""The header that containers and archives share: what a file says about itself, and how that is written."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from cbench.coding.environment import Environment
from cbench.coding.varint import Reader, varint
from cbench.errors import BitstreamError, ConfigError, DecodeMismatchError, UnsupportedInputError

DTYPES = ("", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
"""The position is the stored code; 0 is not a dtype."""
MAX_SAMPLES = 1 << 34
"""Shapes with more samples than this are taken for damage or malice."""
MAX_PARAMS = 255
_FINGERPRINT, _CHECK, _ENVIRONMENT = 0x10, 0x20, 0x40


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Raises:
        UnsupportedInputError: a shape or dtype that the container cannot hold.
        ConfigError: a codec name, format, fingerprint or parameters that do not fit their fields.
    """

    codec: str
    """Name under which `cbench.load_codec` finds the codec."""
    shape: tuple[int, int, int]
    """(C, H, W) of the array."""
    dtype: str
    """Of the array: one of `DTYPES`."""
    format: int = 1
    """Version of the codec's own byte format, 1..15; the bytes of a format never change their meaning."""
    fingerprint: bytes = b""
    """Four bytes that identify the weights (`cbench.zoo.fingerprint`), or none."""
    params: bytes = b""
    """At most 255 bytes that are the codec's own business."""
    check: int | None = None
    """`content_check` of the array that decoding gives, or the check of the symbols for a codec that keeps that."""
    environment: Environment | None = None
    """Where it was coded, for codecs whose arithmetic is not the same everywhere."""

    def __post_init__(self) -> None:
        """Check every field against its place in the layout."""
        if len(self.shape) != 3 or any(n < 1 for n in self.shape):
            raise UnsupportedInputError(f"arrays are (C, H, W) with at least one sample; this shape is {self.shape}")
        if math.prod(self.shape) > MAX_SAMPLES:
            raise UnsupportedInputError(f"an array of shape {self.shape} has more than {MAX_SAMPLES} samples")
        if self.dtype not in DTYPES[1:]:
            raise UnsupportedInputError(f"arrays of {self.dtype} are not integers; these are: {', '.join(DTYPES[1:])}")
        if not (self.codec.isascii() and self.codec.isprintable() and 1 <= len(self.codec) <= 127):
            raise ConfigError(f"a codec name is 1 to 127 printable ASCII characters, unlike {self.codec!r}")
        if not 1 <= self.format <= 15:
            raise ConfigError(f"format (={self.format}) of {self.codec} must lie in 1..15")
        if len(self.fingerprint) not in (0, 4):
            raise ConfigError(f"a fingerprint has 0 or 4 bytes, not {len(self.fingerprint)}")
        if len(self.params) > MAX_PARAMS:
            raise ConfigError(f"{self.codec} has {len(self.params)} bytes of parameters; {MAX_PARAMS} fit")
        if self.check is not None and not 0 <= self.check < 1 << 32:
            raise ConfigError(f"check (={self.check}) is not a 32-bit number")

    @property
    def samples(self) -> int:
        """C x H x W."""
        return math.prod(self.shape)

    @property
    def raw_bytes(self) -> int:
        """Size of the uncompressed array."""
        return self.samples * np.dtype(self.dtype).itemsize


def content_check(array: np.ndarray) -> int:
    """CRC-32 of an integer array in C order and little-endian, whatever its layout in memory."""
    return zlib.crc32(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data.cast("B"))


def verify_content(head: Header, array: np.ndarray, here: Environment | None = None, found: int | None = None) -> None:
    """Compare a decoded array, or what its codec checks instead, with the header.

    Args:
        head: the header of the file.
        array: (C, H, W) what came out.
        here: the environment that decoded it; None: this process, with the recorded number of threads.
        found: the check of what was decoded; None: the `content_check` of `array`.

    Raises:
        DecodeMismatchError: shape, dtype or check differ; names both environments where the file records one.
    """
    if array.shape != head.shape or array.dtype != np.dtype(head.dtype):
        raise DecodeMismatchError(
            f"{head.codec} decoded to {array.shape} {array.dtype}; the file holds {head.shape} {head.dtype}"
        )
    if head.check is None:
        return
    found = content_check(array) if found is None else found
    if found == head.check:
        return
    raise DecodeMismatchError(
        f"the file is intact but {head.codec} decoded it to something else than was encoded "
        f"(check {found:08x}, expected {head.check:08x}){both_environments(head.environment, here)}"
    )


def both_environments(then: Environment | None, here: Environment | None = None) -> str:
    """The end of a sentence on a mismatch: where a file was made and where it was decoded."""
    if then is None:
        return ""
    return f"; it was encoded with {then} and decoded with {here or Environment.here(then.threads)}"


def pack_common(head: Header, version: int, high: int) -> bytes:
    """The fields from the version to the dtype, which containers and archives have in common."""
    flags = (
        (_FINGERPRINT if head.fingerprint else 0)
        | (_CHECK if head.check is not None else 0)
        | (_ENVIRONMENT if head.environment is not None else 0)
    )
    name = head.codec.encode("ascii")
    return b"".join(
        (
            bytes([version | flags]),
            varint(len(name)) + name,
            bytes([head.format | high << 4]),
            head.fingerprint,
            bytes([DTYPES.index(head.dtype) | 3 << 4]),
        )
    )


def pack_tail(head: Header) -> bytes:
    """The fields after the shape: environment and parameters."""
    where = b"" if head.environment is None else head.environment.pack().to_bytes(2, "little")
    return where + varint(len(head.params)) + head.params


def open_checked(data: bytes, magic: bytes, kind: str, version: int) -> tuple[Reader, int]:
    """A reader behind the version byte, and that byte, once magic, version and CRC-32 are found right."""
    if bytes(data[:4]) != magic:
        raise BitstreamError(f"this is not a cbench {kind}: it does not begin with {magic!r}")
    if len(data) < 9:
        raise BitstreamError(f"the {kind} is cut off: {len(data)} bytes are no header")
    if data[4] & 0x0F > version:
        raise BitstreamError(f"the {kind} was made by a newer version of cbench (layout {data[4] & 0x0F})")
    if data[4] & 0x0F < 1:
        raise BitstreamError(f"the {kind} has no valid version number")
    end = len(data) - 4
    if zlib.crc32(memoryview(data)[:end]) != int.from_bytes(data[end:], "little"):
        raise BitstreamError(f"the {kind} is damaged or cut off: its CRC-32 does not match its content")
    return Reader(data, 5, end), data[4]


@dataclass(frozen=True)
class Common:
    """What `read_common` found."""

    flags: int
    codec: str
    format: int
    high: int
    """The four bits beside the format number."""
    fingerprint: bytes
    dtype: str

    @property
    def has_check(self) -> bool:
        """Whether decoded content can be checked."""
        return bool(self.flags & _CHECK)


def read_common(reader: Reader, flags: int) -> Common:
    """The fields from the codec name to the dtype; `flags` is the version byte."""
    try:
        codec = reader.take(reader.varint("codec name"), "codec name").decode("ascii")
    except UnicodeDecodeError:
        raise BitstreamError("the codec name is not ASCII") from None
    form = reader.uint(1, "format number")
    fingerprint = reader.take(4, "fingerprint") if flags & _FINGERPRINT else b""
    kind = reader.uint(1, "dtype")
    if not 1 <= kind & 0x0F < len(DTYPES) or kind >> 4 != 3:
        raise BitstreamError(f"the file announces an array of an unknown kind (0x{kind:02x})")
    return Common(flags, codec, form & 0x0F, form >> 4, fingerprint, DTYPES[kind & 0x0F])


def read_tail(reader: Reader, flags: int) -> tuple[Environment | None, bytes]:
    """Environment and parameters."""
    where = Environment.unpack(reader.uint(2, "environment")) if flags & _ENVIRONMENT else None
    size = reader.varint("parameters")
    if size > MAX_PARAMS:
        raise BitstreamError(f"the file announces {size} bytes of parameters; {MAX_PARAMS} are allowed")
    return where, reader.take(size, "parameters")


def read_size(reader: Reader, max_samples: int) -> int:
    """One dimension; at least 1 and never more than the samples allowed in total."""
    size = reader.varint("shape")
    if not 1 <= size <= max_samples:
        raise BitstreamError(f"the file announces a dimension of {size}; 1 to {max_samples} are accepted")
    return size


def check_samples(shape: tuple[int, ...], max_samples: int) -> None:
    """Raise `BitstreamError` for a shape with more samples than allowed; Python integers cannot overflow."""
    if math.prod(shape) > max_samples:
        raise BitstreamError(f"the file announces an array of shape {shape}: more than {max_samples} samples")


def build_header(
    common: Common,
    shape: tuple[int, int, int],
    check: int | None,
    environment: Environment | None,
    params: bytes,
) -> Header:
    """A `Header` of fields that were read; what it refuses is damage here, not bad input."""
    try:
        return Header(common.codec, shape, common.dtype, common.format, common.fingerprint, params, check, environment)
    except (ConfigError, UnsupportedInputError) as error:
        raise BitstreamError(f"the header makes no sense: {error}") from None


def describe_header(head: Header) -> dict[str, Any]:
    """The fields that containers and archives share."""
    return {
        "codec": head.codec,
        "format": head.format,
        "dtype": head.dtype,
        "fingerprint": head.fingerprint.hex() or None,
        "params": head.params.hex(),
        "environment": None if head.environment is None else str(head.environment),
    }


def describe_sizes(shape: tuple[int, int, int], raw: int, file: int, payload: int | None) -> dict[str, Any]:
    """Bytes, bits a sample, bits a pixel, and the ratio file / raw of one file that holds one array."""
    samples, pixels = math.prod(shape), shape[1] * shape[2]
    return {
        "raw_bytes": raw,
        "file_bytes": file,
        "payload_bytes": payload,
        "bpd": round(8 * file / samples, 6),
        "bpp": round(8 * file / pixels, 6),
        "ratio": round(file / raw, 6),
    }
