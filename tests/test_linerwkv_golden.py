"""LineRWKV against numbers made by the original: blocks, predictions, training, coder bytes (shared fixtures)."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest
from shared import SHARED, needs_shared

torch = pytest.importorskip("torch")

from cbench import _core  # noqa: E402
from cbench.coding import golomb  # noqa: E402
from cbench.models.linerwkv import checkpoint, config  # noqa: E402
from cbench.models.linerwkv.network import LineRwkv  # noqa: E402
from cbench.models.linerwkv.pipeline import core_network  # noqa: E402
from cbench.models.linerwkv.train import LineRwkvModule, columns_error  # noqa: E402
from cbench.models.linerwkv.wkv import empty_state, wkv, wkv_scan, wkv_step  # noqa: E402

pytestmark = needs_shared
PARAMETERS = {"xs": 30_466, "s": 135_042, "m": 286_082, "l": 900_290}
CONTENT = {
    "xs": "8968dab189eed829c544ba1e89c8b743cd21975605d6e08634d6f94ac9924b03",
    "s": "420043749e1bfca0b4118037746025c5e3bc0c235c95fd99368200feb2dbbe6c",
    "m": "e1b19b36bed77c87f53f2074127a30841cabc8da5649bf66993f04f0ecde4880",
    "l": "ddd9c1b02c9277198ffc0502ec70c2baa2f61c673af142eecd458290e6c269da",
}
CASES = [(cube, size) for cube in ("syn", "enmap") for size in ("xs", "s")]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(SHARED / "fixtures" / "linerwkv" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@cache
def weights(size: str) -> checkpoint.Weights:
    return checkpoint.load(SHARED / "weights" / "linerwkv" / f"{size}.pth")


@cache
def network(size: str, dtype: torch.dtype) -> LineRwkv:
    net = LineRwkv(config.SIZES[size]())
    net.load_state_dict(weights(size).network.state_dict())
    return net.to(dtype).requires_grad_(False)


def published_scale(cube: str, size: str, delta: int, dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, mu and sigma (T, C or 1, I) as the original's codec forms them from its side information."""
    data, q = fixture(f"codec_{cube}_{size}"), 2 * delta + 1
    x = np.round(fixture(f"cube_{cube}")["cube"] / q)
    mu = np.repeat(data["mu_enc"], 16, axis=0)[: len(x), None].astype(dtype) / dtype(q)
    sigma = np.repeat(data["sigma_enc"], 16, axis=0)[: len(x), None].astype(dtype) / dtype(q) + dtype(1e-8)
    return x.astype(dtype), mu, sigma


@pytest.mark.parametrize("size", PARAMETERS)
def test_published_weights(size):
    net = weights(size).network
    assert net.config == config.SIZES[size]()
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[size]
    digest = hashlib.sha256()
    for name in torch.load(SHARED / "weights" / "linerwkv" / f"{size}.pth", weights_only=True):
        digest.update(name.encode() + net.state_dict()[name].numpy().tobytes())
    assert digest.hexdigest() == CONTENT[size]


@pytest.mark.parametrize("size", ["xs", "m"])
def test_initial_time_parameters(size):
    state = LineRwkv(config.SIZES[size]()).state_dict()
    for key, value in fixture("init_time_params").items():
        if key.startswith(size + "/"):
            assert np.abs(state[key.removeprefix(size + "/")].numpy() - value).max() <= 1e-6, key


@pytest.mark.parametrize("form", [wkv, wkv_scan])
def test_wkv_and_its_gradients(form):
    f = {k.removeprefix("wkv/"): torch.from_numpy(v) for k, v in fixture("blocks").items() if k.startswith("wkv/")}
    names = ("time_decay", "time_first", "k", "v")
    args = [f[name].clone().requires_grad_() for name in names]
    y = form(*args)
    assert (y - f["y"]).abs().max() < 1e-12
    (y * f["gy"]).sum().backward()
    for name, arg in zip(names, args, strict=True):
        assert (arg.grad - f[f"g_{name}"]).abs().max() < 1e-11, name


def test_wkv_float32_and_odd_channels():
    chance = torch.Generator().manual_seed(3)
    k, v, gy = (torch.randn(5, 40, 19, generator=chance) * 3 for _ in range(3))
    d, f = torch.randn(19, generator=chance), torch.randn(19, generator=chance)
    results = []
    for form, dtype in ((wkv, torch.float32), (wkv_scan, torch.float64)):
        args = [x.to(dtype).clone().requires_grad_() for x in (d, f, k, v)]
        y = form(*args)
        (y * gy.to(dtype)).sum().backward()
        results.append([y.detach(), *(x.grad for x in args)])
    for single, double in zip(*results, strict=True):
        assert (single - double).abs().max() < 2e-5 * double.abs().max()


