import importlib
import inspect

import numpy as np
import pytest
import raw_codec
from hypothesis import given
from hypothesis import strategies as st

import cbench
from cbench import zoo
from cbench.codec import Codec
from cbench.coding.archive import pack_archive
from cbench.coding.container import Header, pack
from cbench.coding.envelope import wrap
from cbench.errors import (
    BitstreamError,
    CbenchError,
    ConfigError,
    DataNotFoundError,
    UnsupportedInputError,
    WrongModelError,
)
from cbench.zoo.weights import FOLDER, SHIPPED, fingerprint, load_weights, save_weights, shipped

PICTURE = (np.arange(3 * 8 * 9) % 256).astype(np.uint8).reshape(3, 8, 9)
STATE = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.array(2, np.int64)}


@pytest.mark.parametrize("name", zoo.BUILDERS)
def test_builders_have_the_agreed_signature(name):
    module, function = zoo.BUILDERS[name].split(":")
    build = getattr(importlib.import_module(module), function)
    assert list(inspect.signature(build).parameters)[:3] == ["weights", "device", "threads"]


def test_names():
    assert cbench.list_codecs() == list(zoo.BUILDERS)
    assert list(zoo.ABOUT) == list(zoo.BUILDERS)
    assert set(SHIPPED) <= set(zoo.BUILDERS)
    assert all(entry.codec == name for name, entry in SHIPPED.items())
    assert {entry.file for entry in SHIPPED.values()} == {path.name for path in FOLDER.glob("*.safetensors")}


def test_package_names_complete_and_resolve():
    for name in ("compress", "decompress", "load_codec", "list_codecs", "__version__"):
        assert name in dir(cbench)
        assert getattr(cbench, name)
    with pytest.raises(AttributeError, match="decompres"):
        cbench.decompres  # noqa: B018 - the access is the test


def test_codecs_are_built_once():
    assert isinstance(cbench.load_codec("png"), Codec)
    assert cbench.load_codec("png") is cbench.load_codec("png")
    assert cbench.load_codec("png") is not cbench.load_codec("png", threads=2)


def test_wrong_arguments_say_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'jpegxl'"):
        cbench.load_codec("jpegxll")
    with pytest.raises(ConfigError, match="there are: png, "):
        cbench.load_codec("?")
    with pytest.raises(ConfigError, match="threads"):
        cbench.load_codec("png", threads=0)
    with pytest.raises(DataNotFoundError, match=r"none\.safetensors"):
        cbench.load_codec("fsar.cifar10", weights=tmp_path / "none.safetensors")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(zoo.BUILDERS, "strange", "no_such_package.codec:build")
    with pytest.raises(ConfigError, match="pip install no_such_package"):
        cbench.load_codec("strange")


def test_weights_that_were_rewritten_are_loaded_again(tmp_path, monkeypatch):
    builds = []
    monkeypatch.setattr(zoo, "_import", lambda place: lambda *arguments: builds.append(arguments) or object())
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"1")
    first = zoo.load_codec("png", path)
    assert zoo.load_codec("png", str(path)) is first
    path.write_bytes(b"22")
    assert zoo.load_codec("png", path) is not first
    assert builds[0] == (path.resolve(), "cpu", 1)


def test_defaults():
    assert zoo.default_codec(PICTURE) == "jpegxl"
    assert zoo.default_codec(PICTURE.astype(np.uint16)) == "jpegxl"
    assert zoo.default_codec(np.zeros((50, 4, 4), np.int16)) == "rls.fast"
    assert zoo.default_codec(np.zeros((50, 4, 4), np.uint8)) == "jpegls"
    assert zoo.default_codec(PICTURE.astype(np.int32)) == "zstd"
    for array in (PICTURE, np.repeat(PICTURE, 4, axis=0).astype(np.int16), PICTURE.astype(np.int32)):
        assert np.array_equal(cbench.decompress(cbench.compress(array)), array)


@pytest.mark.parametrize("array", [np.zeros((3, 4, 4)), np.zeros((4, 4), np.uint8), np.zeros((1, 0, 4), np.uint8)])
def test_compress_refuses_what_is_no_picture(array):
    with pytest.raises(UnsupportedInputError, match="integers"):
        cbench.compress(array)


def test_decompress_finds_the_codec():
    for name in ("png", "jpegls", "zstd"):
        data = cbench.compress(PICTURE, codec=name)
        assert zoo.codec_of(data) == name
        assert np.array_equal(cbench.decompress(data), PICTURE)
        assert np.array_equal(cbench.decompress(wrap(data, {"file": {"format": "png"}})), PICTURE)


