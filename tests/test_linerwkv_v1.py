"""LineRWKV beside adaptive experts (byte format 2): exact everywhere, bounded errors, streams, blocks, refusals."""

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from shared import SHARED, needs_shared

torch = pytest.importorskip("torch")

import cbench  # noqa: E402
from cbench import _core  # noqa: E402
from cbench.coding.container import unpack  # noqa: E402
from cbench.coding.lines import Experts, LineDecoder, LineEncoder, recover  # noqa: E402
from cbench.errors import (  # noqa: E402
    BitstreamError,
    CbenchError,
    ConfigError,
    UnsupportedInputError,
    WrongModelError,
)
from cbench.models.linerwkv import checkpoint, codec, config  # noqa: E402
from cbench.models.linerwkv.codec import LineRwkvCodec  # noqa: E402
from cbench.models.linerwkv.network import LineRwkv  # noqa: E402
from cbench.models.linerwkv.pipeline import PipelineCodec  # noqa: E402

KERNELS = _core.available_kernels()
DELTAS = (0, 1, 2, 3, 4, 5, 10, 20, 40)
TINY = config.LineRwkvConfig(features=8, encoder_layers=2, line_blocks=2, band_blocks=2, decoder_layers=2)
GOLDEN = {
    0: "724279ff92efbd57324b2dbee302ab244a40662bad97310151f4acafbe0a667c",
    3: "9cced0a5caa41e3356540c9c0133da094d8e8fadd0341ab3b1acd0e99f9076c0",
}
"""SHA-256 of files: the bytes of a format never change."""


def numbers(count: int, seed: int) -> np.ndarray:
    """Integers below 2^31 - 1 that no library decides."""
    state = np.arange(1, count + 1, dtype=np.int64) * 104729 + seed * 15485863
    for _ in range(3):
        state = state * 48271 % 2147483647
    return state


