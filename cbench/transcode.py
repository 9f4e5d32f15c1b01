"""Whole files in, whole files out: what the shell does to one file, usable from Python as well.

A `.cb` file is an envelope (`cbench.coding.envelope`) around the codec's bytes, with this record:

    "file"       metadata of the source file as `cbench.files` knows it: format, ENVI header, interleave, ...
    "max_error"  only when it is not 0: the bound that the encoder checked, or null for a lossy codec

A target with any other suffix gets the codec's bytes alone, so `--codec png -o copy.png` makes a PNG.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cbench import files, zoo
from cbench.codec import Adjustable, Codec, NearLossless, Scalable
from cbench.coding.archive import describe_archive, is_archive
from cbench.coding.container import describe, is_container
from cbench.coding.envelope import unwrap, wrap
from cbench.coding.header import describe_sizes
from cbench.errors import (
    BitstreamError,
    ConfigError,
    DataNotFoundError,
    DecodeMismatchError,
    UnsupportedInputError,
)
from cbench.files.atomic import atomic_write, check_free
from cbench.zoo.target import Target, family, meet

SUFFIX = ".cb"
NATIVE = {
    ".png": "png",
    ".webp": "webp",
    ".jls": "jpegls",
    ".j2k": "jpeg2000",
    ".jxl": "jpegxl",
    ".qoi": "qoi",
    ".jpg": "jpeg",
    ".avif": "avif",
}
"""Suffixes of other programs' formats that a codec's bytes may be written under."""


@dataclass(frozen=True)
class Settings:
    """What the shell's options say about coding."""

    codec: str | None = None
    """None: `cbench.zoo.default_codec`."""
    weights: Path | None = None
    delta: int = 0
    """Largest error of a sample that is allowed; 0: none."""
    threads: int = 1
    force: bool = False
    """Overwrite."""
    complexity: int | None = None
    """Level of a `Scalable` codec, 0 the most complex; at most one of the three is set."""
    max_kmac: float | None = None
    """Thousands of multiply-adds a pixel that encoder and decoder may take together."""
    max_ms: float | None = None
    """Milliseconds that they may take on this machine, as predicted."""
    quality: int | None = None
    """Of an `Adjustable` codec; at most one of the last three is set."""
    bpp: float | None = None
    """Look for the best picture within so many bits a pixel, among all weights of a family and all qualities."""
    psnr: float | None = None
    """Look for the smallest file with so many dB."""


@dataclass(frozen=True)
class Compressed:
    """What became of one file."""

    target: Path
    codec: str
    raw_bytes: int
    file_bytes: int
    samples: int
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class Difference:
    """How a decoded array differs from the original."""

    max_error: int
    psnr: float
    """dB, for the full range of the dtype; infinite when nothing differs."""


def compress_file(source: Path, target: Path, settings: Settings) -> Compressed:
    """Code one file; the target appears only after its content was decoded again and compared.

    Raises:
        CbenchError: any of its children; nothing is written then.
    """
    check_free(target, settings.force)
    picture = files.read(source)
    record = {"file": dict(picture.meta)}
    envelope = len(wrap(b"", {**record, "max_error": None})) if target.suffix.lower() == SUFFIX else 0
    codec = _codec_for(picture.array, settings, envelope)
    _check_suffix(target, codec.name)
    start = time.perf_counter()
    coded = codec.compress(picture.array)
    middle = time.perf_counter()
    decoded = codec.decompress(coded)
    end = time.perf_counter()
    within_bound(codec.name, codec.max_error, difference(picture.array, decoded))
    data = coded
    if target.suffix.lower() == SUFFIX:
        bound = {} if codec.max_error == 0 else {"max_error": codec.max_error}
        data = wrap(coded, {**record, **bound})
    with atomic_write(target, settings.force) as temporary:
        temporary.write_bytes(data)
    array = picture.array
    return Compressed(target, codec.name, array.nbytes, len(data), array.size, middle - start, end - middle)


