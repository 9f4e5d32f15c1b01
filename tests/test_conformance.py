"""Every codec of `cbench.list_codecs()` faces the same awkward arrays and the same damage."""

from functools import cache

import numpy as np
import pytest
from conformance import awkward_arrays, bad_arrays

import cbench
from cbench.codec import ArchiveCodec, Codec
from cbench.coding.container import is_container
from cbench.errors import CbenchError, DataNotFoundError, UnsupportedInputError

ARRAYS = awkward_arrays()
TAKES_ANYTHING = ("zstd",)
TAKES_CUBES = ("png", "jpegls", "jpeg2000", "jpegxl", *TAKES_ANYTHING)


@cache
def load(name: str) -> Codec:
    try:
        return cbench.load_codec(name)
    except DataNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(params=cbench.list_codecs())
def codec(request) -> Codec:
    return load(request.param)


def error_of(array: np.ndarray, decoded: np.ndarray) -> int:
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    return int(np.abs(array.astype(np.int64) - decoded.astype(np.int64)).max())


def test_names_agree(codec):
    assert isinstance(codec, Codec)
    assert codec.name in cbench.list_codecs()
    assert codec.max_error is None or codec.max_error >= 0


@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip_or_clear_refusal(codec, name):
    array = ARRAYS[name]
    kept = array.copy()
    try:
        data = codec.compress(array)
    except UnsupportedInputError as error:
        # Every codec takes plain 8-bit RGB; those for cubes take more.
        assert not name.startswith("rgb8"), error
        assert codec.name not in TAKES_ANYTHING
        assert codec.name not in TAKES_CUBES or name == "int32"
        assert str(error)
        return
    assert isinstance(data, bytes)
    assert np.array_equal(array, kept)
    for decoded in (codec.decompress(data), cbench.decompress(data)):
        difference = error_of(array, decoded)
        assert codec.max_error is None or difference <= codec.max_error


@pytest.mark.parametrize("name", bad_arrays())
def test_bad_arrays_are_refused(codec, name):
    with pytest.raises(UnsupportedInputError):
        codec.compress(bad_arrays()[name])


def test_damage_never_crashes(codec):
    array = ARRAYS["rgb8-17x23"]
    data = codec.compress(array)
    rng = np.random.default_rng(0)
    checked = is_container(data) or codec.name == "png"
    for _ in range(60):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            decoded = cbench.decompress(bytes(damaged))
        except CbenchError:
            continue
        # A PNG has bytes that no picture depends on; our own files have none.
        assert not is_container(data)
        assert not checked or np.array_equal(decoded, array)
    for size in (0, 1, 4, len(data) // 2, len(data) - 1):
        with pytest.raises(CbenchError):
            cbench.decompress(data[:size])


def test_archives(codec):
    if not isinstance(codec, ArchiveCodec):
        pytest.skip(f"{codec.name} has no archives")
    arrays = [ARRAYS[name] for name in ("rgb8-17x23", "rgb8-1x1", "rgb8-noise", "rgb8-zero")]
    data = codec.compress_many(arrays)
    for array, decoded in zip(arrays, codec.decompress_many(data), strict=True):
        difference = error_of(array, decoded)
        assert codec.max_error is None or difference <= codec.max_error
    with pytest.raises(CbenchError):
        codec.decompress_many(data[:-1])


def test_threads_do_not_change_the_array(codec):
    array = ARRAYS["rgb8-33x64"]
    data = codec.compress(array)
    assert np.array_equal(cbench.decompress(data, threads=2), cbench.decompress(data))
