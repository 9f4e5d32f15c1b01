"""Every codec by name, and the functions that need no more than a name.

`BUILDERS` is the only table that a new codec is added to. Its values are "module:function" strings,
imported when the codec is first asked for; the function is `build(weights: Path | None, device: str,
threads: int) -> Codec`.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from cbench.codec import ArchiveCodec, Codec
from cbench.coding.archive import is_archive, unpack_archive
from cbench.coding.container import MAX_SAMPLES, is_container, read_header
from cbench.coding.envelope import unwrap
from cbench.errors import (
    BitstreamError,
    ConfigError,
    DataNotFoundError,
    UnsupportedInputError,
    WrongModelError,
)
from cbench.zoo.weights import Weights, fingerprint, load_weights, save_weights, shipped

__all__ = [
    "ABOUT",
    "BUILDERS",
    "Weights",
    "codec_of",
    "compress",
    "decompress",
    "decompress_many",
    "default_codec",
    "fingerprint",
    "list_codecs",
    "load_codec",
    "load_weights",
    "save_weights",
    "shipped",
]

BUILDERS: dict[str, str] = {
    "png": "cbench.bench.classical:png",
    "webp": "cbench.bench.classical:webp",
    "jpegls": "cbench.bench.classical:jpegls",
    "jpeg2000": "cbench.bench.classical:jpeg2000",
    "jpegxl": "cbench.bench.classical:jpegxl",
    "qoi": "cbench.bench.classical:qoi",
    "zstd": "cbench.bench.classical:zstd",
    "jpeg": "cbench.bench.classical:jpeg",
    "webp-lossy": "cbench.bench.classical:webp_lossy",
    "avif": "cbench.bench.classical:avif",
    "jpegxl-lossy": "cbench.bench.classical:jpegxl_lossy",
    "jpeg2000-lossy": "cbench.bench.classical:jpeg2000_lossy",
    "ccsds123": "cbench.models.ccsds123.codec:ccsds123",
    "ccsds123.hybrid": "cbench.models.ccsds123.codec:hybrid",
    "ccsds123.best": "cbench.models.ccsds123.codec:best",
    "linerwkv.xs": "cbench.models.linerwkv.codec:xs",
    "linerwkv.s": "cbench.models.linerwkv.codec:s",
    "linerwkv.m": "cbench.models.linerwkv.codec:m",
    "linerwkv.l": "cbench.models.linerwkv.codec:l",
    "linerwkv.xs-int8": "cbench.models.linerwkv.codec:xs_integers",
    "linerwkv.s-int8": "cbench.models.linerwkv.codec:s_integers",
    "linerwkv.m-int8": "cbench.models.linerwkv.codec:m_integers",
    "linerwkv.l-int8": "cbench.models.linerwkv.codec:l_integers",
    "linerwkv.xs-ccsds": "cbench.models.linerwkv.codec:xs_pipeline",
    "linerwkv.s-ccsds": "cbench.models.linerwkv.codec:s_pipeline",
    "linerwkv.m-ccsds": "cbench.models.linerwkv.codec:m_pipeline",
    "linerwkv.l-ccsds": "cbench.models.linerwkv.codec:l_pipeline",
    "fsar.cifar10": "cbench.models.fsar.codec:cifar10",
    "fsar.ar": "cbench.models.fsar.codec:ar",
    "fsar.dsar": "cbench.models.fsar.dsar:build",
    "arib_bps.cifar10": "cbench.models.arib_bps.codec:cifar10",
    "arib_bps.pyramid": "cbench.models.arib_bps.pyramid_codec:pyramid",
    "basic.photos-1": "cbench.models.basic.codec:photos_1",
    "basic.photos-3": "cbench.models.basic.codec:photos_3",
    "tbtc.conv-xs-1": "cbench.models.tbtc.codec:conv_xs_1",
    "tbtc.conv-xs-2": "cbench.models.tbtc.codec:conv_xs_2",
    "tbtc.conv-xs-3": "cbench.models.tbtc.codec:conv_xs_3",
    "tbtc.swin-xs-1": "cbench.models.tbtc.codec:swin_xs_1",
    "rls.fast": "cbench.models.rls.codec:fast",
    "rls.e5": "cbench.models.rls.codec:e5",
    "rls.slow": "cbench.models.rls.codec:slow",
}

ABOUT: dict[str, str] = {
    "png": "PNG; 8 and 16 bit, 1 to 4 channels, cubes band by band",
    "webp": "WebP lossless; 8 bit",
    "jpegls": "JPEG-LS, lossless or near-lossless (--delta); 8 and 16 bit, cubes band by band",
    "jpeg2000": "JPEG 2000 lossless; 8 and 16 bit, cubes band by band",
    "jpegxl": "JPEG XL lossless; 8 and 16 bit, cubes band by band",
    "qoi": "QOI, fast and simple; 8 bit",
    "zstd": "Zstandard on the raw samples; any integers",
    "jpeg": "lossy JPEG, quality 75; 8 bit, grey and RGB",
    "webp-lossy": "lossy WebP, quality 75; 8 bit",
    "avif": "lossy AVIF, quality 60; 8 bit",
    "jpegxl-lossy": "lossy JPEG XL, distance 1; 8 and 16 bit",
    "jpeg2000-lossy": "lossy JPEG 2000, towards 38 dB; 8 and 16 bit",
    "ccsds123": "CCSDS-123.0-B-2 with its sample-adaptive coder, lossless or near-lossless (--delta); cubes",
    "ccsds123.hybrid": "the same with its hybrid coder: smaller below 4 bits a sample, much smaller with large errors",
    "ccsds123.best": "the smallest of both coders with 3 and 15 previous bands",
    "linerwkv.xs": "rls.e5 with LineRWKV XS beside it, lossless or near-lossless (--delta); cubes",
    "linerwkv.s": "the same with LineRWKV S; published weights (--weights): up to 0.4 % smaller than rls.e5",
    "linerwkv.m": "the same with LineRWKV M, needs --weights",
    "linerwkv.l": "the same with LineRWKV L: up to 1 % smaller than rls.e5, 20 times the time; needs --weights",
    "linerwkv.xs-int8": "linerwkv.xs with 8-bit weights: the same rate, less time",
    "linerwkv.s-int8": "the same with LineRWKV S",
    "linerwkv.m-int8": "the same with LineRWKV M, needs --weights",
    "linerwkv.l-int8": "the same with LineRWKV L, two thirds of the time; needs --weights",
    "linerwkv.xs-ccsds": "LineRWKV XS as published: rounded predictions and the coder of CCSDS-123",
    "linerwkv.s-ccsds": "the same with LineRWKV S",
    "linerwkv.m-ccsds": "the same with LineRWKV M, needs --weights",
    "linerwkv.l-ccsds": "the same with LineRWKV L, needs --weights",
    "fsar.cifar10": "FSAR baseline V2DVQ-c2, lossless, trained on CIFAR-10; 8 bit, grey and RGB",
    "fsar.ar": "FSAR with order-2 prior and causal pixel network, lossless, trained on CIFAR-10; 8 bit, grey and RGB",
    "fsar.dsar": "FSAR on the pixels themselves, lossless, table look-ups only; needs --weights; 8 bit, grey and RGB",
    "arib_bps.cifar10": "ArIB-BPS, bit planes and bits-back latents, lossless, trained on CIFAR-10; 8 bit",
    "arib_bps.pyramid": "pyramid of mixtures, lossless, trained on small pictures and photographs; 8 bit, grey and RGB",
    "basic.photos-1": "BaSIC, lossy at a chosen --complexity, for low rates, trained on photographs; 8 bit",
    "basic.photos-3": "the same for middle rates",
    "tbtc.conv-xs-1": "TBTC Conv-Hyperprior, smallest size, lossy at a low rate; 8 bit, grey and RGB",
    "tbtc.conv-xs-2": "TBTC Conv-Hyperprior, smallest size, lossy at a middle rate; 8 bit, grey and RGB",
    "tbtc.conv-xs-3": "TBTC Conv-Hyperprior, smallest size, lossy at a high rate; 8 bit, grey and RGB",
    "tbtc.swin-xs-1": "TBTC SwinT-ChARM, smallest size, lossy at a low rate; 8 bit, grey and RGB",
    "rls.fast": "two adaptive experts, lossless or near-lossless (--delta); 8 and 16 bit cubes, exact on any machine",
    "rls.e5": "the same with five experts: 0.2 to 0.6 % smaller, two thirds of the speed",
    "rls.slow": "the same with six experts: 0.3 to 0.9 % smaller, 0.4 of the speed",
}
"""One line on each codec, for `cbench list`."""

SNIFFER = "cbench.bench.classical:native_codec_of"
"""Recognises other programs' formats: `sniff(data) -> codec name or None`."""


