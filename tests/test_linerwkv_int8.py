"""LineRWKV's integer engine: the same numbers on every machine, near the float engine's; files say which made them."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shared import SHARED, needs_shared

torch = pytest.importorskip("torch")

import cbench  # noqa: E402
from cbench import _core  # noqa: E402
from cbench.coding.lines import LineDecoder, LineEncoder  # noqa: E402
from cbench.errors import CbenchError, UnsupportedInputError, WrongModelError  # noqa: E402
from cbench.models.linerwkv import checkpoint, config  # noqa: E402
from cbench.models.linerwkv.codec import LineRwkvCodec  # noqa: E402
from cbench.models.linerwkv.network import LineRwkv  # noqa: E402
from cbench.models.linerwkv.pipeline import PipelineCodec, core_network  # noqa: E402

KERNELS = _core.available_kernels()
GOLDEN = {
    0: "78044ca88b0ab2ce83842c0415a822c19434f8521bfa6b0999fe504e299a1190",
    3: "137a89803879b9750500cb40d3f65b777dd58b34b686974d4496465592bdcd4a",
}
"""SHA-256 of files: the bytes of a format never change."""


def numbers(count: int, seed: int) -> np.ndarray:
    """Integers below 2^31 - 1 that no library decides."""
    state = np.arange(1, count + 1, dtype=np.int64) * 104729 + seed * 15485863
    for _ in range(3):
        state = state * 48271 % 2147483647
    return state


def weights(features: int = 24, encoder_layers: int = 3) -> checkpoint.Weights:
    """A network with the weights of an integer sequence, near enough to ordinary ones."""
    shape = config.LineRwkvConfig(
        features=features, encoder_layers=encoder_layers, line_blocks=2, band_blocks=2, decoder_layers=2
    )
    state = LineRwkv(shape).state_dict()
    for place, (name, value) in enumerate(sorted(state.items())):
        drawn = torch.from_numpy(numbers(value.numel(), place) % 2049 - 1024).view(value.shape) / 4096
        state[name] = (drawn + 1 if "norm" in name or ".ln" in name else drawn).float()
    return checkpoint.build(state)


def scene(bands: int = 6, lines: int = 20, columns: int = 70, dtype: type = np.uint16) -> np.ndarray:
    """Smooth bands with noise, masked pixels and saturated samples."""
    band, line, column = np.indices((bands, lines, columns), np.int64)
    noise = (numbers(band.size, 1) >> 8).reshape(band.shape) % 61 - 30
    x = 800 + 37 * band + 11 * line * (band % 5) + ((line // 4 + column // 5) % 3) * (90 + 13 * band) + noise
    x[:, 5:9, 3:8] = 0
    x[3:4, 12:15] = 70000
    limits = np.iinfo(dtype)
    return np.clip(x - (1500 if limits.min < 0 else 0), limits.min, limits.max).astype(dtype)


def codec(max_error: int = 0, threads: int = 1, *, integers: bool = True) -> LineRwkvCodec:
    name = "linerwkv.xs-int8" if integers else "linerwkv.xs"
    return LineRwkvCodec(name, weights(), max_error, threads, integers=integers)


def check(one: LineRwkvCodec | PipelineCodec, x: np.ndarray) -> bytes:
    data = one.compress(x)
    decoded = one.decompress(data)
    assert (decoded.shape, decoded.dtype) == (x.shape, x.dtype)
    assert np.abs(decoded.astype(np.int64) - x).max() <= one.max_error
    return data


@pytest.fixture
def kernels():
    """Chooses kernels and restores the choice."""
    before = _core.kernels()
    yield _core.choose_kernels
    _core.choose_kernels(before)


@pytest.mark.parametrize("delta", [0, 1, 5, 20, 40])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_bounded_errors(delta, dtype):
    check(codec(delta), scene(columns=21, dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 1, 1), (1, 20, 1), (2, 18, 70)])
def test_any_size_and_content(shape):
    rng = np.random.default_rng(1)
    for x in (
        rng.integers(0, 65535, shape, np.uint16, endpoint=True),
        np.where(rng.random(shape) < 0.5, -32768, 32767).astype(np.int16),
        np.full(shape, 65535, np.uint16),
    ):
        for delta in (0, 32767):
            check(codec(delta), x)


@pytest.mark.parametrize("delta", sorted(GOLDEN))
def test_bytes_do_not_depend_on_kernels_or_threads(delta, kernels):
    x, files = scene(), set()
    for name in KERNELS:
        kernels(name)
        files |= {codec(delta, threads).compress(x) for threads in (1, 2, 3)}
    (data,) = files
    assert hashlib.sha256(data).hexdigest() == GOLDEN[delta]
    for name in KERNELS:
        kernels(name)
        for threads in (1, 2):
            assert np.abs(codec(threads=threads).decompress(data).astype(np.int64) - x).max() <= delta


@pytest.mark.parametrize("features", [8, 24, 96])
@pytest.mark.parametrize("encoder_layers", [1, 4])
def test_predictions_are_near_those_of_the_float_engine(features, encoder_layers, kernels):
    u = np.cumsum(np.random.default_rng(0).normal(size=(6, 4, 70)), 1).astype(np.float32) / 2
    found = []
    for name in KERNELS:
        kernels(name)
        network = core_network(weights(features, encoder_layers), integers=True)
        found.append(_core.LineEngine(network, 4, 70, 2).predict(u))
        assert np.array_equal(found[0], found[-1])
    exact = _core.LineEngine(core_network(weights(features, encoder_layers)), 4, 70, 1).predict(u)
    error = np.abs(found[0] - exact)
    assert 0 < np.median(error) < 0.03 * exact.std()


def test_numbers_that_are_none_stay_where_they_are(kernels):
    """A column without numbers spoils itself and its neighbours, alike with all kernels."""
    u = np.random.default_rng(0).normal(size=(4, 3, 70)).astype(np.float32)
    clean = _core.LineEngine(core_network(weights(), integers=True), 3, 70, 1).predict(u)
    u[1, 1, 40] = np.inf
    u[2, 2, 42] = np.nan
    found = []
    for name in KERNELS:
        kernels(name)
        found.append(_core.LineEngine(core_network(weights(), integers=True), 3, 70, 2).predict(u))
        assert np.array_equal(found[0], found[-1], equal_nan=True)
    assert np.array_equal(found[0][..., :32], clean[..., :32]) and np.array_equal(found[0][..., 50:], clean[..., 50:])


def test_state_can_be_saved_and_restored():
    u = np.random.default_rng(0).normal(size=(9, 3, 50)).astype(np.float32)
    network = core_network(weights(), integers=True)
    whole = _core.LineEngine(network, 3, 50, 1).predict(u)
    first, second = _core.LineEngine(network, 3, 50, 1), _core.LineEngine(network, 3, 50, 3)
    first.predict(u[:4])
    second.restore(first.save(), first.lines)
    assert np.array_equal(second.predict(u[4:]), whole[3:])


def test_files_and_streams_say_which_engine_made_them():
    x = scene(columns=21)
    for one, other in ((codec(), codec(integers=False)), (codec(integers=False), codec())):
        with pytest.raises(WrongModelError, match=f"not {other.name}"):
            other.decompress(one.compress(x))
        encoder = LineEncoder(one, 6, 21)
        stream = b"".join(encoder.push(line) for line in x.transpose(1, 0, 2)) + encoder.finish()
        with pytest.raises(WrongModelError, match=f"not by {other.name}"):
            LineDecoder(other).push(stream)
        assert np.array_equal(LineDecoder(one).push(stream).transpose(1, 0, 2), x)


def test_the_shipped_weights_serve_both_engines():
    x = scene(columns=21)
    data = cbench.compress(x, "linerwkv.xs-int8")
    assert np.array_equal(cbench.decompress(data), x)
    assert data != cbench.compress(x, "linerwkv.xs")


def test_damage_is_found():
    x, one, rng = scene(lines=9, columns=21), codec(), np.random.default_rng(0)
    data = one.compress(x)
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            one.decompress(bytes(damaged))
    for wrong in (data[:-7], data + b"x", b""):
        with pytest.raises(CbenchError):
            one.decompress(wrong)


@pytest.mark.parametrize("delta", [0, 3])
def test_the_pipeline_can_take_it_too(delta):
    check(PipelineCodec("linerwkv.tiny", weights(), delta, integers=True), scene(columns=21))


def test_sums_must_fit():
    with pytest.raises(UnsupportedInputError, match="512 features"):
        _core.LineNetwork(520, 1, 2, 2, 1, {}, True)


@needs_shared
def test_rate_on_enmap_is_that_of_the_float_engine():
    from cbench.data import envi_folder
    from cbench.models.linerwkv.codec import s, s_integers

    (sample,) = (x for x in envi_folder.hyperspectral_test(SHARED / "data") if x.name == "enmap_potsdam_c")
    x, path = np.ascontiguousarray(sample.array[:, :20]), SHARED / "weights" / "linerwkv" / "s.pth"
    data, other = check(s_integers(path, "cpu", 1), x), s(path, "cpu", 1).compress(x)
    assert abs(len(data) / len(other) - 1) < 0.001


@needs_shared
def test_measuring_tool():
    tool = Path(__file__).resolve().parent.parent / "tools/measure_lines.py"
    places = ["--weights", str(SHARED / "weights/linerwkv"), "--data", str(SHARED / "data/hyperspectral")]
    chosen = ["--sizes", "xs", "--cubes", "enmap_potsdam_c", "--lines", "2", "--delta", "2"]
    command = [sys.executable, str(tool), "engines", *places, *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert done.stdout.count("enmap_potsdam_c") == 2 and "linerwkv.xs-int8" in done.stdout


def test_experts_start_again_where_inputs_say_nothing():
    """Bands that are all alike, until they are not; the limit of the weights' variance is part of the format."""
    same = np.repeat((numbers(50 * 70, 1) % 4001).reshape(1, 50, 70), 6, 0)
    x = np.concatenate([same, (numbers(6 * 10 * 70, 2) % 4001).reshape(6, 10, 70)], 1).astype(np.uint16)
    careful, before = config.experts(integers=True), config.experts()
    assert careful.variance < before.variance and careful.experts == before.experts
    one, two = codec(), codec()
    two.experts = before
    assert check(one, x) != check(two, x)
    with pytest.raises(UnsupportedInputError, match="variance"):
        _core.RlsEncoder(before.numbers(), 1, 1, 0, 255, 0, one.network, 1, 0.5)
