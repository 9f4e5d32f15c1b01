"""Picture formats: every sample exact, every damage named."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from made_files import check_back, noise, png

from cbench import files
from cbench.errors import UnsupportedInputError


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 17)])
@pytest.mark.parametrize(
    ("suffix", "channels", "dtype"),
    [(".png", c, d) for c in (1, 2, 3, 4) for d in ("uint8", "uint16")]
    + [(".pgm", 1, "uint8"), (".pgm", 1, "uint16"), (".ppm", 3, "uint8"), (".ppm", 3, "uint16")]
    + [(".webp", 3, "uint8"), (".webp", 4, "uint8")],
)
def test_picture_round_trip(tmp_path, suffix, channels, dtype, size):
    array = noise((channels, *size), dtype)
    if suffix == ".webp" and channels == 4:
        array[3, 0, 0] = 0  # an alpha channel that is opaque everywhere is refused
    back = check_back(tmp_path / f"a{suffix}", array)
    assert files.restored_suffix(back.meta, back.array) == (".png" if suffix == ".webp" and channels == 4 else suffix)


def test_big_endian_and_strided_arrays_are_written_right(tmp_path):
    array = noise((3, 8, 10), "uint16")
    for suffix in (".png", ".ppm", ".npy", ".raw", ".tif", ".mat"):
        if suffix == ".tif":
            pytest.importorskip("tifffile")
        files.write(tmp_path / f"a{suffix}", array.astype(">u2")[:, ::2, ::-1])
        assert np.array_equal(files.read(tmp_path / f"a{suffix}").array, array[:, ::2, ::-1])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(8, 1, 1, 0, b"\0\x0f"), [[[0, 0, 0, 0, 255, 255, 255, 255]]]),
        (png(4, 1, 2, 0, b"\0\x1b"), [[[0, 85, 170, 255]]]),
        (png(2, 1, 4, 0, b"\0\x1b"), [[[17, 187]]]),
        (png(2, 1, 8, 3, b"\0\1\0", (b"PLTE", bytes(range(6)))), [[[3, 0]], [[4, 1]], [[5, 2]]]),
        (
            png(2, 1, 8, 3, b"\0\1\0", (b"PLTE", bytes(range(6))), (b"tRNS", b"\x80")),
            [[[3, 0]], [[4, 1]], [[5, 2]], [[255, 128]]],
        ),
        (png(2, 1, 16, 0, b"\0\1\2\3\4", (b"tRNS", b"\1\2")), [[[258, 772]], [[0, 65535]]]),
        (png(2, 1, 8, 0, b"\0\x1b\x50", (b"gAMA", struct.pack(">I", 30000))), [[[27, 80]]]),
        (png(3, 1, 8, 0, b"\0\x05\0\x09\0\x07", interlace=1), None),
    ],
)
def test_unusual_png(tmp_path, data, expected):
    (tmp_path / "a.png").write_bytes(data)
    if expected is None:  # Adam7: the three columns come from the passes 1, 6 and 4
        assert sorted(files.read(tmp_path / "a.png").array.ravel().tolist()) == [5, 7, 9]
    else:
        assert files.read(tmp_path / "a.png").array.tolist() == expected


def test_netpbm_text_comments_and_small_maximum(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P2 # plain\n# size\n3 1\n#m\n9\n0 4 # middle\n 9\n")
    picture = files.read(path)
    assert picture.array.tolist() == [[[0, 4, 9]]]
    assert picture.array.dtype == np.uint8
    files.write(path, picture.array, picture.meta, force=True)
    assert path.read_bytes() == b"P5\n3 1\n9\n\0\4\x09"
    files.write(path, np.full((1, 1, 3), 77, np.uint8), picture.meta, force=True)  # does not fit the maximum 9
    assert files.read(path).array.tolist() == [[[77] * 3]]
    original = b"P6\n# ten bits\n1 1\n1023\n\x03\xff\0\0\1\0"
    (tmp_path / "b.ppm").write_bytes(original)
    picture = files.read(tmp_path / "b.ppm")
    assert picture.array.ravel().tolist() == [1023, 0, 256]
    files.write(tmp_path / "c.ppm", picture.array, picture.meta)
    assert (tmp_path / "c.ppm").read_bytes() == original.replace(b"# ten bits\n", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"P5\n2 2\n255\nabc",
        b"P5\n2 2\n255\nabcdP5\n2 2\n255\nabcd",
        b"P5\n2 2\n100\nabc\xff",
        b"P5\n0 2\n255\n",
        b"P5\n2 2\n70000\nabcd",
        b"P5\n2 x\n255\nabcd",
        b"P2\n2 1\n255\n1 2 3",
        b"P2\n2 1\n255\n1 b",
        b"P2\n2 1\n255\n1 -2",
        b"P6\n99999999 99999999\n255\nabcd",
        b"P5\n",
    ],
)
def test_damaged_netpbm(tmp_path, data):
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(UnsupportedInputError):
        files.read(tmp_path / "a.pgm")


def test_jpeg_is_read_and_not_written(tmp_path):
    from PIL import Image

    array = np.repeat(np.arange(32, dtype=np.uint8)[None, None], 24, axis=1)
    for name, channels in (("grey.jpg", 1), ("colour.jpeg", 3)):
        pixels = array[0] if channels == 1 else np.repeat(array, 3, axis=0).transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / name)
        picture = files.read(tmp_path / name)
        assert picture.array.shape == (channels, 24, 32)
        assert picture.meta == {"format": "jpeg"}
        assert files.restored_suffix(picture.meta, picture.array) == ".png"
        with pytest.raises(UnsupportedInputError, match=r"write \.png"):
            files.write(tmp_path / "new.jpg", picture.array, picture.meta)
    Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg")
    with pytest.raises(UnsupportedInputError, match="CMYK"):
        files.read(tmp_path / "cmyk.jpg")


def test_content_counts_and_not_the_suffix(tmp_path):
    array = noise((3, 5, 6), "uint8")
    files.write(tmp_path / "a.png", array)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert files.read(tmp_path / "a.jpg").meta == {"format": "png"}
    (tmp_path / "b.png").write_bytes(b"GIF89a and so on")
    with pytest.raises(UnsupportedInputError, match="is not a PNG"):
        files.read(tmp_path / "b.png")


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_animations_are_refused(tmp_path, form):
    from PIL import Image

    frames = [Image.fromarray(noise((8, 8, 3), "uint8", seed)) for seed in range(3)]
    path = tmp_path / f"a.{form.lower()}"
    frames[0].save(path, form, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedInputError, match="animation"):
        files.read(path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".ppm"])
def test_truncated_pictures_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    files.write(path, noise((3, 20, 30), "uint8"))
    data = path.read_bytes()
    tail = 16 if suffix == ".png" else 1  # the last chunk of a PNG holds nothing
    for length in [*range(0, len(data) - tail, 61), len(data) - tail - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(UnsupportedInputError) as caught:
            files.read(path)
        assert "\n" not in str(caught.value)


def test_flipped_bits_of_a_png_are_seen_or_harmless(tmp_path):
    path = tmp_path / "a.png"
    array = noise((3, 6, 6), "uint8")
    files.write(path, array)
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 3):
        data[place] ^= 4
        path.write_bytes(data)
        with contextlib.suppress(UnsupportedInputError):
            assert np.array_equal(files.read(path).array, array)
        data[place] ^= 4


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("a.png", (5, 4, 4), "uint8"),
        ("a.png", (3, 4, 4), "int16"),
        ("a.ppm", (1, 4, 4), "uint8"),
        ("a.pgm", (3, 4, 4), "uint8"),
        ("a.ppm", (3, 4, 4), "int32"),
        ("a.webp", (1, 4, 4), "uint8"),
        ("a.webp", (3, 4, 4), "uint16"),
        ("a.hdr", (3, 4, 4), "int8"),
        ("a.gif", (3, 4, 4), "uint8"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, shape, dtype):
    with pytest.raises(UnsupportedInputError):
        files.write(tmp_path / name, noise(shape, dtype))
    assert list(tmp_path.iterdir()) == []


def test_opaque_alpha_is_refused_by_webp(tmp_path):
    with pytest.raises(UnsupportedInputError, match="opaque"):
        files.write(tmp_path / "a.webp", np.full((4, 4, 4), 255, np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".npy", ".mat", ".hdr", ".raw"])
@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.float32), np.zeros((3, 0, 4), np.uint8)]
)
def test_bad_arrays_are_refused_by_every_writer(tmp_path, suffix, array):
    with pytest.raises(UnsupportedInputError):
        files.write(tmp_path / f"a{suffix}", array)