def list_codecs() -> list[str]:
    """Names of all codecs, in the order of `BUILDERS`."""
    return list(BUILDERS)


def load_codec(name: str, weights: Path | str | None = None, device: str = "cpu", threads: int = 1) -> Codec:
    """The codec called `name`; asking again with the same arguments gives the same object.

    Args:
        name: one of `list_codecs()`.
        weights: weights file, ours or an original checkpoint; None: those that come with the package.
        device: "cpu", "cuda", ...; classical codecs always run on the CPU.
        threads: threads that coding may use, at least 1.

    Raises:
        ConfigError: no such codec, or it needs a package that is not installed.
        DataNotFoundError: the weights file does not exist.
    """
    if name not in BUILDERS:
        raise ConfigError(f"there is no codec {name!r}{_suggestion(name)}")
    if threads < 1:
        raise ConfigError(f"threads (={threads}) must be at least 1")
    if weights is None:
        return _build(name, None, None, device, threads)
    path = Path(weights).expanduser().resolve()
    if not path.is_file():
        raise DataNotFoundError(f"there is no weights file {weights}")
    state = path.stat()
    return _build(name, path, (state.st_mtime_ns, state.st_size), device, threads)


def default_codec(array: np.ndarray) -> str:
    """Name of the codec for someone who does not choose: the best lossless one we have that anyone can
    decode.

    Pictures (1, 3 or 4 channels of uint8 or uint16): "jpegxl". Cubes of 16 bits: "rls.fast"; of 8 bits:
    "jpegls", band by band. All else: "zstd". Learned codecs take the place of pictures' once they are smaller
    on pictures of every kind.
    """
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.dtype in (np.uint8, np.uint16):
        return "jpegxl"
    if array.ndim == 3 and array.shape[0] > 1 and array.dtype in (np.uint16, np.int16):
        return "rls.fast"
    return "jpegls" if array.dtype in (np.uint8, np.uint16, np.int16) else "zstd"