def scene(bands=6, lines=20, columns=21, dtype=np.uint16) -> np.ndarray:
    """Smooth bands with noise, masked pixels and saturated samples."""
    band, line, column = np.indices((bands, lines, columns), np.int64)
    noise = (numbers(band.size, 1) >> 8).reshape(band.shape) % 61 - 30
    x = 800 + 37 * band + 11 * line * (band % 5) + ((line // 4 + column // 5) % 3) * (90 + 13 * band) + noise
    x[:, 5:9, 3:8] = 0
    x[3:4, 12:15] = 70000
    limits = np.iinfo(dtype)
    return np.clip(x - (1500 if limits.min < 0 else 0), limits.min, limits.max).astype(dtype)


@cache
def weights(seed: int = 5) -> checkpoint.Weights:
    """A network with the weights of an integer sequence, near enough to ordinary ones."""
    state = LineRwkv(TINY).state_dict()
    for place, (name, value) in enumerate(sorted(state.items())):
        drawn = torch.from_numpy(numbers(value.numel(), seed + place) % 2049 - 1024).view(value.shape) / 4096
        state[name] = (drawn + 1 if "norm" in name or ".ln" in name else drawn).float()
    return checkpoint.build(state)


def tiny(max_error: int = 0, threads: int = 1, block: int = 0) -> LineRwkvCodec:
    return LineRwkvCodec("linerwkv.xs", weights(), max_error, threads).with_block(block)


def worst(a: np.ndarray, b: np.ndarray) -> int:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    return int(np.abs(a.astype(np.int64) - b).max())


def check(one: LineRwkvCodec, x: np.ndarray) -> bytes:
    data = one.compress(x)
    assert worst(one.decompress(data), x) <= one.max_error
    return data


@pytest.fixture
def kernels():
    """Chooses kernels and restores the choice."""
    before = _core.kernels()
    yield _core.choose_kernels
    _core.choose_kernels(before)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_bounded_errors(delta, dtype):
    check(tiny(delta), scene(dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 1, 1), (1, 20, 1), (2, 17, 2), (52, 3, 5), (2, 18, 70)])
def test_any_size_and_content(shape):
    rng = np.random.default_rng(1)
    for x in (
        rng.integers(0, 65535, shape, np.uint16, endpoint=True),
        np.where(rng.random(shape) < 0.5, -32768, 32767).astype(np.int16),
        np.full(shape, 65535, np.uint16),
    ):
        for delta in (0, 3, 32767):
            check(tiny(delta), x)


@pytest.mark.parametrize("delta", sorted(GOLDEN))
def test_bytes_do_not_depend_on_kernels_or_threads(delta, kernels):
    x, files = scene(columns=70), set()
    for name in KERNELS:
        kernels(name)
        files |= {tiny(delta, threads).compress(x) for threads in (1, 2, 3)}
    (data,) = files
    assert hashlib.sha256(data).hexdigest() == GOLDEN[delta]
    for name in KERNELS:
        kernels(name)
        for threads in (1, 2):
            assert worst(tiny(threads=threads).decompress(data), x) <= delta


def test_arithmetic_of_the_caller_does_not_matter():
    x = scene()
    plain = tiny().compress(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush denormal numbers")
    try:
        assert tiny().compress(x) == plain
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("columns", [16, 70, 133])
def test_strips_of_columns_that_threads_share(columns):
    x = scene(bands=5, lines=6, columns=columns)
    data = tiny(1).compress(x)
    for threads in (2, 3, 4):
        assert tiny(1, threads).compress(x) == data
        assert worst(tiny(threads=threads).decompress(data), x) <= 1


@pytest.mark.parametrize("what", ["memory", "threads"])
def test_measuring_tool(what, tmp_path):
    sizes = ["--lines", "9", "--bands", "4", "--columns", "33", "--repeats", "1", "--codec", "linerwkv.xs", "--plot"]
    tool = Path(__file__).resolve().parent.parent / "tools/measure_lines.py"
    command = [sys.executable, str(tool), what, *sizes, str(tmp_path / "memory.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert ("decoding: line 1: " if what == "memory" else "factor ") in done.stdout
    assert (tmp_path / "memory.png").exists() == (what == "memory")


def test_blocks_and_threads():
    x = scene(lines=23)
    data = check(tiny(block=5), x)
    assert tiny(threads=3, block=5).compress(x) == data
    assert np.array_equal(tiny(threads=2).decompress(data), x)


def test_a_destroyed_block_loses_only_itself():
    x = scene(lines=40)
    one = tiny(block=8)
    data = one.compress(x)
    start = data.index(b"\xb5RL\x1a", data.index(b"\xb5RL\x1a") + 1)
    damaged = bytearray(data)
    damaged[start : start + 200] = bytes(200)
    with pytest.raises(BitstreamError):
        one.decompress(bytes(damaged))
    found = recover(one, bytes(damaged))
    assert found.lost == ((8, 16),)
    kept = np.r_[0:8, 16:40]
    assert np.array_equal(found.array[:, kept], x[:, kept])
    assert recover(one, data).lost == ()
    with pytest.raises(WrongModelError):
        recover(LineRwkvCodec("linerwkv.xs", weights(6)), data)


@pytest.mark.parametrize("delta", [0, 4])
@pytest.mark.parametrize("block", [0, 7])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_streaming_is_the_file(delta, block, size):
    x = scene(lines=18, dtype=np.int16)
    one = tiny(delta, threads=2, block=block)
    data = one.compress(x)
    encoder = LineEncoder(one, 6, 21, "int16")
    stream = b"".join([encoder.push(line) for line in x.transpose(1, 0, 2)]) + encoder.finish()
    payload = unpack(data)[1][0]
    assert payload in stream
    decoder = LineDecoder(tiny())
    lines = [decoder.push(stream[i : i + size]) for i in range(0, len(stream), size)]
    decoder.finish()
    decoded = np.concatenate([some for some in lines if some.size])
    assert np.array_equal(decoded.transpose(1, 0, 2), one.decompress(data))


def test_bad_streams():
    encoder = LineEncoder(tiny(), 3, 5)
    with pytest.raises(UnsupportedInputError, match="lines of this stream"):
        encoder.push(np.zeros((5, 3), np.uint16))
    stream = encoder.push(np.ones((3, 5), np.uint16)) + encoder.finish()
    with pytest.raises(WrongModelError, match="weights"):
        LineDecoder(LineRwkvCodec("linerwkv.xs", weights(6))).push(stream)
    with pytest.raises(WrongModelError, match=r"not by rls\.e5"):
        LineDecoder(cbench.load_codec("rls.e5")).push(stream)
    for place in range(len(stream)):
        damaged = bytearray(stream)
        damaged[place] ^= 4
        decoder = LineDecoder(tiny())
        with pytest.raises(CbenchError):
            decoder.push(bytes(damaged))
            decoder.finish()


def test_damage_is_found_with_and_without_the_outer_checksum():
    x, one, rng = scene(lines=9), tiny(), np.random.default_rng(0)
    data = one.compress(x)
    head, (payload,) = unpack(data)
    for _ in range(40):
        for intact, decode in ((data, one.decompress), (payload, lambda p: one.decode(head, 0, p))):
            damaged = bytearray(intact)
            damaged[rng.integers(len(intact))] ^= 1 << rng.integers(8)
            with pytest.raises(CbenchError):
                decode(bytes(damaged))
    for wrong in (data[:-7], data + b"x", b""):
        with pytest.raises(CbenchError):
            one.decompress(wrong)


def test_the_coder_refuses_any_bytes_without_crashing():
    rng = np.random.default_rng(2)
    for size in (0, 1, 9, 400, 5000):
        decoder = _core.RlsDecoder(config.experts().numbers(), 5, 8, 0, 65535, 0, tiny().network, 2)
        decoder.feed(rng.bytes(size), True)
        with pytest.raises(BitstreamError):
            decoder.decode(30)
            decoder.finish()


def test_experts_and_network_belong_together():
    for experts, network in ((config.experts(), None), (cbench.load_codec("rls.e5").experts, tiny().network)):
        with pytest.raises(UnsupportedInputError, match="network"):
            _core.RlsEncoder(experts.numbers(), 1, 1, 0, 255, 0, network)
    assert config.experts().network
    assert not Experts(cbench.load_codec("rls.fast").experts.experts).network


def test_other_weights_and_formats(tmp_path):
    x = scene()
    with pytest.raises(WrongModelError, match="weights"):
        LineRwkvCodec("linerwkv.xs", weights(6)).decompress(tiny().compress(x))
    with pytest.raises(WrongModelError, match="not linerwkv.xs"):
        tiny().decompress(cbench.load_codec("rls.e5").compress(x))
    # Byte format 1 of the same name is the paper's pipeline, and is still read.
    first = PipelineCodec("linerwkv.xs", weights()).with_max_error(2).compress(x)
    assert worst(tiny().decompress(first), x) <= 2
    checkpoint.save(tmp_path / "w.safetensors", weights(), {})
    for build in (codec.xs, codec.l_pipeline):
        with pytest.raises(ConfigError, match="another size"):
            build(tmp_path / "w.safetensors", "cpu", 1)


def test_coding_needs_no_torch(tmp_path):
    checkpoint.save(tmp_path / "xs.safetensors", checkpoint.build(LineRwkv(config.xs()).state_dict()), {})
    code = f"""
import sys
import numpy as np
import cbench
data = cbench.compress(np.zeros((2, 3, 4), np.uint16), "linerwkv.xs", weights={str(tmp_path / "xs.safetensors")!r})
assert not cbench.decompress(data, weights={str(tmp_path / "xs.safetensors")!r}).any()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("size", [*config.SIZES.values(), config.tiny])
def test_names_and_shapes_are_those_of_the_network(size):
    state = LineRwkv(size()).state_dict()
    assert checkpoint.shapes(size()) == {name: tuple(value.shape) for name, value in state.items()}


def test_a_useless_network_costs_little():
    """The experts learn not to listen."""
    x = scene(bands=12, lines=24, columns=32)
    mine, plain = len(tiny().compress(x)), len(cbench.load_codec("rls.e5").compress(x))
    assert mine < 1.03 * plain


@needs_shared
@pytest.mark.parametrize("size", ["xs", "s"])
@pytest.mark.parametrize("delta", [0, 1, 5, 20])
def test_published_weights_on_real_cubes(size, delta, kernels):
    """A corner of every cube, every third band; whole cubes are coded by the experiments in configs/linerwkv.py."""
    from cbench.data import envi_folder

    path = SHARED / "weights" / "linerwkv" / f"{size}.pth"
    one, two = (getattr(codec, size)(path, "cpu", threads).with_max_error(delta) for threads in (1, 2))
    for sample in envi_folder.cubes(SHARED / "data" / "hyperspectral"):
        x = np.ascontiguousarray(sample.array[::3, :17, :16])
        kernels(KERNELS[-1])
        data = check(one, x)
        kernels(KERNELS[0])
        assert worst(one.decompress(data), x) <= delta
    assert delta or two.compress(x) == data


@needs_shared
def test_rate_on_enmap():
    """Below the 5.442 bits of `rls.e5`, which has the same experts and no network."""
    from cbench.data import envi_folder

    (sample,) = (x for x in envi_folder.hyperspectral_test(SHARED / "data") if x.name == "enmap_potsdam_c")
    one, x = codec.s(SHARED / "weights" / "linerwkv" / "s.pth", "cpu", 1), np.asarray(sample.array)
    data = check(one, x)
    assert 8 * len(data) / x.size < 5.44
