"""The adaptive hyperspectral codec: exact, bounded, independent of the machine, and robust."""

import hashlib

import numpy as np
import pytest
from shared import SHARED, needs_shared

import cbench
from cbench import _core
from cbench.codec import Codec, NearLossless
from cbench.coding.container import payload_size, unpack
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError
from cbench.models.rls import Expert, Experts, LineDecoder, LineEncoder, RlsCodec, recover
from cbench.models.rls import config as configs

FAST = RlsCodec("rls.fast", configs.fast())
CODECS = (FAST, RlsCodec("rls.e5", configs.e5()), RlsCodec("rls.slow", configs.slow()))
DELTAS = (0, 1, 2, 3, 4, 5, 10, 20, 40)
GOLDEN = {
    ("rls.fast", 0): "028b9772086f2402c5dc1bd93ed4a2482fd5167c8512c4633486b6c69b08e69f",
    ("rls.fast", 3): "14365b7555c261bf00a3b335de00c5d3f1712dd75e850dd2de7116ef03affb1f",
    ("rls.e5", 0): "2f29ba2d16aecdf0415a56cff0be6a40b3425ec0b0fa200fd2a9be77b214aeb9",
    ("rls.e5", 3): "69fbf3799c6dd73f6ea4e5c5d55ed6414582d6051b97325a9554359852fefdbc",
    ("rls.slow", 0): "f33da0d7926cbc8b5827c50752b6e3f59fb3332fca2797df68b7acb6bb9bdea5",
    ("rls.slow", 3): "650cbf240263f1b7b4c0831b59525c1e69dc82ccf26258a35612d89744bcb45b",
}
"""SHA-256 of files: the bytes of a format never change."""


