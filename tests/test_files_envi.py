"""ENVI: layouts, headers kept as they are, damage named, nothing read before it is used."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_files import check_back, is_mapped, noise, quick
from shared import SHARED, needs_shared

from cbench import files
from cbench.errors import DataNotFoundError, UnsupportedInputError
from cbench.files import envi
from cbench.files.envi_header import layout_of, parse_header


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
