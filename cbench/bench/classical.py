"""Classical codecs as peers of the learned ones: builders for `cbench.load_codec` and for experiments.

Their bytes are the format's own file wherever the format can hold the array, so that rates are fair and
other programs can open the file. Any other number of channels is coded band by band, all files in one cbench
container.

    name             dtypes                 channels of one native file
    png              uint8, uint16, int16*  1, 2, 3, 4
    jpegls           uint8, uint16, int16*  1, 3, 4         near-lossless on request: 0..127 (8 bit), 0..255
    jpeg2000(-lossy) uint8, uint16, int16*  1, 2, 3, 4
    jpegxl(-lossy)   uint8, uint16, int16*  1, 2, 3, 4
    webp(-lossy)     uint8                  3, 4            at most 16383 x 16383; grey as R = G = B
    qoi              uint8                  3, 4            grey as R = G = B
    jpeg             uint8                  1, 3            lossy
    avif             uint8                  3, 4            lossy; grey as R = G = B
    zstd             every integer dtype    none: the raw planar bytes are always in a container

    * int16 is moved to the unsigned range; this and grey as colour are told by a container.

All else raises `UnsupportedInputError`. Of the native formats only PNG has checksums, so damage inside the
others may decode to a wrong picture; truncation is refused, and what is in a container is always checked.

Every builder has keywords of its own; an experiment binds them with `functools.partial(jpeg, quality=50)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from cbench.bench.formats import Avif, Jpeg, Jpeg2000, JpegLs, JpegXl, Png, Qoi, WebP, library
from cbench.bench.native import native_codec_of
from cbench.codec import Codec
from cbench.coding.container import Header, content_check, pack, unpack, verify_content
from cbench.errors import BitstreamError, ConfigError, UnsupportedInputError, WrongModelError

__all__ = [
    "avif",
    "jpeg",
    "jpeg2000",
    "jpeg2000_lossy",
    "jpegls",
    "jpegxl",
    "jpegxl_lossy",
    "native_codec_of",
    "png",
    "qoi",
    "webp",
    "webp_lossy",
    "zstd",
]


@final
@dataclass(frozen=True, kw_only=True)
class Zstd:
    """Zstandard on the raw planar bytes: what a compressor without a picture model reaches."""

    name: str = "zstd"
    max_error: int | None = 0
    level: int = 19

    def compress(self, array: np.ndarray) -> bytes:
        """A container around one zstd frame; raises `UnsupportedInputError` unless (C, H, W) integers."""
        array = np.asarray(array)
        if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "iu":
            raise UnsupportedInputError(f"zstd takes (C, H, W) integers, not {array.shape} {array.dtype}")
        channels, height, width = array.shape
        shape = (channels, height, width)
        head = Header(codec=self.name, shape=shape, dtype=array.dtype.name, check=content_check(array))
        raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return pack(head, bytes(library().zstd_encode(raw.tobytes(), self.level)))

    def decompress(self, data: bytes) -> np.ndarray:
        """The array (C, H, W); raises `BitstreamError` or `WrongModelError`."""
        head, sections = unpack(data)
        if head.codec != self.name:
            raise WrongModelError(f"this file was made by {head.codec}, not by {self.name}")
        try:
            raw = library().zstd_decode(sections[0], out=head.raw_bytes)
        except (RuntimeError, ValueError) as error:
            raise BitstreamError(f"the zstd data is damaged ({error})") from error
        if len(raw) != head.raw_bytes:
            raise BitstreamError(f"the zstd data holds {len(raw)} bytes, the header says {head.raw_bytes}")
        dtype = np.dtype(head.dtype)
        array = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(head.shape)
        verify_content(head, array)
        return array


def png(weights: Path | None = None, device: str = "cpu", threads: int = 1, *, level: int = 9) -> Codec:
    """PNG with deflate level 0..9."""
    return Png(name=_plain("png", weights), threads=threads, level=level)


def jpegls(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    max_error: int = 0,
    differences: bool = False,
) -> Codec:
    """JPEG-LS, lossless or with every error at most `max_error`; `differences`: of neighbouring bands."""
    codec = JpegLs(name=_plain("jpegls", weights), threads=threads, differences=differences)
    return codec.with_max_error(max_error)


def jpeg2000(weights: Path | None = None, device: str = "cpu", threads: int = 1, *, differences: bool = False) -> Codec:
    """JPEG 2000 lossless (5/3 wavelet, reversible colour transform)."""
    return Jpeg2000(name=_plain("jpeg2000", weights), threads=threads, differences=differences)


def jpegxl(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    effort: int = 7,
    differences: bool = False,
) -> Codec:
    """JPEG XL lossless with effort 1..10; `differences`: of neighbouring bands."""
    return JpegXl(name=_plain("jpegxl", weights), threads=threads, effort=effort, differences=differences)


def webp(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    quality: int = 75,
    method: int = 4,
) -> Codec:
    """WebP lossless; `quality` 0..100 and `method` 0..6 are both efforts."""
    return WebP(name=_plain("webp", weights), threads=threads, quality=quality, method=method)


def qoi(weights: Path | None = None, device: str = "cpu", threads: int = 1) -> Codec:
    """QOI."""
    return Qoi(name=_plain("qoi", weights), threads=threads)


def zstd(weights: Path | None = None, device: str = "cpu", threads: int = 1, *, level: int = 19) -> Codec:
    """Zstandard, level 1..22, on the raw bytes."""
    return Zstd(name=_plain("zstd", weights), level=level)


def jpeg(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    quality: int = 75,
    subsampling: str = "420",
) -> Codec:
    """JPEG with quality 1..100 and chroma subsampling "420", "422" or "444"."""
    name = _plain("jpeg", weights)
    return Jpeg(name=name, max_error=None, threads=threads, quality=quality, subsampling=subsampling)


def webp_lossy(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    quality: int = 75,
    method: int = 6,
) -> Codec:
    """WebP lossy with quality 0..100."""
    name = _plain("webp-lossy", weights)
    return WebP(name=name, max_error=None, threads=threads, quality=quality, method=method, lossless=False)


def avif(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    quality: int = 60,
    speed: int = 6,
    subsampling: str = "444",
) -> Codec:
    """AVIF with quality 0..99 and speed 0 (small) .. 10 (fast)."""
    name = _plain("avif", weights)
    return Avif(name=name, max_error=None, threads=threads, quality=quality, speed=speed, subsampling=subsampling)


def jpegxl_lossy(
    weights: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    *,
    distance: float = 1.0,
    effort: int = 7,
) -> Codec:
    """JPEG XL lossy; `distance` 1 is called visually lossless, 15 is coarse."""
    name = _plain("jpegxl-lossy", weights)
    return JpegXl(name=name, max_error=None, threads=threads, effort=effort, distance=distance)


def jpeg2000_lossy(weights: Path | None = None, device: str = "cpu", threads: int = 1, *, psnr: float = 38.0) -> Codec:
    """JPEG 2000 lossy (9/7 wavelet) towards a PSNR in dB."""
    return Jpeg2000(name=_plain("jpeg2000-lossy", weights), max_error=None, threads=threads, psnr=psnr)


def _plain(name: str, weights: Path | None) -> str:
    """The name, once it is clear that nobody gave weights to a codec that has none."""
    if weights is not None:
        raise ConfigError(f"{name} is a classical codec and takes no weights ({weights.name})")
    return name