def decompress_file(source: Path, folder: Path, name: str | None, settings: Settings) -> Path:
    """Decode one file to the format it was made from, or to the one that the name's suffix asks for.

    Args:
        source: a file made by this package, or a picture that one of its codecs writes.
        folder: where to write.
        name: file to write there; None: the source's name with the suffix of the original format. An archive
            becomes a folder of that name.
        settings: weights, threads and force; the file itself says which codec made it.

    Returns:
        What was written.
    """
    coded, record = unwrap(read_bytes(source))
    if is_archive(coded):
        return _write_archive(coded, folder / (name or source.stem), settings)
    array = zoo.decompress(coded, weights=settings.weights, threads=settings.threads)
    try:
        meta = record.get("file", {})
        target = folder / (name or _restored(source.stem, files.restored_suffix(meta, array)))
        files.write(target, array, meta, force=settings.force)
    except (LookupError, TypeError, AttributeError) as error:
        # Readers made the record, so writers trust its structure; a forged one gets this far.
        raise BitstreamError(f"what {source} says about its source file makes no sense: {error!r}") from error
    return target


def verify_files(original: Path, coded_file: Path, settings: Settings) -> tuple[Difference, int | None]:
    """Decode a file and compare it with the original.

    Returns:
        How they differ, and the largest error that the file promises (None: lossy, no promise).

    Raises:
        DecodeMismatchError: shape or dtype differ, or a sample by more than the file promises.
    """
    coded, record = unwrap(read_bytes(coded_file))
    array = files.read(original).array
    name = zoo.codec_of(coded)
    decoded = zoo.decompress(coded, weights=settings.weights, threads=settings.threads)
    if "file" in record:
        bound = record.get("max_error", 0)
    else:
        bound = zoo.load_codec(name, settings.weights, threads=settings.threads).max_error
    found = difference(array, decoded)
    within_bound(name, bound, found)
    return found, bound


def inspect(data: bytes) -> dict[str, Any]:
    """What a file says about itself, as plain values; other programs' formats are decoded for it.

    Raises:
        BitstreamError: damaged, or nothing that we know.
    """
    coded, record = unwrap(data)
    if is_archive(coded):
        return describe_archive(coded)
    if is_container(coded):
        found = describe(coded)
        shape, raw, payload = tuple(found["shape"]), found["raw_bytes"], found["payload_bytes"]
    else:
        array = zoo.decompress(coded)
        shape, raw, payload = array.shape, array.nbytes, len(coded)
        found = {"kind": "picture", "codec": zoo.codec_of(coded), "dtype": array.dtype.name}
        found["shape"] = list(shape)
    found |= describe_sizes(shape, raw, len(data), payload)
    if record:
        found["source"] = record.get("file")
        found["bound"] = record.get("max_error", 0)
    return found


def difference(original: np.ndarray, decoded: np.ndarray) -> Difference:
    """Compare two arrays band by band, which bounds the memory for cubes.

    Raises:
        DecodeMismatchError: their shapes or dtypes differ.
    """
    if original.shape != decoded.shape or original.dtype != decoded.dtype:
        raise DecodeMismatchError(
            f"decoded to {decoded.shape} {decoded.dtype}; the original is {original.shape} {original.dtype}"
        )
    largest, squares = 0, 0.0
    for ours, theirs in zip(original, decoded, strict=True):
        if not np.array_equal(ours, theirs):
            error = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
            largest = max(largest, int(error.max()))
            squares += float(np.square(error.astype(np.float64)).sum())
    limits = np.iinfo(original.dtype)
    peak = float(limits.max) - float(limits.min)
    psnr = float("inf") if largest == 0 else 10 * np.log10(peak**2 * original.size / squares)
    return Difference(largest, float(psnr))


