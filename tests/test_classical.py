"""Classical codecs: native files where the format can hold the array, exact round trips, clear refusals."""

from __future__ import annotations

import io
import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from cbench.bench import classical
from cbench.bench.native import bare_codestream, native_codec_of
from cbench.coding.container import is_container
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError
from tests.shared import SHARED, needs_shared

LOSSLESS = {
    "png": classical.png,
    "webp": classical.webp,
    "jpegls": classical.jpegls,
    "jpeg2000": classical.jpeg2000,
    "jpegxl": classical.jpegxl,
    "qoi": classical.qoi,
    "zstd": partial(classical.zstd, level=3),
}
LOSSY = {
    "jpeg": classical.jpeg,
    "webp-lossy": partial(classical.webp_lossy, method=0),
    "avif": partial(classical.avif, speed=10),
    "jpegxl-lossy": partial(classical.jpegxl_lossy, effort=3),
    "jpeg2000-lossy": classical.jpeg2000_lossy,
}
SIZES = [(1, 1), (1, 9), (9, 1), (13, 17), (8, 8)]
DEEP = ("png", "jpegls", "jpeg2000", "jpegxl")


def noise(shape, dtype=np.uint8, seed=0):
    """Full-range noise: the worst case for buffers."""
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def ramp(channels, height=48, width=64):
    """A smooth picture that lossy codecs keep well."""
    c, y, x = np.mgrid[0:channels, 0:height, 0:width]
    return ((2 * x + y + 20 * c) % 256 * 0.5 + 60).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_8_bit(name, channels, size):
    codec = LOSSLESS[name]()
    assert codec.name == name and codec.max_error == 0
    for array in (noise((channels, *size)), np.zeros((channels, *size), np.uint8)):
        back = codec.decompress(codec.compress(array))
        assert back.dtype == np.uint8
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("differences", [False, True])
def test_lossless_16_bit(name, dtype, differences):
    if differences and name == "png":
        pytest.skip("PNG has no band differences")
    codec = LOSSLESS[name](differences=True) if differences else LOSSLESS[name]()
    for channels in (1, 3, 6):
        for size in ((1, 1), (1, 9), (13, 17)):
            array = noise((channels, *size), dtype)
            back = codec.decompress(codec.compress(array))
            assert back.dtype == dtype
            np.testing.assert_array_equal(back, array)


def test_zstd_takes_every_integer_dtype():
    codec = LOSSLESS["zstd"]()
    for dtype in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        array = noise((2, 5, 7), np.dtype(dtype))
        back = codec.decompress(codec.compress(array.swapaxes(1, 2)))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array.swapaxes(1, 2))


@pytest.mark.parametrize("name", ["webp", "jpegxl", "png", "jpeg2000", "qoi"])
def test_transparent_and_opaque_alpha_come_back(name):
    codec = LOSSLESS[name]()
    array = noise((4, 20, 30))
    for alpha in (0, 255):
        array[3] = alpha
        np.testing.assert_array_equal(codec.decompress(codec.compress(array)), array)


@pytest.mark.parametrize("name", sorted({*LOSSLESS, *LOSSY} - {"zstd"}))
def test_pictures_are_files_of_the_format(name):
    codec = {**LOSSLESS, **LOSSY}[name]()
    data = codec.compress(ramp(3))
    assert not is_container(data)
    assert native_codec_of(data) == name.removesuffix("-lossy")
    if name in ("png", "webp", "jpeg", "webp-lossy", "avif"):
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        difference = np.moveaxis(picture, -1, 0).astype(int) - codec.decompress(data)
        # Another JPEG decoder may interpolate subsampled colour differently.
        assert np.abs(difference).max() <= (0 if name in ("png", "webp") else 8)


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("name", LOSSY)
def test_lossy_keeps_shape_and_most_of_the_picture(name, channels):
    codec = LOSSY[name]()
    assert codec.max_error is None
    array = ramp(channels)
    back = codec.decompress(codec.compress(array))
    assert back.shape == array.shape and back.dtype == array.dtype
    assert np.mean((back.astype(float) - array) ** 2) < 100
    for size in SIZES:
        assert codec.decompress(codec.compress(noise((channels, *size)))).shape == (channels, *size)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("delta", [0, 1, 3, 20])
def test_jpegls_keeps_its_error_bound(dtype, delta):
    codec = classical.jpegls().with_max_error(delta)
    assert codec.max_error == delta
    for channels in (1, 3, 5):
        array = noise((channels, 13, 17), dtype)
        back = codec.decompress(codec.compress(array))
        assert np.abs(back.astype(int) - array).max() <= delta