def test_decompress_refuses_clearly():
    with pytest.raises(WrongModelError, match=r"'future\.codec'"):
        cbench.decompress(pack(Header("future.codec", (1, 2, 2), "uint8"), b"data"))
    with pytest.raises(BitstreamError, match="neither"):
        cbench.decompress(b"hello, world, this is text")
    with pytest.raises(BitstreamError):
        cbench.decompress(b"")
    with pytest.raises(BitstreamError, match="decompress_many"):
        cbench.decompress(pack_archive(Header("png", (1, 2, 2), "uint8"), [b"x"]))
    with pytest.raises(BitstreamError, match="more than 10 samples"):
        cbench.decompress(cbench.compress(PICTURE, codec="zstd"), max_samples=10)


def test_decompress_many(monkeypatch):
    monkeypatch.setitem(zoo.BUILDERS, "raw", raw_codec.PLACE)
    arrays = [PICTURE, PICTURE[:, :3] + np.uint8(5)]
    data = zoo.load_codec("raw").compress_many(arrays)
    assert zoo.codec_of(data) == "raw"
    for array, decoded in zip(arrays, zoo.decompress_many(data), strict=True):
        assert np.array_equal(array, decoded)
    monkeypatch.delitem(zoo.BUILDERS, "raw")
    with pytest.raises(WrongModelError, match="'raw'"):
        zoo.decompress_many(data)
    with pytest.raises(UnsupportedInputError, match="png has no archives"):
        zoo.decompress_many(pack_archive(Header("png", (1, 2, 2), "uint8"), [b"x"]))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    for start in (b"", b"CBN\x1a\x01", b"CBA\x1a\x01", b"CBE\x1a\x01", b"\x89PNG\r\n\x1a\n", b"\xff\x0a"):
        with pytest.raises(CbenchError):
            cbench.decompress(start + data)


def test_weights_round_trip(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE, {"steps": 3, "data": "none"})
    save_weights(path, STATE, {"steps": 4})
    state, metadata = load_weights(path)
    assert metadata == {"steps": "4"}
    assert list(state) == sorted(STATE)
    for name, array in STATE.items():
        assert state[name].dtype == array.dtype
        assert np.array_equal(state[name], array)
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_weights_take_any_layout_and_torch_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.nn.Parameter(torch.from_numpy(a), a.dtype.kind == "f") for name, a in STATE.items()}
    turned = {**STATE, "conv.weight": np.asfortranarray(STATE["conv.weight"])}
    for number, state in enumerate((STATE, tensors, turned, dict(reversed(STATE.items())))):
        save_weights(tmp_path / f"{number}", state, {})
        assert fingerprint(state) == fingerprint(load_weights(tmp_path / f"{number}")[0])
        assert (tmp_path / f"{number}").read_bytes() == (tmp_path / "0").read_bytes()
        assert fingerprint(state) == fingerprint(STATE)


def test_fingerprints_tell_weights_apart():
    found = {
        fingerprint(state)
        for state in (
            STATE,
            {**STATE, "bias": np.array(3, np.int64)},
            {**STATE, "bias": np.array(2, np.int32)},
            {**STATE, "bias": np.array([2], np.int64)},
            {**STATE, "conv.weight": STATE["conv.weight"].reshape(3, 2)},
            {"conv.bias": STATE["bias"], "conv.weight": STATE["conv.weight"]},
        )
    }
    assert len(found) == 6
    assert all(len(value) == 4 for value in found)
    assert fingerprint(STATE) == bytes.fromhex("43991a83")


def test_bad_weights_files_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(DataNotFoundError, match="no weights file"):
        load_weights(path)
    save_weights(path, STATE, {})
    good = path.read_bytes()
    for bad in (b"", b"\x80\x04K\x01.", good[:-1], good[:20], b"\xff" * 100):
        path.write_bytes(bad)
        with pytest.raises(ConfigError, match="not a readable safetensors file"):
            load_weights(path)
    with pytest.raises(ConfigError, match="no"):
        save_weights(path, {"no": object()}, {})


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights(name):
    with pytest.raises(DataNotFoundError, match="nothing"):
        shipped("nothing")
    try:
        path = shipped(name)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    state, metadata = load_weights(path)
    assert state
    assert metadata, "weights say how they were trained"
