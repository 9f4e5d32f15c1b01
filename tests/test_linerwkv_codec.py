"""The pipeline of LineRWKV as a codec: exact on all kernels and threads, bounded errors, refusals; and its training."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from shared import SHARED, needs_shared

torch = pytest.importorskip("torch")

from cbench import _core  # noqa: E402
from cbench.coding import golomb  # noqa: E402
from cbench.data import samples  # noqa: E402
from cbench.errors import (  # noqa: E402
    BitstreamError,
    CbenchError,
    ConfigError,
    DataNotFoundError,
    UnsupportedInputError,
    WrongModelError,
)
from cbench.models.linerwkv import checkpoint, codec, config  # noqa: E402
from cbench.models.linerwkv.network import LineRwkv  # noqa: E402
from cbench.models.linerwkv.pipeline import PipelineCodec, core_network  # noqa: E402
from cbench.models.linerwkv.train import LineRwkvModule, causal_scale, codec_error  # noqa: E402

KERNELS = _core.available_kernels()
DELTAS = (0, 1, 2, 3, 4, 5, 10, 20, 40)
TINY = config.LineRwkvConfig(features=16, encoder_layers=3, line_blocks=2, band_blocks=2, decoder_layers=2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def tiny_weights() -> checkpoint.Weights:
    torch.manual_seed(7)
    return checkpoint.build(LineRwkv(TINY).state_dict())


def tiny(max_error: int = 0, threads: int = 1) -> PipelineCodec:
    return PipelineCodec("linerwkv.tiny", tiny_weights(), max_error, threads)


def scene(bands: int = 5, lines: int = 20, columns: int = 37, dtype: str = "uint16") -> np.ndarray:
    cube = samples.make_cube(bands, lines, columns, seed=3).astype(np.int64)
    limits = np.iinfo(dtype)
    return (cube * (limits.max - limits.min) // 65535 + limits.min).astype(dtype)


@pytest.fixture
def any_kernels():
    before = _core.kernels()
    yield _core.choose_kernels
    _core.choose_kernels(before)


def check(one: PipelineCodec, x: np.ndarray) -> bytes:
    data = one.compress(x)
    y = one.decompress(data)
    assert y.dtype == x.dtype
    assert np.abs(y.astype(int) - x.astype(int)).max() <= one.max_error
    return data


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_bounded_errors(delta, dtype):
    check(tiny(delta), scene(dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 1, 1), (1, 40, 1), (2, 17, 2), (4, 3, 65), (2, 18, 130)])
@pytest.mark.parametrize("delta", [0, 3])
def test_any_size(shape, delta):
    check(tiny(delta), np.random.default_rng(1).integers(0, 65535, shape, np.uint16, endpoint=True))


@pytest.mark.parametrize("value", [0, 77, 65535])
@pytest.mark.parametrize("delta", [0, 4, 32767])
def test_constant_and_broken_bands(value, delta):
    x = np.full((3, 20, 18), value, np.uint16)
    check(tiny(delta), x)
    x[1, ::3, ::2] = 60_000
    check(tiny(delta), x)


@pytest.mark.parametrize("delta", [0, 5])
def test_bytes_do_not_depend_on_kernels_or_threads(delta, any_kernels):
    x = scene(columns=150)
    files = set()
    for name in KERNELS:
        any_kernels(name)
        files |= {tiny(delta, threads).compress(x) for threads in (1, 2, 5)}
    assert len(files) == 1
    (data,) = files
    for name in KERNELS:
        any_kernels(name)
        for threads in (1, 3):
            assert np.abs(tiny(threads=threads).decompress(data).astype(int) - x).max() <= delta


def test_bytes_do_not_depend_on_the_denormal_mode():
    x = scene()
    data = tiny().compress(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush denormal numbers")
    try:
        assert tiny().compress(x) == data
        assert np.array_equal(tiny(threads=2).decompress(data), x)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("features", [8, 24, 40])
def test_engine_computes_what_the_network_does(features, any_kernels):
    torch.manual_seed(features)
    shape = replace(TINY, features=features, encoder_layers=2, line_blocks=3)
    weights = checkpoint.build(LineRwkv(shape).state_dict())
    u = np.random.default_rng(0).normal(size=(6, 70, 4)).astype(np.float32)
    with torch.no_grad():
        expected = weights.network(torch.from_numpy(u)[None])[0].numpy()
    for name in KERNELS:
        any_kernels(name)
        engine = _core.LineEngine(core_network(weights), 4, 70, 2)
        found = engine.predict(np.ascontiguousarray(u.transpose(0, 2, 1))).transpose(0, 2, 1)
        assert np.abs(found - expected).max() < 2e-5


def test_engine_state_can_be_saved_and_restored():
    u = np.random.default_rng(0).normal(size=(9, 3, 50)).astype(np.float32)
    network = core_network(tiny_weights())
    whole = _core.LineEngine(network, 3, 50, 1).predict(u)
    first = _core.LineEngine(network, 3, 50, 1)
    first.predict(u[:4])
    second = _core.LineEngine(network, 3, 50, 3)
    second.restore(first.save(), first.lines)
    assert np.array_equal(second.predict(u[4:]), whole[3:])
    with pytest.raises(UnsupportedInputError):
        _core.LineEngine(network, 3, 51, 1).restore(first.save(), 4)


def test_a_bound_travels_in_the_file():
    x = scene()
    data = tiny(5).compress(x)
    assert np.abs(tiny().decompress(data).astype(int) - x).max() == 5
    assert tiny().with_max_error(5).compress(x) == data
    with pytest.raises(ConfigError):
        tiny(-1)


def test_bad_input_and_damage():
    one, x = tiny(), scene()
    for bad in (x.astype(np.float32), x.astype(np.int32), x[0], x[:, :0]):
        with pytest.raises(UnsupportedInputError):
            one.compress(bad)
    data = one.compress(x)
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            one.decompress(bytes(broken))
    with pytest.raises(CbenchError):
        one.decompress(data[:-7])


def test_damaged_streams_are_recognised_below_the_checksum():
    x = np.ascontiguousarray(scene().transpose(1, 0, 2).astype(np.int32))
    network, form = core_network(tiny_weights()), (1, 0, 65535, 16)
    stream = _core.linerwkv_encode(network, x, *form)
    for wrong in (stream[: len(stream) // 2], stream + b"\0", b""):
        with pytest.raises(BitstreamError):
            _core.linerwkv_decode(network, wrong, *x.shape, *form)
    noise = np.random.default_rng(2).bytes(len(stream))
    with pytest.raises(BitstreamError):
        _core.linerwkv_decode(network, noise, *x.shape, *form)


def test_other_weights_are_refused(tmp_path):
    torch.manual_seed(8)
    other = PipelineCodec("linerwkv.tiny", checkpoint.build(LineRwkv(TINY).state_dict()))
    with pytest.raises(WrongModelError):
        other.decompress(tiny().compress(scene()))
    checkpoint.save(tmp_path / "w.safetensors", tiny_weights(), {})
    assert checkpoint.load(tmp_path / "w.safetensors").fingerprint() == tiny_weights().fingerprint()
    with pytest.raises(ConfigError):
        codec.xs(tmp_path / "w.safetensors", "cpu", 1)
    state = tiny_weights().network.state_dict()
    torch.save({"state_dict": state}, tmp_path / "lightning.ckpt")
    assert checkpoint.load(tmp_path / "lightning.ckpt").fingerprint() == tiny_weights().fingerprint()
    torch.save({k: v for k, v in state.items() if "ln1" not in k}, tmp_path / "less.pth")
    for name, error in (("less.pth", ConfigError), ("none.pth", DataNotFoundError)):
        with pytest.raises(error):
            checkpoint.load(tmp_path / name)
    (tmp_path / "text.pth").write_bytes(b"PK no archive")
    with pytest.raises(ConfigError):
        checkpoint.load(tmp_path / "text.pth")


def test_golomb_round_trip_and_damage():
    chance = np.random.default_rng(4)
    for params in (golomb.DEFAULT, golomb.GolombParams(depth=8, u_max=12, gamma_0=2, k=4, gamma_star=8)):
        mapped = (chance.geometric(0.05, (7, 3, 19)) % (1 << params.depth)).astype(np.uint16)
        mapped[3, 1, 5] = (1 << params.depth) - 1
        data = golomb.encode(mapped, params)
        assert np.array_equal(golomb.decode(data, mapped.shape, params), mapped)
        for wrong in (data[:-3], data + b"\0"):
            with pytest.raises(BitstreamError):
                golomb.decode(wrong, mapped.shape, params)
    with pytest.raises(UnsupportedInputError):
        golomb.encode(np.full((1, 1, 1), 300), golomb.GolombParams(depth=8))


@needs_shared
@pytest.mark.parametrize("size", ["xs", "s"])
@pytest.mark.parametrize("delta", [0, 1, 5, 20])
def test_published_weights_on_real_cubes(size, delta, any_kernels):
    """A corner of every cube; whole cubes are coded by the experiments in configs/linerwkv.py."""
    from cbench.data import envi_folder

    one = getattr(codec, f"{size}_pipeline")(SHARED / "weights" / "linerwkv" / f"{size}.pth", "cpu", 1).with_max_error(
        delta
    )
    for sample in envi_folder.cubes(SHARED / "data" / "hyperspectral"):
        x = np.ascontiguousarray(sample.array[:, :17, :16])
        any_kernels(KERNELS[-1])
        data = check(one, x)
        any_kernels(KERNELS[0])
        y = one.decompress(data)
        assert np.abs(y.astype(int) - x.astype(int)).max() <= delta


@needs_shared
def test_rate_on_enmap():
    """The published pipeline's payload is 6.108 bits a sample; this is a whole file."""
    from cbench.data import envi_folder

    (sample,) = (x for x in envi_folder.hyperspectral_test(SHARED / "data") if x.name == "enmap_potsdam_c")
    one = codec.xs_pipeline(SHARED / "weights" / "linerwkv" / "xs.pth", "cpu", 1)
    assert 8 * len(one.compress(np.asarray(sample.array))) / sample.array.size < 6.108