def test_bounds_that_do_not_exist_are_refused():
    for delta in (-1, 256):
        with pytest.raises(ConfigError):
            classical.jpegls().with_max_error(delta)
    with pytest.raises(ConfigError, match="lossless only"):
        classical.jpegls(differences=True, max_error=1)
    with pytest.raises(UnsupportedInputError):
        classical.jpegls(max_error=200).compress(noise((1, 4, 4)))
    with pytest.raises(UnsupportedInputError, match="16383"):
        classical.webp().compress(np.zeros((3, 1, 16384), np.uint8))


@pytest.mark.parametrize("name", [n for n in {**LOSSLESS, **LOSSY} if n != "zstd"])
def test_what_a_codec_does_not_take(name):
    codec = {**LOSSLESS, **LOSSY}[name]()
    refused = ["int32", "uint32", "int64", "float32"] + ([] if codec.family in DEEP else ["uint16", "int16"])
    for dtype in refused:
        with pytest.raises(UnsupportedInputError):
            codec.compress(np.ones((1, 4, 4), dtype))
    for shape in ((4, 4), (0, 4, 4), (3, 0, 4)):
        with pytest.raises(UnsupportedInputError):
            codec.compress(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("name", {**LOSSLESS, **LOSSY})
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_truncation_is_refused(name, channels):
    codec = {**LOSSLESS, **LOSSY}[name]()
    data = codec.compress(noise((channels, 24, 24)))
    for cut in {0, 1, 3, 11, 12, 30, len(data) // 3, len(data) // 2, len(data) - 5, len(data) - 1}:
        with pytest.raises(CbenchError):
            codec.decompress(data[:cut])


@pytest.mark.parametrize("name", {**LOSSLESS, **LOSSY})
def test_damage_never_escapes_as_another_exception(name):
    codec = {**LOSSLESS, **LOSSY}[name]()
    for channels in (3, 5):
        data = codec.compress(noise((channels, 12, 12)))
        for at in range(0, len(data), max(1, len(data) // 60)):
            broken = bytearray(data)
            broken[at] ^= 1 << at % 8
            try:
                codec.decompress(bytes(broken))
            except CbenchError:
                continue
            # What is in a container has checksums; most native formats have none.
            assert channels == 3 and name not in ("png", "zstd")


def test_another_codecs_file_is_named():
    picture = ramp(3)
    with pytest.raises(BitstreamError, match="not jpegxl"):
        classical.jpegxl().decompress(classical.png().compress(picture))
    with pytest.raises(WrongModelError, match="qoi"):
        classical.zstd().decompress(classical.qoi().compress(ramp(1)))
    assert native_codec_of(b"") is None and native_codec_of(b"hello world, no picture") is None
    with pytest.raises(ConfigError, match="no weights"):
        from pathlib import Path

        classical.png(Path("weights.safetensors"))


def test_boxes_around_a_codestream_can_go():
    import imagecodecs

    boxed = imagecodecs.jpegxl_encode(noise((9, 9), np.uint16), lossless=True)
    bare = bare_codestream(boxed)
    assert bare[:2] == b"\xff\x0a" and len(bare) < len(boxed) - 40
    np.testing.assert_array_equal(imagecodecs.jpegxl_decode(bare), noise((9, 9), np.uint16))
    with pytest.raises(BitstreamError, match="appended"):
        classical.jpegxl().decompress(boxed + b"x")


@needs_shared
@pytest.mark.parametrize(
    ("name", "anchor"),
    [
        ("png", "PNG libpng level 9 (imagecodecs)"),
        ("jpegls", "JPEG-LS (CharLS, RGB as is)"),
        ("qoi", "QOI"),
    ],
)
def test_rates_on_kodak_agree_with_the_anchors(name, anchor):
    """The anchors are means over all 24 pictures; the fast codecs can afford the whole set."""
    table = json.loads((SHARED / "fixtures/anchors/image_codecs_lossless.json").read_text())
    expected = next(row for row in table["results"]["kodak"] if row["codec"] == anchor)
    codec, total = LOSSLESS[name](), 0
    for path in sorted((SHARED / "data/kodak").glob("*.png")):
        total += len(codec.compress(np.moveaxis(np.asarray(Image.open(path)), -1, 0)))
    assert total == pytest.approx(expected["bytes"], rel=1e-3)
