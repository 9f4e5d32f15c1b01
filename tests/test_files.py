"""Readers by content, folders, writing in one step."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import noise, quick
from shared import SHARED, needs_shared

from cbench import files
from cbench.errors import CbenchError, DataNotFoundError, UnsupportedInputError


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
