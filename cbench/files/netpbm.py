"""PGM and PPM (Netpbm P2, P3, P5, P6): grey or RGB, any maximum value up to 65535, samples exactly as stored.

Samples are not scaled to the full range of 8 or 16 bits; `meta` keeps the maximum value for writing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cbench.errors import UnsupportedInputError
from cbench.files.base import ImageFile

MAGIC = re.compile(rb"P[2356][\s#]")
_CHANNELS = {b"P2": 1, b"P5": 1, b"P3": 3, b"P6": 3}
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d{1,10})")


def decode(data: bytes, path: Path) -> ImageFile:
    """One picture as (1 or 3, H, W) uint8 (maximum value up to 255) or uint16."""
    kind, place, numbers = data[:2], 2, []
    for _ in range(3):
        token = _TOKEN.match(data, place)
        if token is None:
            raise UnsupportedInputError(f"{path}: the PNM header is damaged")
        numbers.append(int(token[1]))
        place = token.end()
    width, height, maximum = numbers
    if not (width and height and 0 < maximum < 65536 and data[place : place + 1].isspace()):
        raise UnsupportedInputError(f"{path}: the PNM header is damaged")
    count = width * height * _CHANNELS[kind]
    body = data[place + 1 :]
    samples = _plain(body, count, path) if kind in (b"P2", b"P3") else _binary(body, count, maximum, path)
    if samples.max() > maximum:
        raise UnsupportedInputError(f"{path}: a sample is larger than the maximum value {maximum} of the header")
    samples = samples.astype(np.uint8 if maximum < 256 else np.uint16)
    array = samples.reshape(height, width, -1).transpose(2, 0, 1)
    return ImageFile(np.ascontiguousarray(array), {"format": "pnm", "maximum": maximum})


def _binary(body: bytes, count: int, maximum: int, path: Path) -> np.ndarray:
    kind = np.dtype(np.uint8 if maximum < 256 else ">u2")
    size = count * kind.itemsize
    if len(body) < size:
        raise UnsupportedInputError(f"{path} is truncated: {len(body)} of {size} bytes of samples")
    if body[size:].strip():
        raise UnsupportedInputError(f"{path} goes on after the picture; PNM files of several pictures are not read")
    return np.frombuffer(body, kind, count)


def _plain(body: bytes, count: int, path: Path) -> np.ndarray:
    samples = np.array(re.sub(rb"#[^\r\n]*", b"", body).split()).astype(np.int64)
    if samples.size != count or samples.min() < 0:
        raise UnsupportedInputError(f"{path} holds {samples.size} samples instead of {count}")
    return samples


def encode(array: np.ndarray, meta: Mapping[str, Any], path: Path) -> bytes:
    """Binary PGM (C = 1) or PPM (C = 3) of uint8 or uint16 samples."""
    if array.shape[0] not in (1, 3) or array.dtype.name not in ("uint8", "uint16"):
        raise UnsupportedInputError(
            f"{path}: PNM has 1 or 3 channels of uint8 or uint16, not {array.shape[0]} of {array.dtype.name}"
        )
    limit = int(np.iinfo(array.dtype).max)
    maximum = meta.get("maximum") if meta.get("format") == "pnm" else None
    # A maximum that does not suit the array (a lossy codec overshot, other bit depth) would change samples.
    if not isinstance(maximum, int) or not int(array.max()) <= maximum <= limit or (maximum < 256) != (limit < 256):
        maximum = limit
    header = f"{'P5' if array.shape[0] == 1 else 'P6'}\n{array.shape[2]} {array.shape[1]}\n{maximum}\n"
    return header.encode() + array.transpose(1, 2, 0).astype(">u2" if maximum > 255 else "u1").tobytes()