def test_wkv_step_is_the_same_recurrence():
    f = {k.removeprefix("wkv/"): torch.from_numpy(v) for k, v in fixture("blocks").items() if k.startswith("wkv/")}
    state = empty_state((2, 32), f["k"])
    for t in range(f["k"].shape[1]):
        y, state = wkv_step(f["time_decay"], f["time_first"], f["k"][:, t], f["v"][:, t], state)
        assert (y - f["y"][:, t]).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["bands0", "lines1"])
def test_blocks(name):
    f = {k.split("/")[1]: torch.from_numpy(v) for k, v in fixture("blocks").items() if k.startswith(name)}
    stack, index = ("blocks_bands", 0) if name == "bands0" else ("blocks_lines", 1)
    block = getattr(network("xs", torch.float64), stack)[index]
    assert (block.att(f["x"]) - f["time_mix"]).abs().max() < 1e-12
    shifted = torch.nn.functional.pad(f["x"], (0, 0, 1, -1))
    assert (block.ffn(f["x"], shifted) - f["channel_mix"]).abs().max() < 1e-12
    (out,) = (v for k, v in f.items() if k not in ("x", "time_mix", "channel_mix"))
    assert (block(f["x"]) - out).abs().max() < 1e-12


@pytest.mark.parametrize("size", ["xs", "s"])
def test_encoder_and_decoders(size):
    f, net = {k: torch.from_numpy(v) for k, v in fixture("blocks").items()}, network(size, torch.float64)
    a = net.encoder(f[f"enc_{size}/x"])
    assert (a - f[f"enc_{size}/y"].permute(0, 1, 3, 4, 2)).abs().max() < 1e-12
    p = net.decoder(f[f"dec_{size}/x_spatial"] + f[f"dec_{size}/delta"])
    assert (p - f[f"dec_{size}/y"]).abs().max() < 1e-12
    assert (net.bandzerodec(f[f"b0_{size}/x"]) - f[f"b0_{size}/y"][..., 0]).abs().max() < 1e-12


@pytest.mark.parametrize(("cube", "size"), CASES)
@pytest.mark.parametrize("delta", [0, 1, 5])
def test_predictions(cube, size, delta, record_property):
    """float64: both forms to 1e-9. float32: within 1e-4 of the deviation of a band, which is what the network sees."""
    data = fixture(f"codec_{cube}_{size}")
    x, mu, sigma = published_scale(cube, size, delta, np.float64)
    u = torch.from_numpy((x - mu) / sigma)
    forms = {
        "parallel": network(size, torch.float64)(u[None])[0],
        "recurrent": torch.stack(list(network(size, torch.float64).lines(u))),
    }
    for name, p in forms.items():
        error = np.abs(p.numpy() * sigma[1:] + mu[1:] - data[f"d{delta}_pred_f64"]).max()
        record_property(f"float64 {name}", float(error))
        assert error < 1e-9, name
    x, mu, sigma = published_scale(cube, size, delta, np.float32)
    u = (x - mu) / sigma
    single = network(size, torch.float32)
    forms = {
        "parallel": single(torch.from_numpy(u)[None])[0].numpy(),
        "recurrent": torch.stack(list(single.lines(torch.from_numpy(u)))).numpy(),
        "engine": engine_predictions(size, u),
    }
    for name, p in forms.items():
        error = np.abs(p * sigma[1:] + mu[1:] - data[f"d{delta}_pred_f64"])
        record_property(f"float32 {name} DN", float(error.max()))
        record_property(f"float32 {name} relative", float((error / sigma[1:]).max()))
        assert (error / sigma[1:]).max() < 1e-4, name
        assert error.max() < (5e-3 if cube == "syn" else 1e-2), name


def engine_predictions(size: str, u: np.ndarray, threads: int = 1) -> np.ndarray:
    """(T, C, I) normalised -> (T - 1, C, I) by the C++ engine."""
    engine = _core.LineEngine(core_network(weights(size)), u.shape[2], u.shape[1], threads)
    return engine.predict(np.ascontiguousarray(u.transpose(0, 2, 1))).transpose(0, 2, 1)


