"""CCSDS 123.0-B-2: byte counts of an implementation checked against the standard's test vectors, and limits."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from shared import SHARED, needs_shared

from cbench import _core
from cbench.coding.container import read_header
from cbench.data import envi_folder, samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError
from cbench.models.ccsds123.codec import Ccsds123Codec, ccsds123

DELTAS = (0, 1, 2, 3, 4, 5, 10, 20, 40)
ANCHOR = "CCSDS-123.0-B-2 full, wide neighbour, P=3, sample-adaptive coder, Omega=19, D=16"
ANCHOR_HEADER = 20
CUBES = ("enmap_potsdam_a", "enmap_potsdam_c", "abu_airport_4")


def ccsds(delta: int = 0) -> Ccsds123Codec:
    return ccsds123(None, "cpu", 1).with_max_error(delta)


def check(codec: Ccsds123Codec, x: np.ndarray) -> bytes:
    data = codec.compress(x)
    y = codec.decompress(data)
    assert y.dtype == x.dtype
    assert np.abs(y.astype(int) - x.astype(int)).max() <= codec.max_error
    return data


def scene(shape=(7, 12, 19), dtype="uint16") -> np.ndarray:
    cube = samples.make_cube(*shape, seed=5).astype(np.int64)
    limits = np.iinfo(dtype)
    return (cube * (limits.max - limits.min) // 65535 + limits.min).astype(dtype)


@cache
def anchors() -> dict:
    return json.loads((SHARED / "fixtures" / "anchors" / "hyperspectral.json").read_text())["results"]


@needs_shared
@pytest.mark.parametrize("name", CUBES)
def test_size_is_that_of_a_verified_implementation(name):
    (sample,) = (s for s in envi_folder.cubes(SHARED / "data" / "hyperspectral") if s.name == name)
    payload, _ = ccsds().encode(np.asarray(sample.array))
    (anchor,) = (row for row in anchors()[name] if row["codec"] == ANCHOR)
    assert abs(len(payload) - (anchor["bytes"] - ANCHOR_HEADER)) <= 1


@needs_shared
@pytest.mark.parametrize("delta", [0, 1, 5, 20])
def test_real_cubes(delta):
    for sample in envi_folder.cubes(SHARED / "data" / "hyperspectral"):
        check(ccsds(delta), np.asarray(sample.array))


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_bounded_errors(delta, dtype):
    check(ccsds(delta), scene(dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 1, 1), (1, 40, 1), (2, 17, 2), (25, 3, 5)])
@pytest.mark.parametrize("delta", [0, 3])
def test_any_size_and_noise(shape, delta):
    chance = np.random.default_rng(1)
    codec = ccsds(delta)
    check(codec, chance.integers(0, 65535, shape, np.uint16, endpoint=True))
    check(codec, (chance.integers(0, 2, shape) * 65535 - 32768).astype(np.int16))


@pytest.mark.parametrize("delta", [0, 40, 32767])
def test_constant_and_broken_bands(delta):
    for value in (0, 77, 65535):
        x = np.full((5, 9, 18), value, np.uint16)
        check(ccsds(delta), x)
        x[1, ::3, ::2] = 60_000
        check(ccsds(delta), x)


@pytest.mark.parametrize("previous", [0, 1, 15])
def test_other_numbers_of_previous_bands(previous):
    lines = np.ascontiguousarray(scene((20, 9, 11)).transpose(1, 0, 2).astype(np.int32))
    stream, restored = _core.ccsds123_encode(lines, 16, 0, 2, previous)
    assert np.abs(restored - lines).max() <= 2
    assert np.array_equal(_core.ccsds123_decode(stream, *lines.shape, 16, 0, 2, previous), restored)
    with pytest.raises(UnsupportedInputError):
        _core.ccsds123_encode(lines, 16, 0, 0, 16)


def test_bad_input_and_damage():
    codec, x = ccsds(), scene()
    for bad in (x.astype(np.float32), x.astype(np.int32), x[0], x[:, :0]):
        with pytest.raises(UnsupportedInputError):
            codec.compress(bad)
    for bound in (-1, 32768):
        with pytest.raises(ConfigError):
            ccsds(bound)
    with pytest.raises(ConfigError):
        ccsds123(Path("weights"), "cpu", 1)
    data = codec.compress(x)
    assert np.array_equal(ccsds123(None, "cpu", 2).with_max_error(3).decompress(data), x)
    chance = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        broken[chance.integers(len(data))] ^= 1 << chance.integers(8)
        with pytest.raises(CbenchError):
            codec.decompress(bytes(broken))


def test_damaged_streams_are_recognised_below_the_checksum():
    codec, x = ccsds(), scene()
    payload, _ = codec.encode(x)
    head = read_header(codec.compress(x))
    for wrong in (payload[: len(payload) // 2], payload + b"\0", b""):
        with pytest.raises(BitstreamError):
            codec.decode(head, 0, wrong)
    chance = np.random.default_rng(3)
    for _ in range(200):  # anything may come out, but it must end
        noise = chance.bytes(len(payload))
        try:
            codec.decode(head, 2, noise)
        except BitstreamError:
            continue