def cube(bands=12, lines=20, columns=17, dtype=np.uint16, seed=1):
    """A smooth scene with noise, masked pixels and saturated samples, from integers only: the same on every machine."""
    band, line, column = np.indices((bands, lines, columns), np.int64)
    state = (band * 7919 + line * 104729 + column * 1299709 + seed * 15485863) % 2147483647
    for _ in range(3):
        state = state * 48271 % 2147483647
    noise = (state >> 8) % 61 - 30
    scene = 800 + 37 * band + 11 * line * (band % 5) + ((line // 4 + column // 5) % 3) * (90 + 13 * band) + noise
    scene[:, 5:9, 3:8] = 0
    scene[3:4, 12:15] = 70000
    limits = np.iinfo(dtype)
    return np.clip(scene - (1500 if limits.min < 0 else 0), limits.min, limits.max).astype(dtype)


def worst(a, b):
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return int(np.abs(a.astype(np.int64) - b).max())


@pytest.fixture
def kernels():
    """Chooses kernels and restores the choice."""
    before = _core.kernels()
    yield _core.choose_kernels
    _core.choose_kernels(before)


def test_protocols():
    for codec in CODECS:
        assert isinstance(codec, Codec)
        assert isinstance(codec, NearLossless)
        assert isinstance(cbench.load_codec(codec.name), RlsCodec)


SHAPES = [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 1, 1), (2, 1, 3), (3, 2, 1), (5, 3, 2), (90, 3, 4), (3, 3, 130)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_awkward_shapes(codec, shape):
    for dtype in (np.uint8, np.int16, np.uint16):
        limits, rng = np.iinfo(dtype), np.random.default_rng(sum(shape))
        for array in (
            cube(*shape, dtype=dtype),
            rng.integers(limits.min, limits.max, shape, dtype, endpoint=True),
            np.where(rng.random(shape) < 0.5, limits.min, limits.max).astype(dtype),
            np.full(shape, limits.max, dtype),
        ):
            for delta in (0, 2):
                bounded = codec.with_max_error(delta)
                assert worst(bounded.decompress(bounded.compress(array)), array) <= delta


@pytest.mark.parametrize("delta", DELTAS)
def test_error_bound(delta):
    array = cube()
    sizes = []
    for codec in CODECS:
        data = codec.with_max_error(delta).compress(array)
        # The bound is in the file: the plain codec decodes it.
        assert worst(codec.decompress(data), array) <= delta
        assert worst(cbench.decompress(data), array) <= delta
        sizes.append(len(data))
    assert max(sizes) < array.nbytes
    with pytest.raises(ConfigError, match="max_error"):
        FAST.with_max_error(-1)


def test_largest_bound_and_full_range():
    array = np.random.default_rng(3).integers(0, 65535, (3, 20, 30), np.uint16, endpoint=True)
    data = FAST.with_max_error(32767).compress(array)
    assert worst(FAST.decompress(data), array) <= 32767
    assert len(FAST.compress(array)) < array.nbytes * 1.1


def test_constant_cubes_cost_nothing():
    flat = np.full((20, 60, 50), 4321, np.uint16)
    assert len(FAST.compress(flat)) < 250
    # Long runs without information must not let the filters run away.
    tail = np.concatenate([flat, cube(20, 60, 50)], axis=1)
    assert np.array_equal(FAST.decompress(FAST.compress(tail)), tail)


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
@pytest.mark.parametrize("delta", [0, 3])
def test_golden_bytes_on_every_kernel_set(codec, delta, kernels):
    array = cube(60, 12, 21)
    bounded = codec.with_max_error(delta)
    files = []
    for name in _core.available_kernels():
        kernels(name)
        files.append(bounded.compress(array))
        assert worst(bounded.decompress(files[0]), array) <= delta
    assert len(set(files)) == 1
    assert hashlib.sha256(files[0]).hexdigest() == GOLDEN[codec.name, delta]


def test_arithmetic_of_the_caller_does_not_matter():
    torch = pytest.importorskip("torch")
    array = cube()
    plain = FAST.compress(array)
    torch.set_flush_denormal(True)
    try:
        assert FAST.compress(array) == plain
    finally:
        torch.set_flush_denormal(False)


def test_threads_and_blocks():
    array = cube(lines=23)
    blocks = FAST.with_block(5)
    data = blocks.compress(array)
    assert np.array_equal(FAST.decompress(data), array)
    two = RlsCodec("rls.fast", configs.fast(), threads=2, block=5)
    assert two.compress(array) == data
    assert np.array_equal(two.decompress(data), array)


@pytest.mark.parametrize("delta", [0, 4])
@pytest.mark.parametrize("block", [0, 1, 7])
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_streaming_is_the_file(delta, block, size):
    array = cube(lines=16, dtype=np.int16)
    codec = FAST.with_max_error(delta).with_block(block)
    data = codec.compress(array)
    encoder = LineEncoder(codec, 12, 17, "int16")
    stream = b"".join([encoder.push(line) for line in array.transpose(1, 0, 2)]) + encoder.finish()
    payload = unpack(data)[1][0]
    assert payload in stream
    assert len(stream) - len(payload) < 50
    decoder = LineDecoder(FAST)
    lines = [decoder.push(stream[i : i + size]) for i in range(0, len(stream), size)]
    decoder.finish()
    decoded = np.concatenate([some for some in lines if some.size])
    assert np.array_equal(decoded.transpose(1, 0, 2), codec.decompress(data))


def test_lines_come_while_the_stream_is_written():
    array = np.random.default_rng(1).integers(0, 65535, (20, 150, 80), np.uint16)
    encoder, decoder = LineEncoder(FAST, 20, 80), LineDecoder(FAST)
    arrived = sum(len(decoder.push(encoder.push(line))) for line in array.transpose(1, 0, 2))
    assert arrived > 75


def test_bad_lines_and_streams():
    encoder = LineEncoder(FAST, 3, 5)
    for line in (np.zeros((5, 3), np.uint16), np.zeros((3, 5)), np.zeros((3, 5), np.int16)):
        with pytest.raises(UnsupportedInputError, match="lines of this stream"):
            encoder.push(line)
    with pytest.raises(UnsupportedInputError, match="8 or 16 bits"):
        LineEncoder(FAST, 3, 5, "int32")
    stream = encoder.push(np.ones((3, 5), np.uint16)) + encoder.finish()
    with pytest.raises(ConfigError, match="ended"):
        encoder.push(np.ones((3, 5), np.uint16))
    with pytest.raises(WrongModelError, match="rls.fast"):
        LineDecoder(CODECS[1]).push(stream)
    decoder = LineDecoder(FAST)
    decoder.push(stream[:-1])
    with pytest.raises(BitstreamError, match="cut off"):
        decoder.finish()
    with pytest.raises(BitstreamError, match="behind the end"):
        LineDecoder(FAST).push(stream + b"x")
    for place in range(len(stream)):
        damaged = bytearray(stream)
        damaged[place] ^= 4
        decoder = LineDecoder(FAST)
        with pytest.raises(CbenchError):
            decoder.push(bytes(damaged))
            decoder.finish()


def test_a_destroyed_block_loses_only_itself():
    array = cube(lines=40)
    codec = FAST.with_block(8)
    data = codec.compress(array)
    start = data.index(b"\xb5RL\x1a", data.index(b"\xb5RL\x1a") + 1)
    damaged = bytearray(data)
    damaged[start : start + 300] = bytes(300)
    with pytest.raises(BitstreamError):
        codec.decompress(bytes(damaged))
    found = recover(codec, bytes(damaged))
    assert found.lost == ((8, 16),)
    kept = np.r_[0:8, 16:40]
    assert np.array_equal(found.array[:, kept], array[:, kept])
    assert recover(codec, data).lost == ()
    assert recover(codec, data[: len(data) // 2]).lost[-1][1] == 40


def test_damage_inside_the_payload_is_found_without_the_outer_checksum():
    array = cube(lines=9)
    data = FAST.compress(array)
    payload = unpack(data)[1][0]
    assert len(payload) == payload_size(data)
    head = unpack(data)[0]
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(payload)
        damaged[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        with pytest.raises(BitstreamError):
            FAST.decode(head, 0, bytes(damaged))
    for size in range(0, len(payload), 97):
        with pytest.raises(BitstreamError):
            FAST.decode(head, 0, payload[:size])


def test_the_coder_refuses_any_bytes_without_crashing():
    rng = np.random.default_rng(2)
    for size in (0, 1, 9, 400, 5000):
        decoder = _core.RlsDecoder(configs.fast().numbers(), 5, 8, 0, 65535, 0)
        decoder.feed(rng.bytes(size), True)
        with pytest.raises(BitstreamError):
            decoder.decode(30)
            decoder.finish()
    with pytest.raises(UnsupportedInputError, match="range"):
        _core.RlsEncoder(configs.fast().numbers(), 1, 1, 0, 255, 0).encode(np.full((1, 1, 1), 256, np.int32))


def test_configurations():
    mine = RlsCodec("rls.fast", Experts((Expert(3, 0.995, spatial=8, near=3),)))
    array = cube()
    assert np.array_equal(mine.decompress(mine.compress(array)), array)
    for wrong in ({"bands": 0}, {"bands": 81}, {"forgetting": 0.5}, {"own": 5}):
        with pytest.raises(ConfigError):
            Expert(**{"bands": 3, "forgetting": 0.99, **wrong})
    with pytest.raises(ConfigError, match="1 to 6"):
        Experts(())
    with pytest.raises(ConfigError, match="block"):
        FAST.with_block(-1)
    for array in (np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 4)), np.zeros((3, 4), np.uint16)):
        with pytest.raises(UnsupportedInputError):
            FAST.compress(array)


RATES = {
    ("rls.fast", "enmap_potsdam_c", 0): 5.50,
    ("rls.e5", "enmap_potsdam_c", 0): 5.48,
    ("rls.e5", "enmap_potsdam_c", 5): 2.20,
}


@needs_shared
@pytest.mark.parametrize(("name", "scene", "delta"), RATES)
def test_rate_on_a_real_cube(name, scene, delta):
    from cbench import files

    array = np.asarray(files.read(SHARED / "data/hyperspectral" / f"{scene}.hdr").array)
    codec = cbench.load_codec(name).with_max_error(delta)
    data = codec.compress(array)
    assert 8 * len(data) / array.size <= RATES[name, scene, delta]
    assert worst(codec.decompress(data), array) <= delta