@pytest.mark.parametrize(("cube", "size"), CASES)
def test_intermediate_features(cube, size):
    data, net = fixture(f"codec_{cube}_{size}"), network(size, torch.float64)
    x, mu, sigma = published_scale(cube, size, 0, np.float64)
    a = net.encoder(torch.from_numpy((x - mu) / sigma))
    past = net.blocks_lines.start(a[0])
    for t in range(18):
        s = net.blocks_lines.step(a[t], past)
        if t not in (0, 17):
            continue
        columns = len(data[f"t{t}_a_prev"])
        b = net.blocks_bands(a[t + 1] - s)
        p = net.decoder(s[:, 1:] + b[:, :-1])
        zero = net.bandzerodec(s[:, 0]) + torch.from_numpy((x - mu) / sigma)[t, :, 0]
        for key, value in (("a_prev", a[t]), ("x_spatial", s), ("a_cur", a[t + 1]), ("delta_out", b)):
            expected = data[f"t{t}_{key}"]
            assert np.abs(value[:columns].numpy() - expected).max() < 1e-6 * np.abs(expected).max() + 1e-6, (t, key)
        assert np.abs(p[:columns].numpy() - data[f"t{t}_dec_norm"]).max() < 1e-5
        assert np.abs(zero[:columns].numpy() - data[f"t{t}_b0_norm"]).max() < 1e-5


@pytest.mark.parametrize("size", ["xs", "s"])
@pytest.mark.parametrize(("kind", "bound"), [("f64", 1e-12), ("f32", 1e-5)])
def test_training_form(size, kind, bound):
    dtype = torch.float64 if kind == "f64" else torch.float32
    x = torch.from_numpy(np.float32(fixture("cube_syn")["cube"]) / np.float32(1000)).to(dtype)[None]
    mu, sigma = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
    with torch.no_grad():
        p = network(size, dtype)((x - mu) / (sigma + 1e-8)) * sigma + mu
    assert np.abs(p[0].numpy() - fixture(f"codec_syn_{size}")[f"train_form_pred_{kind}"]).max() < bound


def test_training_steps():
    """Losses of three steps of the published recipe, gradients of the first, parameters after the third."""
    f = fixture("train_step_xs")
    module = LineRwkvModule(config.LineRwkvTraining(model=config.xs()))
    module.network.load_state_dict(weights("xs").network.state_dict())
    net = module.network.double().requires_grad_(True)
    module.peak_lr = 5e-4
    optimizers = module.configure_optimizers()
    image = torch.from_numpy(f["img"]).double()
    assert np.array_equal(f["img"][:, 1:], f["lab"][:, :-1])
    for step, expected in enumerate(f["loss"]):
        loss = columns_error(net, image, torch.from_numpy(f["pos"][step])).abs().mean()
        assert abs(loss.item() - expected) < 1e-13
        net.zero_grad()
        loss.backward()
        if step == 0:
            for name, parameter in net.named_parameters():
                assert np.abs(parameter.grad.numpy() - f[f"grad/{name}"]).max() < 1e-13, name
        for optimizer in optimizers:
            optimizer.step()
    state = net.state_dict()
    for key in (key for key in f if key.startswith("after3/")):
        assert np.abs(state[key.removeprefix("after3/")].detach().numpy() - f[key]).max() < 1e-12, key


@pytest.mark.parametrize("case", "abcdefghi")
def test_golomb_cases(case):
    mapped, expected = fixture("golomb_cases")[f"{case}/mapped"], fixture("golomb_cases")[f"{case}/bytes"].tobytes()
    lines = np.ascontiguousarray(mapped.transpose(0, 2, 1))
    assert golomb.encode(lines) == expected
    assert np.array_equal(golomb.decode(expected, lines.shape), lines)


@pytest.mark.parametrize(("cube", "size"), CASES)
@pytest.mark.parametrize("delta", [0, 1, 5])
def test_residuals_reconstructions_and_bytes(cube, size, delta):
    """The published pipeline from the published predictions: residuals, Golomb stream, reconstruction."""
    data, q = fixture(f"codec_{cube}_{size}"), 2 * delta + 1
    x = np.round(fixture(f"cube_{cube}")["cube"] / q).astype(np.int32)
    p = data[f"d{delta}_pred_par_f32"]
    prediction = np.where(data[f"d{delta}_warn"] > 0, np.floor(p), np.round(p)).clip(-16383, 16383).astype(np.int32)
    first = x[0].copy()
    first[1:, 0] -= x[0, :-1, 0]
    first[:, 1:] -= x[0, :, :-1]
    residual = np.concatenate([first[None], x[1:] - prediction])
    assert np.array_equal(residual, data[f"d{delta}_residual"])
    assert np.array_equal(q * x, data[f"d{delta}_recon"])
    mapped = np.where(residual >= 0, 2 * residual, -2 * residual - 1).astype(np.uint16)
    stream = golomb.encode(np.ascontiguousarray(mapped.transpose(0, 2, 1)))
    assert stream == data[f"d{delta}_golomb_bytes"].tobytes()
    rate = json.loads(str(data[f"d{delta}_sizes_json"]))
    assert any(abs(8 * len(stream) / x.size - value) < 1e-3 for value in rate.values() if isinstance(value, float))
