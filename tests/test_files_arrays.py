"""NPY, MAT and TIFF: every sample exact, every damage named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from made_files import check_back, is_mapped, noise

from cbench import files
from cbench.errors import DataNotFoundError, UnsupportedInputError
from cbench.files import npy


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