def compress(
    array: np.ndarray,
    codec: str | None = None,
    *,
    weights: Path | str | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> bytes:
    """Code an integer array (C, H, W) as one self-contained byte string.

    Args:
        array: (C, H, W), an integer dtype that the codec takes.
        codec: one of `list_codecs()`; None: `default_codec(array)`.
        weights: as for `load_codec`.
        device: as for `load_codec`.
        threads: as for `load_codec`.

    Raises:
        UnsupportedInputError: the codec does not take this shape or dtype.
    """
    array = np.asarray(array)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "iu":
        raise UnsupportedInputError(
            f"arrays are (C, H, W) integers with at least one sample, not {array.shape} {array.dtype}"
        )
    return load_codec(codec or default_codec(array), weights, device, threads).compress(array)


def decompress(
    data: bytes,
    *,
    weights: Path | str | None = None,
    device: str = "cpu",
    threads: int = 1,
    max_samples: int = MAX_SAMPLES,
) -> np.ndarray:
    """The array (C, H, W) in a file that `compress`, the shell, or another program made (PNG, JPEG XL, ...).

    Args:
        data: the whole file.
        weights: as for `load_codec`, for files that were made with other weights than the package's.
        device: as for `load_codec`.
        threads: as for `load_codec`.
        max_samples: refuse containers that announce more samples.

    Raises:
        BitstreamError: damaged, truncated, or of an unknown kind.
        WrongModelError: made by a codec that is not there, or with other weights.
        DecodeMismatchError: intact, but it decoded to something else than was encoded.
    """
    coded, _ = unwrap(data)
    if is_archive(coded):
        raise BitstreamError("this is an archive of many arrays: use cbench.zoo.decompress_many")
    if is_container(coded):
        read_header(coded, max_samples)
    return _decode(load_codec_of(codec_of(coded), weights, device, threads), coded)


def decompress_many(
    data: bytes, *, weights: Path | str | None = None, device: str = "cpu", threads: int = 1
) -> list[np.ndarray]:
    """Every array of an archive, in order; arguments and errors as for `decompress`."""
    name = unpack_archive(data).head.codec
    codec = load_codec_of(name, weights, device, threads)
    if not isinstance(codec, ArchiveCodec):
        raise UnsupportedInputError(f"codec {name} has no archives")
    return codec.decompress_many(data)


def codec_of(coded: bytes) -> str:
    """Name of the codec that made `coded` (no envelope around it), whether it is installed here or not.

    Raises:
        BitstreamError: nothing that we know.
    """
    if is_container(coded):
        return read_header(coded).codec
    if is_archive(coded):
        return unpack_archive(coded).head.codec
    name = _import(SNIFFER)(coded)
    if name is None:
        raise BitstreamError("this is neither a cbench file nor a picture format that cbench knows")
    return name


def load_codec_of(name: str, weights: Path | str | None, device: str, threads: int) -> Codec:
    """`load_codec` for a name that a file gave: not knowing it is the file's `WrongModelError`."""
    if name not in BUILDERS:
        raise WrongModelError(f"the file was made by the codec {name!r}, which this version of cbench does not have")
    return load_codec(name, weights, device, threads)


def _decode(codec: Codec, coded: bytes) -> np.ndarray:
    try:
        return codec.decompress(coded)
    except MemoryError:
        raise UnsupportedInputError("the array in this file is larger than the memory of this machine") from None


@lru_cache(maxsize=32)
def _build(name: str, weights: Path | None, stamp: tuple[int, int] | None, device: str, threads: int) -> Codec:
    """Build a codec once; `stamp` makes a rewritten weights file a new one."""
    try:
        build = _import(BUILDERS[name])
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "cbench":
            raise
        raise ConfigError(f"codec {name} needs the package {missing}: pip install {missing}") from None
    return build(weights, device, threads)


def _import(place: str) -> Any:
    module, function = place.split(":")
    return getattr(import_module(module), function)


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, BUILDERS, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(BUILDERS)}"