def test_training_sees_the_scale_that_the_codec_uses():
    x = torch.from_numpy(scene(3, 40, 9).astype(np.int32)).permute(1, 2, 0)[None].float()
    mu, sigma = causal_scale(x)
    for t in (0, 5, 16, 31, 32, 39):
        seen = x[0, : max(1, t // 16 * 16)].double().flatten(0, 1)
        assert np.array_equal(mu[0, t, 0].double().numpy(), seen.mean(0).round().numpy())
        assert np.array_equal(sigma[0, t, 0].double().numpy(), seen.std(0).round().clamp(min=1).numpy())


@pytest.mark.parametrize("codec_loss", [False, True])
def test_a_few_steps_of_training(codec_loss):
    torch.manual_seed(0)
    module = LineRwkvModule(config.LineRwkvTraining(model=TINY, positions=10, bands=5, codec_loss=codec_loss))
    module.peak_lr, module.total_steps = 5e-3, 40
    batch = torch.from_numpy(scene(8, 18, 16).astype(np.int32))[None]
    assert sum(len(group.parameters) for group in module.groups()) == len(list(module.network.parameters()))
    module.network.eval()
    before = module.loss(batch)["bpd"].item()
    optimizers = module.configure_optimizers()
    module.network.train()
    for _ in range(40):
        for optimizer, group in zip(optimizers, module.groups(), strict=True):
            optimizer.param_groups[0]["lr"] = module.peak_lr * group.lr
            optimizer.zero_grad()
        losses = module.loss(batch)
        losses["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
        module.step += 1
    assert module.peak_lr == pytest.approx(5e-3 * 0.002)
    module.network.eval()
    assert module.loss(batch)["bpd"].item() < before - 0.3
    check(module.codec(), scene(4, 17, 20))


def test_fine_tuning_starts_from_a_weights_file(tmp_path):
    checkpoint.save(tmp_path / "start.safetensors", tiny_weights(), {})
    module = LineRwkvModule(config.LineRwkvTraining(model=TINY))
    module.load(tmp_path / "start.safetensors")
    module.save(tmp_path / "end.safetensors", {"about": "not trained"})
    assert checkpoint.load(tmp_path / "end.safetensors").fingerprint() == tiny_weights().fingerprint()


def test_codec_error_is_what_the_codec_codes():
    """The training loss's errors, rounded, are the residuals that the engine would code."""
    x = torch.from_numpy(scene(4, 20, 12).astype(np.int32)).permute(1, 2, 0)[None]
    with torch.no_grad():
        error = codec_error(tiny_weights().network, x, 3, torch.arange(12))
    quantised = (x[0].numpy() + 1) // 3
    mu, sigma = (v[0].numpy() for v in causal_scale(torch.from_numpy(quantised * 3)[None].float()))
    u = ((quantised - mu / 3) / (sigma / 3)).astype(np.float32)
    engine = _core.LineEngine(core_network(tiny_weights()), 4, 12, 1)
    p = engine.predict(np.ascontiguousarray(u.transpose(0, 2, 1))).transpose(0, 2, 1)
    found = p * sigma[1:] / 3 + mu[1:] / 3 - quantised[1:]
    assert np.abs(error.permute(1, 0, 2).numpy() - found).max() < 1e-4 * sigma.max()
