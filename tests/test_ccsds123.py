"""CCSDS 123.0-B-2: byte counts of an implementation checked against the standard's test vectors, and limits."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from shared import SHARED, needs_shared

from cbench import _core
from cbench.coding.container import read_header
from cbench.coding.cube import CubeCodec
from cbench.data import envi_folder, samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError
from cbench.models.ccsds123.codec import best, ccsds123, hybrid

DELTAS = (0, 1, 2, 3, 4, 5, 10, 20, 40)
ANCHOR = "CCSDS-123.0-B-2 full, wide neighbour, P=3, sample-adaptive coder, Omega=19, D=16"
HYBRID = "CCSDS-123.0-B-2 full, wide neighbour, P={}, hybrid coder, Omega=19, D=16"
NEAR = "CCSDS-123.0-B-2 near-lossless full wide neighbour P=3 hybrid m={}"
ANCHOR_HEADER = 20
KINDS = (ccsds123, hybrid, best)
CUBES = ("enmap_potsdam_a", "enmap_potsdam_c", "abu_airport_4")


def ccsds(delta: int = 0, kind: Callable[..., CubeCodec] = ccsds123) -> CubeCodec:
    return kind(None, "cpu", 1).with_max_error(delta)


def check(codec: CubeCodec, x: np.ndarray) -> bytes:
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


@cache
def cube(name: str) -> np.ndarray:
    (sample,) = (s for s in envi_folder.cubes(SHARED / "data" / "hyperspectral") if s.name == name)
    return np.asarray(sample.array)


def anchor(name: str, codec: str) -> int:
    (row,) = (row for row in anchors()[name] if row["codec"] == codec)
    return row["bytes"] - ANCHOR_HEADER


@needs_shared
@pytest.mark.parametrize("name", CUBES)
def test_size_is_that_of_a_verified_implementation(name):
    payload, _ = ccsds().encode(cube(name))
    assert abs(len(payload) - anchor(name, ANCHOR)) <= 1


@needs_shared
@pytest.mark.parametrize("name", CUBES)
def test_size_with_the_hybrid_coder_is_that_of_a_verified_implementation(name):
    lines = np.ascontiguousarray(cube(name).transpose(1, 0, 2).astype(np.int32))
    for bound, previous, text in ((0, 3, HYBRID.format(3)), (0, 15, HYBRID.format(15))):
        stream, _ = _core.ccsds123_encode(lines, 16, 0, bound, previous, True)
        assert len(stream) == anchor(name, text)
    for bound in (1, 2, 5, 10, 20):
        payload, _ = ccsds(bound, hybrid).encode(cube(name))
        assert len(payload) == anchor(name, NEAR.format(bound))


@needs_shared
def test_best_takes_the_smallest_file():
    for name, size in (
        ("enmap_potsdam_c", anchor("enmap_potsdam_c", ANCHOR)),
        ("abu_airport_4", anchor("abu_airport_4", HYBRID.format(15))),
    ):
        data = check(ccsds(0, best), cube(name))
        assert len(data) <= size + 64


def test_low_entropy_codes_are_complete_and_those_of_the_standard():
    sizes = []
    for number in range(16):
        words = _core.ccsds123_code_words(number)
        for complete in (True, False):
            lengths = [length for _, _, length, whole in words if whole == complete]
            assert sum(2.0**-length for length in lengths) == 1
        sizes.append(sum(whole for *_, whole in words))
    assert sizes == [105, 144, 118, 120, 92, 116, 101, 81, 88, 106, 103, 127, 109, 145, 256, 257]
    published = {
        (0, "44C"): (0x1FFF, 13),
        (3, "4X"): (0x0DF, 10),
        (5, "20013"): (0xD7F, 12),
        (7, "112X"): (0x3FFFF, 18),
        (9, "0021"): (0xD7, 8),
        (11, "2X"): (0x37FFF, 20),
        (12, "0200X"): (0x1FFFFF, 21),
        (13, "0" * 45 + "2"): (0x0FF, 9),
        (15, "0" * 255 + "X"): (0x1FF, 9),
    }
    for (number, word), expected in published.items():
        (found,) = ((bits, length) for name, bits, length, whole in _core.ccsds123_code_words(number) if name == word)
        assert found == expected
    with pytest.raises(UnsupportedInputError):
        _core.ccsds123_code_words(16)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_the_bands_are_those_of_the_stream(kind):
    x = scene((9, 20, 31))
    codec = ccsds(2, kind)
    payload, _ = codec.encode(x)
    bits = codec.band_bits(x)
    tail = 0 if kind is ccsds123 else 9 * 24 + 200  # statistics and the last words of the hybrid coder
    assert bits.shape == (9,) and 8 * len(payload) - tail - 16 <= bits.sum() <= 8 * len(payload)


@needs_shared
@pytest.mark.parametrize("delta", [0, 1, 5, 20])
def test_real_cubes(delta):
    for sample in envi_folder.cubes(SHARED / "data" / "hyperspectral"):
        for kind in (ccsds123, hybrid):
            check(ccsds(delta, kind), np.asarray(sample.array))


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_bounded_errors(delta, dtype):
    for kind in KINDS:
        check(ccsds(delta, kind), scene(dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 1, 1), (1, 40, 1), (2, 17, 2), (25, 3, 5)])
@pytest.mark.parametrize("delta", [0, 3])
def test_any_size_and_noise(shape, delta):
    chance = np.random.default_rng(1)
    for kind in KINDS:
        codec = ccsds(delta, kind)
        check(codec, chance.integers(0, 65535, shape, np.uint16, endpoint=True))
        check(codec, (chance.integers(0, 2, shape) * 65535 - 32768).astype(np.int16))


@pytest.mark.parametrize("delta", [0, 40, 32767])
def test_constant_and_broken_bands(delta):
    for kind in KINDS:
        for value in (0, 77, 65535):
            x = np.full((5, 9, 18), value, np.uint16)
            check(ccsds(delta, kind), x)
            x[1, ::3, ::2] = 60_000
            check(ccsds(delta, kind), x)


@pytest.mark.parametrize("previous", [0, 1, 15])
def test_other_numbers_of_previous_bands(previous):
    lines = np.ascontiguousarray(scene((20, 9, 11)).transpose(1, 0, 2).astype(np.int32))
    for coder in (False, True):
        stream, restored = _core.ccsds123_encode(lines, 16, 0, 2, previous, coder)
        assert np.abs(restored - lines).max() <= 2
        assert np.array_equal(_core.ccsds123_decode(stream, *lines.shape, 16, 0, 2, previous, coder), restored)
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
    for kind in KINDS:
        codec = ccsds(0, kind)
        data = codec.compress(x)
        assert np.array_equal(kind(None, "cpu", 2).with_max_error(3).decompress(data), x)
        chance = np.random.default_rng(0)
        for _ in range(40):
            broken = bytearray(data)
            broken[chance.integers(len(data))] ^= 1 << chance.integers(8)
            with pytest.raises(CbenchError):
                codec.decompress(bytes(broken))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_streams_are_recognised_below_the_checksum(kind):
    codec, x = ccsds(0, kind), scene()
    payload, _ = codec.encode(x)
    head = read_header(codec.compress(x))
    for wrong in (payload[: len(payload) // 2], payload[:1] + payload[2:], payload + b"\0", b""):
        with pytest.raises(BitstreamError):
            codec.decode(head, 0, wrong)
    chance = np.random.default_rng(3)
    for _ in range(200):  # anything may come out, but it must end
        noise = bytes([chance.integers(4)]) + chance.bytes(len(payload) - 2) + b"\1"
        try:
            codec.decode(head, 2, noise)
        except BitstreamError:
            continue