def within_bound(codec: str, bound: int | None, found: Difference) -> None:
    """Raise `DecodeMismatchError` when a lossless or near-lossless result is off by more than its bound."""
    if bound is not None and found.max_error > bound:
        raise DecodeMismatchError(
            f"{codec} decodes to a different array: max error {found.max_error}, promised at most {bound}"
        )


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises `DataNotFoundError` when there is none."""
    if not path.is_file():
        raise DataNotFoundError(f"there is no file {path}")
    return path.read_bytes()


def _codec_for(array: np.ndarray, settings: Settings, envelope: int) -> Codec:
    """The codec that was asked for, with its error bound, or at the quality that meets a target."""
    if (settings.bpp, settings.psnr) != (None, None):
        return _aimed(array, settings, envelope)
    name = settings.codec or zoo.default_codec(array)
    codec = _loaded(name, array, settings)
    if settings.quality is not None:
        if not isinstance(codec, Adjustable):
            raise UnsupportedInputError(f"codec {name} has no qualities; leave --quality out")
        codec = codec.with_quality(settings.quality)
    if settings.delta == 0:
        return codec
    if not settings.codec and not isinstance(codec, NearLossless):
        codec = zoo.load_codec("jpegls", threads=settings.threads)
    if not isinstance(codec, NearLossless):
        raise UnsupportedInputError(f"codec {name} has no near-lossless mode; leave --delta out")
    return codec.with_max_error(settings.delta)


def _aimed(array: np.ndarray, settings: Settings, envelope: int) -> Codec:
    """Of all codecs of the family, the setting that meets the rate or the PSNR."""
    if not settings.codec:
        raise ConfigError("name a lossy codec, or a family such as tbtc.conv-xs, with --codec")
    if settings.delta:
        raise ConfigError("--delta is for near-lossless codecs, --bpp and --psnr for lossy ones; give one of them")
    names = family(settings.codec, zoo.list_codecs()) or [settings.codec]
    codecs = [_loaded(name, array, settings) for name in names]
    return meet(codecs, array, Target(settings.bpp, settings.psnr), envelope)


def _loaded(name: str, array: np.ndarray, settings: Settings) -> Codec:
    """The codec, at the complexity that was asked for."""
    codec = zoo.load_codec(name, settings.weights, threads=settings.threads)
    if (settings.complexity, settings.max_kmac, settings.max_ms) != (None, None, None):
        return _scaled(codec, array, settings)
    return codec


def _scaled(codec: Codec, array: np.ndarray, settings: Settings) -> Codec:
    """The codec at the complexity that was asked for."""
    if not isinstance(codec, Scalable):
        raise UnsupportedInputError(f"codec {codec.name} has one complexity; leave --complexity and --max-... out")
    if settings.complexity is not None:
        return codec.with_complexity(settings.complexity)
    if settings.max_kmac is not None:
        return codec.with_max_kmac(settings.max_kmac)
    return codec.with_max_ms(settings.max_ms or 0, (array.shape[1], array.shape[2]))


def _check_suffix(target: Path, codec: str) -> None:
    """Refuse names that would lie about their content."""
    suffix = target.suffix.lower()
    known = suffix in NATIVE or suffix in files.SUFFIXES
    if known and NATIVE.get(suffix) != codec.removesuffix("-lossy"):
        raise ConfigError(f"{target} would not hold what codec {codec} writes; use the suffix {SUFFIX}")


def _restored(stem: str, suffix: str) -> str:
    """`photo` or, from `photo.png.cb`, `photo.png` -> `photo.png`."""
    return stem if stem.lower().endswith(suffix) else stem + suffix


def _write_archive(coded: bytes, folder: Path, settings: Settings) -> Path:
    """Every item as a file named by its number: names inside an archive could point anywhere."""
    arrays = zoo.decompress_many(coded, weights=settings.weights, threads=settings.threads)
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(arrays) - 1))
    for number, array in enumerate(arrays):
        name = f"{number:0{digits}d}{files.restored_suffix({}, array)}"
        files.write(folder / name, array, force=settings.force)
    return folder
