"""Arrays -> files -> arrays: every format, every sample exact, every damage named."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import SHARED, needs_shared

from cbench import files
from cbench.errors import CbenchError, DataNotFoundError, UnsupportedInputError
from cbench.files import envi, npy
from cbench.files.envi_header import layout_of, parse_header

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def check_back(path: Path, array: np.ndarray, meta: dict | None = None) -> files.ImageFile:
    files.write(path, array, meta)
    back = files.read(path)
    assert back.array.dtype == array.dtype
    assert np.array_equal(back.array, array)
    assert json.loads(json.dumps(dict(back.meta))) == dict(back.meta)
    assert [place.name for place in path.parent.iterdir() if place.name.endswith(".tmp")] == []
    return back


def png(width: int, height: int, depth: int, kind: int, raw: bytes, *extra: tuple[bytes, bytes], interlace=0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


# ---- pictures


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


# ---- npy and mat


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_npy_and_mat(tmp_path, suffix, dtype):
    check_back(tmp_path / f"a{suffix}", noise((7, 4, 5), dtype))
    check_back(tmp_path / f"b{suffix}", noise((1, 1, 1), dtype))


def test_npy_is_memory_mapped_and_keeps_its_axes(tmp_path):
    flat = noise((6, 9), "uint16")
    np.save(tmp_path / "a.npy", flat)
    picture = files.read(tmp_path / "a.npy")
    assert is_mapped(picture.array)
    assert picture.array.shape == (1, 6, 9)
    files.write(tmp_path / "b.npy", picture.array, picture.meta)
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()
    np.save(tmp_path / "c.npy", np.asfortranarray(noise((3, 4, 5), "uint16")).astype(">u2"))
    assert np.array_equal(files.read(tmp_path / "c.npy").array, noise((3, 4, 5), "uint16"))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 2)), np.zeros((2, 2, 2), np.int64), np.zeros(3, np.uint8), np.zeros((2, 2, 2), bool)],
)
def test_npy_of_other_things(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UnsupportedInputError):
        files.read(tmp_path / "a.npy")


def test_npy_never_unpickles(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnsupportedInputError):
        files.read(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", noise((3, 4, 5), "uint16"))
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-1])
    with pytest.raises(UnsupportedInputError):
        files.read(tmp_path / "b.npy")


def test_mat_variables(tmp_path):
    from scipy.io import savemat

    cube, other = noise((4, 5, 6), "uint16"), noise((3, 3, 3), "int16")
    savemat(tmp_path / "one.mat", {"radiance": cube, "mask": np.zeros((4, 5), np.uint8)})
    picture = files.read(tmp_path / "one.mat")
    assert np.array_equal(picture.array, cube.transpose(2, 0, 1))
    assert picture.meta["variable"] == "radiance"
    assert files.read(f"{tmp_path}/one.mat:mask").array.shape == (1, 4, 5)
    savemat(tmp_path / "two.mat", {"a": cube, "b": other, "c": cube.astype(float)})
    with pytest.raises(UnsupportedInputError, match=r"a, b, c.*two\.mat:name"):
        files.read(tmp_path / "two.mat")
    assert np.array_equal(files.read(f"{tmp_path}/two.mat:b").array, other.transpose(2, 0, 1))
    for name in ("c", "d"):
        with pytest.raises(UnsupportedInputError):
            files.read(f"{tmp_path}/two.mat:{name}")
    with pytest.raises(DataNotFoundError):
        files.read(f"{tmp_path}/none.mat:a")
    assert npy.split_variable(Path("x.mat")) == (Path("x.mat"), None)


# ---- TIFF


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 5, 6), (4, 5, 6), (2, 3, 4), (30, 5, 6), (5, 1, 1), (7, 1, 3)])
@pytest.mark.parametrize("meta", [None, {"format": "tiff", "layout": "interleaved"}, {"layout": "planar"}])
def test_tiff_round_trip(tmp_path, shape, dtype, meta):
    pytest.importorskip("tifffile")
    array = noise(shape, dtype)
    back = check_back(tmp_path / "a.tif", array, meta)
    files.write(tmp_path / "b.tiff", back.array, back.meta)
    again = files.read(tmp_path / "b.tiff")
    assert np.array_equal(again.array, array)
    assert again.meta == back.meta


def test_tiff_layouts_palettes_and_pages(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    cube = noise((9, 10, 11), "uint16")
    path = tmp_path / "a.tif"
    for order in "<>":
        tifffile.imwrite(path, cube, photometric="minisblack", planarconfig="separate", byteorder=order)
        picture = files.read(path)
        assert np.array_equal(picture.array, cube)
        assert picture.array.dtype == np.uint16  # native, whatever the file
        assert picture.meta["byteorder"] == order
        assert is_mapped(picture.array) == (order == ("<" if sys.byteorder == "little" else ">"))
    tifffile.imwrite(path, cube, photometric="minisblack", compression="zlib", predictor=True)  # nine pages
    assert np.array_equal(files.read(path).array, cube)
    index, table = noise((6, 7), "uint8"), noise((3, 256), "uint8").astype(np.uint16) * 257
    tifffile.imwrite(path, index, photometric="palette", colormap=table)
    assert np.array_equal(files.read(path).array, (table // 257).astype(np.uint8)[:, index])
    tifffile.imwrite(path, index > 99)
    assert np.array_equal(files.read(path).array[0], (index > 99) * np.uint8(255))


def test_tiff_keeps_its_place_on_the_earth(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tags = [
        (33550, "d", 3, (30.0, 30.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 399960.25, 5700000.1, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
        (34737, "s", 0, "WGS 84 / UTM zone 33N|", True),
        (42113, "s", 0, "-32768", True),
    ]
    cube = noise((4, 6, 7), "int16")
    tifffile.imwrite(tmp_path / "a.tif", cube, photometric="minisblack", planarconfig="separate", extratags=tags)
    picture = files.read(tmp_path / "a.tif")
    meta = json.loads(json.dumps(dict(picture.meta)))
    files.write(tmp_path / "b.tif", picture.array, meta)
    assert files.read(tmp_path / "b.tif").meta == picture.meta
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert tiff.pages[0].tags[33922].value == tags[1][3]
        assert tiff.pages[0].tags[34737].value == "WGS 84 / UTM zone 33N|"


def test_tiff_that_is_not_coded(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.float32))
    with pytest.raises(UnsupportedInputError, match="float32"):
        files.read(path)
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise((4, 4), "uint8"))
        writer.write(noise((8, 8), "uint8"))
    with pytest.raises(UnsupportedInputError, match="2 pictures"):
        files.read(path)
    tifffile.imwrite(path, noise((2, 3, 4, 4, 3), "uint8"))
    with pytest.raises(UnsupportedInputError, match="axes"):
        files.read(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_tiff(tmp_path, compression):
    tifffile = pytest.importorskip("tifffile")
    path, array = tmp_path / "a.tif", noise((3, 64, 64), "uint16")
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="separate", compression=compression)
    data = path.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UnsupportedInputError):
            files.read(path)


def test_tiff_without_tifffile(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for call in (
        lambda: files.read(tmp_path / "a.tif"),
        lambda: files.write(tmp_path / "a.tif", noise((1, 2, 2), "uint8")),
    ):
        with pytest.raises(UnsupportedInputError, match=r"pip install cbench\[geo\]"):
            call()


# ---- ENVI


def is_mapped(array: np.ndarray | None) -> bool:
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def make_envi(folder: Path, array: np.ndarray, interleave="bsq", order=0, offset=0, extra="", suffix=".raw") -> Path:
    """An ENVI pair written without the code under test."""
    axes = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    code = {"uint8": 1, "int16": 2, "int32": 3, "uint16": 12, "uint32": 13}[array.dtype.name]
    data = array.transpose(axes).astype(array.dtype.newbyteorder("<>"[order])).tobytes()
    (folder / f"cube{suffix}").write_bytes(b"\xaa" * offset + data)
    bands, lines, samples = array.shape
    text = (
        f"ENVI\ndescription = {{two\n  lines}}\nsamples = {samples}\nlines={lines}\nBands   = {bands}\n"
        f"header offset = {offset}\ndata type = {code}\ninterleave = {interleave.upper()}\n"
        f"byte order = {order}\n{extra}"
    )
    (folder / "cube.hdr").write_text(text)
    return folder / "cube.hdr"


@quick
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 5)),
    dtype=st.sampled_from(["uint8", "int16", "int32", "uint16", "uint32"]),
    interleave=st.sampled_from(["bsq", "bil", "bip"]),
    order=st.sampled_from([0, 1]),
    offset=st.integers(0, 40),
    suffix=st.sampled_from([".raw", ".img", ".dat", ".bsq", ".bil", ".bip", ""]),
    by_header=st.booleans(),
)
def test_envi_round_trip(tmp_path_factory, shape, dtype, interleave, order, offset, suffix, by_header):
    folder = tmp_path_factory.mktemp("envi")
    array = noise(shape, dtype)
    header = make_envi(folder, array, interleave, order, offset, "wavelength = { 1.5,\n 2.5 }\n", suffix)
    cube = files.read(header if by_header else folder / f"cube{suffix}")
    assert cube.array.dtype == np.dtype(dtype)
    assert np.array_equal(cube.array, array)
    view, layout, _ = envi.open_cube(header)
    assert is_mapped(view)
    assert np.array_equal(view, array)
    assert layout.interleave == interleave

    (folder / "out").mkdir()
    meta = json.loads(json.dumps(dict(cube.meta)))
    files.write(folder / "out/cube.hdr", cube.array, meta)
    expected = header.read_bytes()
    if offset:
        expected = expected.replace(b"header offset = %d" % offset, b"header offset = 0")
    assert (folder / "out/cube.hdr").read_bytes() == expected
    assert (folder / f"out/cube{suffix}").read_bytes() == (folder / f"cube{suffix}").read_bytes()[offset:]


@needs_shared
@pytest.mark.parametrize("name", ["enmap_potsdam_c", "abu_beach_1"])
def test_shared_cubes_come_back_byte_for_byte(tmp_path, name):
    folder = SHARED / "data/hyperspectral"
    cube = files.read(folder / f"{name}.hdr")
    shape = {"enmap_potsdam_c": (202, 32, 64), "abu_beach_1": (205, 100, 100)}[name]
    assert np.array_equal(cube.array, np.fromfile(folder / f"{name}.raw", "<u2").reshape(shape))
    files.write(tmp_path / f"{name}.raw", cube.array, cube.meta)
    for suffix in (".raw", ".hdr"):
        assert (tmp_path / f"{name}{suffix}").read_bytes() == (folder / f"{name}{suffix}").read_bytes()


def test_envi_reads_no_sample_before_it_is_used(tmp_path):
    bands, lines, samples = 60, 300, 300
    text = f"ENVI\nsamples={samples}\nlines={lines}\nbands={bands}\ndata type=12\ninterleave=bip\nbyte order=0\n"
    (tmp_path / "big.hdr").write_text(text)
    with (tmp_path / "big.img").open("wb") as stream:
        stream.truncate(bands * lines * samples * 2)
    tracemalloc.start()
    cube = files.read(tmp_path / "big.img")
    assert cube.array[3, 7].sum() == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400_000
    assert not cube.array.flags.writeable


@pytest.mark.parametrize(
    ("code", "word"), [(4, "float32"), (5, "float64"), (6, "complex64"), (14, "int64"), (99, "unknown")]
)
def test_envi_floats_are_refused_clearly(tmp_path, code, word):
    header = make_envi(tmp_path, noise((2, 3, 4), "uint16"))
    header.write_text(header.read_text().replace("data type = 12", f"data type = {code}"))
    with pytest.raises(UnsupportedInputError, match=word):
        files.read(header)


@pytest.mark.parametrize(("change", "word"), [(-1, "truncated"), (-40, "truncated"), (2, "too long")])
def test_envi_data_of_the_wrong_size(tmp_path, change, word):
    header = make_envi(tmp_path, noise((2, 3, 4), "uint16"))
    data = (tmp_path / "cube.raw").read_bytes()
    (tmp_path / "cube.raw").write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(UnsupportedInputError, match=word):
        files.read(header)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GIF\nsamples = 2",
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = two\ndata type = 12\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = -2\ndata type = 12\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = 0\ndata type = 12\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 12\ninterleave = bzq\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 12\nbyte order = 2\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 12\nheader offset = -1\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 12\nfile compression = 1\n",
        "ENVI\nsamples = 999999999999999\nlines = 999999999999999\nbands = 2\ndata type = 12\n",
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 12\nwavelength = {1,\n2\n",
        "ENVI\nsamples = {4}\nlines = 3\nbands = 2\ndata type = 12\n",
        "ENVI\x00\xff",
    ],
)
def test_envi_headers_that_cannot_be_used(tmp_path, text):
    (tmp_path / "a.hdr").write_text(text)
    (tmp_path / "a.raw").write_bytes(bytes(48))
    with pytest.raises(UnsupportedInputError) as caught:
        files.read(tmp_path / "a.hdr")
    assert "\n" not in str(caught.value)


def test_envi_header_oddities_are_understood_and_kept(tmp_path):
    text = (
        "\ufeffEnvi \r\n; a comment = {\r\nSAMPLES=4 ; across\r\n  Lines   =  3\r\nbands = 2\r\n"
        "Data  Type = 12\r\n"
        "junk without an equals sign\r\n\r\n"
        "Interleave = BiL\r\nmap info = {UTM, 1, 1,\r\n  370000.5, b = c}\r\n"
        "description={caf\u00e9 = \u0085 }\r\nbands = 2\r\nlast = 1"
    )
    array = noise((2, 3, 4), "uint16")
    (tmp_path / "a.hdr").write_bytes(text.encode())
    (tmp_path / "a.dat").write_bytes(array.transpose(1, 0, 2).astype("<u2").tobytes())
    cube = files.read(tmp_path / "a.hdr")
    assert np.array_equal(cube.array, array)
    (tmp_path / "out").mkdir()
    files.write(tmp_path / "out/a.hdr", cube.array, cube.meta)
    assert (tmp_path / "out/a.hdr").read_bytes() == text.encode()

    latin = text.replace("\ufeff", "").encode("latin-1")
    (tmp_path / "a.hdr").write_bytes(latin)
    cube = files.read(tmp_path / "a.dat")
    files.write(tmp_path / "out/a.hdr", cube.array, json.loads(json.dumps(dict(cube.meta))), force=True)
    assert (tmp_path / "out/a.hdr").read_bytes() == latin


@quick
@given(st.text(alphabet=st.sampled_from("ENVI\n\r={};, abc123samples"), max_size=120))
def test_any_header_text_parses_or_is_refused(text):
    whole = "ENVI\n" + text
    try:
        header = parse_header(whole)
    except UnsupportedInputError:
        return
    assert header.text == whole
    assert header.replace("samples", 12)["samples"] == "12"
    assert parse_header(header.replace("samples", 12).text)["samples"] == "12"
    with contextlib.suppress(UnsupportedInputError):
        layout_of(header)


def test_envi_another_shape_or_type_changes_only_the_fields_that_must(tmp_path):
    wave = "wavelength = {1, 2, 3}\nband names = {a, b, c}\nmap info = {UTM, 1, 1, 5}\nsensor type = X\n"
    header = make_envi(tmp_path, noise((3, 4, 5), "uint16"), "bip", 1, extra=wave)
    meta = files.read(header).meta
    (tmp_path / "out").mkdir()
    array = noise((2, 4, 6), "int16")
    check_back(tmp_path / "out/cube.hdr", array, meta)
    text = (tmp_path / "out/cube.hdr").read_text()
    assert "wavelength" not in text
    assert "band names" not in text
    for kept in (
        "map info = {UTM, 1, 1, 5}",
        "sensor type = X",
        "interleave = BIP",
        "byte order = 1",
        "data type = 2",
    ):
        assert kept in text
    check_back(tmp_path / "out/cube2.hdr", noise((3, 9, 9), "uint16"), meta)
    assert wave in (tmp_path / "out/cube2.hdr").read_text()


def test_envi_names(tmp_path):
    array = noise((2, 3, 4), "uint16")
    files.write(tmp_path / "a.raw", array)
    assert {place.name for place in tmp_path.iterdir()} == {"a.raw", "a.hdr"}
    (tmp_path / "a.hdr").rename(tmp_path / "a.raw.hdr")
    cube = files.read(tmp_path / "a.raw")
    assert np.array_equal(files.read(tmp_path / "a.raw.hdr").array, array)
    (tmp_path / "out").mkdir()
    files.write(tmp_path / "out/b.raw", cube.array, cube.meta)
    assert {place.name for place in (tmp_path / "out").iterdir()} == {"b.raw", "b.raw.hdr"}
    assert files.outputs(tmp_path / "out/b.raw", cube.meta) == (
        tmp_path / "out/b.raw",
        tmp_path / "out/b.raw.hdr",
    )
    assert files.outputs(tmp_path / "x.png") == (tmp_path / "x.png",)

    (tmp_path / "a.raw").rename(tmp_path / "a")
    (tmp_path / "a.raw.hdr").rename(tmp_path / "a.hdr")
    bare = files.read(tmp_path / "a")  # no suffix at all
    files.write(tmp_path / "out/c", bare.array, bare.meta)
    assert np.array_equal(files.read(tmp_path / "out/c").array, array)
    (tmp_path / "a.img").write_bytes(bytes(48))
    with pytest.raises(UnsupportedInputError, match=r"a or a\.img"):
        files.read(tmp_path / "a.hdr")
    (tmp_path / "a.img").write_bytes(bytes(47))
    assert np.array_equal(files.read(tmp_path / "a.hdr").array, array)


def test_envi_half_pairs(tmp_path):
    header = make_envi(tmp_path, noise((2, 3, 4), "uint16"))
    (tmp_path / "other.raw").write_bytes(bytes(48))
    with pytest.raises(DataNotFoundError, match="no ENVI header"):
        files.read(tmp_path / "other.raw")
    (tmp_path / "cube.raw").unlink()
    with pytest.raises(DataNotFoundError, match="no data file"):
        files.read(header)


# ---- dispatch, folders, atomic writing


def test_missing_and_unknown_files(tmp_path):
    for suffix in files.SUFFIXES:
        if suffix in (".tif", ".tiff"):
            pytest.importorskip("tifffile")
        with pytest.raises(DataNotFoundError):
            files.read(tmp_path / f"none{suffix}")
        (tmp_path / f"folder{suffix}").mkdir()
        with pytest.raises(CbenchError):
            files.read(tmp_path / f"folder{suffix}")
    with pytest.raises(DataNotFoundError):
        files.read(tmp_path / "none.xyz")
    (tmp_path / "a.xyz").write_bytes(b"abc")
    with pytest.raises(UnsupportedInputError, match="known suffixes"):
        files.read(tmp_path / "a.xyz")


@quick
@given(data=st.binary(max_size=200), suffix=st.sampled_from(files.SUFFIXES))
def test_no_bytes_crash_a_reader(tmp_path, data, suffix):
    path = tmp_path / f"a{suffix}"
    for start in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"\x93NUMPY\1\0",
    ):
        path.write_bytes(start + data)
        try:
            files.read(path)
        except CbenchError as error:
            assert "\n" not in str(error)


def test_find_lists_each_thing_once(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    files.write(tmp_path / "b.png", noise((3, 4, 4), "uint8"))
    files.write(tmp_path / "sub/cube.raw", noise((3, 4, 4), "uint8"))
    files.write(tmp_path / ".hidden/c.png", noise((3, 4, 4), "uint8"))
    (tmp_path / "A.PNG").write_bytes((tmp_path / "b.png").read_bytes())
    (tmp_path / "notes.txt").write_text("x")
    assert [str(path.relative_to(tmp_path)) for path in files.find(tmp_path)] == [
        "A.PNG",
        "b.png",
        "sub/cube.hdr",
    ]
    with pytest.raises(DataNotFoundError):
        files.find(tmp_path / "none")


def test_atomic_write_leaves_all_or_nothing(tmp_path):
    path = tmp_path / "a.bin"
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(b"one")
        assert not path.exists()
        assert temporary.parent == tmp_path
    assert path.read_bytes() == b"one"
    with pytest.raises(CbenchError, match="already exists"), files.atomic_write(path):
        pytest.fail("the block must not run")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), files.atomic_write(path, force=True) as temporary:
            temporary.write_bytes(b"half")
            raise error
    assert path.read_bytes() == b"one"
    with files.atomic_write(path, force=True) as temporary:
        temporary.write_bytes(b"two")
    assert path.read_bytes() == b"two"
    assert [place.name for place in tmp_path.iterdir()] == ["a.bin"]
    with pytest.raises(CbenchError, match="folder"), files.atomic_write(tmp_path, force=True):
        pass
    with pytest.raises(DataNotFoundError, match="none"), files.atomic_write(tmp_path / "none/a"):
        pass
    new = tmp_path / "new"
    with pytest.raises(CbenchError, match="already exists"), files.atomic_write(new) as temporary:
        temporary.write_bytes(b"mine")
        new.write_bytes(b"theirs")
    assert new.read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.mat", "a.raw", "a.hdr", "a.ppm", "a.webp"])
def test_writers_never_overwrite_without_force(tmp_path, name):
    array = noise((3, 4, 5), "uint8")
    files.write(tmp_path / name, array)
    before = {place.name: place.read_bytes() for place in tmp_path.iterdir()}
    with pytest.raises(CbenchError, match="already exists"):
        files.write(tmp_path / name, array[:, ::-1])
    assert {place.name: place.read_bytes() for place in tmp_path.iterdir()} == before
    files.write(tmp_path / name, array[:, ::-1], force=True)
    assert np.array_equal(files.read(tmp_path / name).array, array[:, ::-1])


@needs_shared
def test_kodak_agrees_with_pillow():
    from PIL import Image

    path = SHARED / "data/kodak/kodim04.png"
    assert np.array_equal(
        files.read(path).array, np.asarray(Image.open(io.BytesIO(path.read_bytes()))).transpose(2, 0, 1)
    )


@pytest.mark.parametrize(
    ("name", "meta"),
    [
        ("a.hdr", {"format": "envi", "header": "no header"}),
        ("a.hdr", {"format": "envi", "header": "ENVI\ninterleave = bzq\n"}),
        ("a.hdr", {"format": "envi", "header": "ENVI\nx = \u20ac\n", "encoding": "latin-1"}),
        ("a.hdr", {"format": "envi", "header": "ENVI\n", "encoding": "none such"}),
        ("a.tif", {"format": "tiff", "geo": [[33550, 12, 3, ["a", {}, None]]]}),
        ("a.tif", {"format": "tiff", "geo": "forged"}),
        ("a.mat", {"format": "mat", "variable": "\u20ac"}),
    ],
)
def test_forged_metadata_ends_in_a_sentence(tmp_path, name, meta):
    if name.endswith(".tif"):
        pytest.importorskip("tifffile")
    with pytest.raises(UnsupportedInputError) as caught:
        files.write(tmp_path / name, noise((2, 4, 4), "uint16"), meta)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_forged_envi_names_stay_in_the_folder(tmp_path):
    (tmp_path / "out").mkdir()
    meta = {"format": "envi", "header": "ENVI\n", "suffix": "/../../evil", "header_name": "replace"}
    files.write(tmp_path / "out/a.hdr", noise((2, 4, 4), "uint16"), meta)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        "out",
        "out/a.hdr",
        "out/a.raw",
    }


def test_what_the_system_refuses_ends_in_a_sentence(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CbenchError, match=r"a\.png cannot be written: No space left"):
        files.write(tmp_path / "a.png", noise((3, 4, 4), "uint8"))
    assert list(tmp_path.iterdir()) == []
