"""One class for each picture format that imagecodecs writes and reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import ClassVar, final

import numpy as np

from cbench.bench.classical_base import Channels, ClassicalCodec
from cbench.errors import ConfigError

_DEEP: Channels = {"uint8": (1, 2, 3, 4), "uint16": (1, 2, 3, 4)}
_DEEP_BANDS = ("uint8", "uint16", "int16")
_COLOUR: Channels = {"uint8": (3, 4)}


def library() -> ModuleType:
    """Imagecodecs, which loads each format's library when it is first used."""
    import imagecodecs

    return imagecodecs


@final
@dataclass(frozen=True, kw_only=True)
class Png(ClassicalCodec):
    """PNG: filters and deflate; the only native format here with checksums."""

    level: int = 9

    family, native, banded = "png", _DEEP, _DEEP_BANDS

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W) or (H, W, C)."""
        return library().png_encode(picture, level=self.level)

    def read(self, data: bytes) -> np.ndarray:
        """(H, W) or (H, W, C) from one file."""
        return library().png_decode(data)


@final
@dataclass(frozen=True, kw_only=True)
class JpegLs(ClassicalCodec):
    """JPEG-LS (no colour transform), lossless or with a bound on the error."""

    family, banded = "jpegls", _DEEP_BANDS
    native: ClassVar[Channels] = {"uint8": (1, 3, 4), "uint16": (1, 3, 4)}
    longest = 65535

    def with_max_error(self, delta: int) -> JpegLs:
        """The same codec with |x - x'| <= `delta` everywhere.

        Raises:
            ConfigError: the format allows 0..255.
        """
        if not 0 <= delta <= 255:
            raise ConfigError(f"the error bound of jpegls (={delta}) must lie in 0..255")
        if self.differences and delta:
            raise ConfigError("jpegls with band differences is lossless only: errors would add up over the bands")
        return replace(self, max_error=delta)

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W) or (H, W, C)."""
        if picture.dtype == np.uint8 and (self.max_error or 0) > 127:
            raise ValueError("8-bit samples allow an error bound of at most 127")
        # Noise can grow to well above its raw size, and the library does not enlarge its buffer.
        room = bytearray(2 * picture.nbytes + 4096)
        return library().jpegls_encode(picture, level=self.max_error, out=room)

    def read(self, data: bytes) -> np.ndarray:
        """(H, W) or (H, W, C) from one file."""
        return library().jpegls_decode(data)


@final
@dataclass(frozen=True, kw_only=True)
class Jpeg2000(ClassicalCodec):
    """JPEG 2000 codestreams: 5/3 wavelet and reversible colour transform, or 9/7 towards a PSNR."""

    psnr: float | None = None
    """Target in dB of the lossy kind; None: lossless."""

    family, native, banded = "jpeg2000", _DEEP, _DEEP_BANDS

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W) or (H, W, C)."""
        return library().jpeg2k_encode(
            picture,
            level=self.psnr or 0,
            codecformat="j2k",
            reversible=self.psnr is None,
            numthreads=self.threads,
        )

    def read(self, data: bytes) -> np.ndarray:
        """(H, W) or (H, W, C) from one file."""
        return library().jpeg2k_decode(data, numthreads=self.threads)


@final
@dataclass(frozen=True, kw_only=True)
class JpegXl(ClassicalCodec):
    """JPEG XL, a bare codestream where that is allowed: lossless, or lossy at a Butteraugli distance."""

    effort: int = 7
    distance: float | None = None
    """Of the lossy kind, 1 is called visually lossless; None: lossless."""

    family, native, banded = "jpegxl", _DEEP, _DEEP_BANDS

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W) or (H, W, C)."""
        return library().jpegxl_encode(
            picture,
            effort=self.effort,
            lossless=self.distance is None,
            distance=self.distance,
            usecontainer=False,
            numthreads=self.threads,
        )

    def read(self, data: bytes) -> np.ndarray:
        """(H, W) or (H, W, C) from one file."""
        return library().jpegxl_decode(data, numthreads=self.threads)


@final
@dataclass(frozen=True, kw_only=True)
class WebP(ClassicalCodec):
    """WebP lossless (colours under transparent pixels are kept) or lossy."""

    quality: int = 75
    """0..100: of the lossless kind the effort."""
    method: int = 4
    """0 (fast) .. 6 (small)."""
    lossless: bool = True

    family, native = "webp", _COLOUR
    banded = ("uint8",)
    longest = 16383

    def _loses_alpha(self, array: np.ndarray) -> bool:
        return len(array) == 4 and bool((array[3] == 255).all())

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W, C)."""
        return library().webp_encode(
            picture, level=self.quality, lossless=self.lossless, method=self.method, numthreads=self.threads
        )

    def read(self, data: bytes) -> np.ndarray:
        """(H, W, C) from one file."""
        return library().webp_decode(data)


@final
@dataclass(frozen=True, kw_only=True)
class Qoi(ClassicalCodec):
    """QOI, the quite OK image format: very fast, no entropy coder."""

    family, native = "qoi", _COLOUR
    banded = ("uint8",)

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W, C)."""
        return library().qoi_encode(picture)

    def read(self, data: bytes) -> np.ndarray:
        """(H, W, C) from one file."""
        return library().qoi_decode(data)


@final
@dataclass(frozen=True, kw_only=True)
class Jpeg(ClassicalCodec):
    """Baseline JPEG with optimised Huffman tables."""

    quality: int = 75
    subsampling: str = "420"

    family = "jpeg"
    native: ClassVar[Channels] = {"uint8": (1, 3)}
    banded = ("uint8",)
    longest = 65535

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W) or (H, W, C)."""
        return library().jpeg8_encode(picture, level=self.quality, subsampling=self.subsampling, optimize=True)

    def read(self, data: bytes) -> np.ndarray:
        """(H, W) or (H, W, C) from one file."""
        return library().jpeg8_decode(data)


@final
@dataclass(frozen=True, kw_only=True)
class Avif(ClassicalCodec):
    """AVIF through libaom, 8 bit; grey goes as R = G = B, for the library codes true grey without loss."""

    quality: int = 60
    speed: int = 6
    """0 (small) .. 10 (fast)."""
    subsampling: str = "444"

    family, native = "avif", _COLOUR
    banded = ("uint8",)
    longest = 65535

    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W, C)."""
        return library().avif_encode(
            picture,
            level=self.quality,
            speed=self.speed,
            pixelformat=self.subsampling,
            numthreads=self.threads,
        )

    def read(self, data: bytes) -> np.ndarray:
        """(H, W, C) from one file."""
        return library().avif_decode(data, numthreads=self.threads)
