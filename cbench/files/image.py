"""Pictures: PNG, PGM, PPM, WebP, and JPEG (read only), recognised by content whatever the suffix says.

| file | read as |
|---|---|
| PNG grey, grey + alpha, RGB, RGBA of 8 or 16 bits | C = 1, 2, 3, 4; uint8 or uint16 |
| PNG grey of 1, 2 or 4 bits | C = 1, uint8, scaled to 0..255 as PNG defines it (0 and 255 for 1 bit) |
| PNG palette | C = 3 (4 with transparency), uint8, the palette's colours |
| PNG with one colour marked transparent | one alpha channel more, 0 or the largest value |
| PGM, PPM | C = 1 or 3, uint8 or uint16 (see `netpbm`) |
| WebP | C = 3 or 4, uint8 |
| JPEG | C = 1 or 3, uint8: what the decoder gives |

Samples are taken as stored: no colour management, no gamma, no rotation by EXIF tags. Such tags (colour
profile, text, resolution) are not kept. Animations are refused, since one array cannot hold them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cbench.errors import UnsupportedInputError
from cbench.files import netpbm
from cbench.files.atomic import atomic_write
from cbench.files.base import ImageFile, check_array, planes, reading

SUFFIXES = (".png", ".ppm", ".pgm", ".webp", ".jpg", ".jpeg")
_PNG = b"\x89PNG\r\n\x1a\n"


def read(path: Path) -> ImageFile:
    """A picture as (C, H, W) integers; see the module's table.

    Raises:
        DataNotFoundError: no such file.
        UnsupportedInputError: damaged, animated, CMYK, or another kind of file.
    """
    with reading(path):
        data = path.read_bytes()
        if data.startswith(_PNG):
            return _read_png(data, path)
        if netpbm.MAGIC.match(data):
            return netpbm.decode(data, path)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_pillow(data, "jpeg", ("L", "RGB"), path)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_pillow(data, "webp", ("RGB", "RGBA"), path)
    raise UnsupportedInputError(f"{path} is not a PNG, PGM, PPM, WebP or JPEG picture")


def write(path: Path, array: np.ndarray, meta: Mapping[str, Any], force: bool = False) -> None:
    """Write a picture losslessly in the format its suffix names.

    Raises:
        UnsupportedInputError: the format cannot hold these samples exactly.
        CbenchError: the file exists and `force` is false.
    """
    array = check_array(array, path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        data = _encode_png(array, path)
    elif suffix in (".pgm", ".ppm"):
        if array.shape[0] != (1 if suffix == ".pgm" else 3):
            raise UnsupportedInputError(f"{path}: a {suffix} picture has not {array.shape[0]} channels")
        data = netpbm.encode(array, meta, path)
    elif suffix == ".webp":
        data = _encode_webp(array, path)
    else:
        raise UnsupportedInputError(f"{path}: JPEG would change the samples; write .png instead")
    with atomic_write(path, force) as temporary:
        temporary.write_bytes(data)


def _read_png(data: bytes, path: Path) -> ImageFile:
    # Pillow cuts 16-bit colour to 8 bits and lets truncated files pass, so PNG goes through libpng itself.
    import imagecodecs

    place = len(_PNG)
    while data[place + 4 : place + 8] not in (b"IDAT", b""):
        if data[place + 4 : place + 8] == b"acTL":
            raise UnsupportedInputError(f"{path} is an animation; only single pictures are read")
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return ImageFile(planes(imagecodecs.png_decode(data), path), {"format": "png"})


def _encode_png(array: np.ndarray, path: Path) -> bytes:
    import imagecodecs

    if array.shape[0] > 4 or array.dtype.name not in ("uint8", "uint16"):
        raise UnsupportedInputError(
            f"{path}: PNG holds 1-4 channels of uint8 or uint16, not {array.shape[0]} of {array.dtype.name}"
        )
    # A copy always: libpng is strict about the strides of axes of length 1, numpy is not.
    pixels = array.transpose(1, 2, 0).astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return bytes(imagecodecs.png_encode(pixels[:, :, 0] if array.shape[0] == 1 else pixels, level=6))


def _read_pillow(data: bytes, kind: str, modes: tuple[str, ...], path: Path) -> ImageFile:
    from PIL import Image

    with warnings.catch_warnings():
        # Large pictures are normal here, and the warning would reach the user's terminal.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=["WEBP" if kind == "webp" else "JPEG"]) as picture:
            # Cameras append previews to a JPEG (MPO): the first picture is the picture.
            if kind == "webp" and getattr(picture, "n_frames", 1) > 1:
                raise UnsupportedInputError(f"{path} is an animation; only single pictures are read")
            if picture.mode not in modes:
                raise UnsupportedInputError(f"{path}: {kind} pictures of colour mode {picture.mode} are not read")
            return ImageFile(planes(np.asarray(picture), path), {"format": kind})


def _encode_webp(array: np.ndarray, path: Path) -> bytes:
    from PIL import Image

    if array.dtype != np.uint8 or array.shape[0] not in (3, 4):
        raise UnsupportedInputError(
            f"{path}: WebP holds 3 or 4 channels of uint8, not {array.shape[0]} of {array.dtype.name}"
        )
    if max(array.shape[1:]) > 16383:
        raise UnsupportedInputError(f"{path}: WebP pictures have at most 16383 pixels a side; use .png")
    if array.shape[0] == 4 and (array[3] == 255).all():
        raise UnsupportedInputError(f"{path}: WebP drops an alpha channel that is opaque everywhere; use .png")
    buffer = io.BytesIO()
    pixels = array.transpose(1, 2, 0).copy(order="C")
    # exact: keep the colours of fully transparent pixels too.
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exact=True, method=4, quality=75)
    return buffer.getvalue()
