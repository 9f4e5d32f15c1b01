"""FSAR's `Coder-ar`: linear autoregression of the pixels, against vectors made by the original code, and as a codec."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared

from cbench.coding import DecodeIO, EncodeIO, Tables
from cbench.coding.pixels import LEVEL_SHIFT, LinearModel, PixelMap
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, UnsupportedInputError
from cbench.models.fsar import checkpoint, config
from cbench.models.fsar.codec import open_codec
from cbench.models.fsar.config import FsarConfig, tiny
from cbench.models.fsar.linear import LinearHead
from cbench.models.fsar.linear_codec import MEAN_BITS, LinearCodec, integer_sigmoid, linear_model
from cbench.models.fsar.network import FsarNetwork, pixel_nats
from cbench.models.fsar.pixels import pixel_tables


def head_of(weight, bias):
    head = LinearHead(FsarConfig()).requires_grad_(False)
    head.weight.copy_(torch.as_tensor(weight))
    head.bias.copy_(torch.as_tensor(bias))
    return head


@needs_shared
def test_golden_means_and_tables():
    folder = SHARED / "fixtures" / "fsar"
    vectors = np.load(folder / "gaussian_linear_ar.npz")
    x = torch.from_numpy(vectors["images"]).double() / 255
    params = torch.from_numpy(vectors["prior_params"])
    # In evaluation theirs starts from a mean on a grid of 1,024 levels; put on that grid, ours is the same.
    mean = (params[..., 0].double().sigmoid() * 1023).round() / 1023
    gridded = head_of(vectors["weight"], vectors["bias"]).double()(torch.stack([mean.logit(), mean], -1), x)
    torch.testing.assert_close(gridded[..., 0], torch.from_numpy(vectors["merged_params"][..., 0]).sigmoid())
    row = (gridded[..., 0] * 1023).round().long() * 15 + ((params[..., 1] + 7) * 2).round().clamp(0, 14).long()
    np.testing.assert_array_equal(row, vectors["final_index"])


def test_neighbours_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.random((1, 3, 4, 5)), rng.normal(size=(3, 1, 3)), rng.normal(size=3)
    x, weight, bias = x * 0.1, weight * 0.1, bias * 0.1
    found = head_of(weight, bias).double()(torch.zeros(1, 3, 4, 5, 2).double(), torch.from_numpy(x))[0, ..., 0]

    def at(c, i, j):
        return x[0, c, i, j] if min(i, j) >= 0 else 0.0

    for c, i, j in np.ndindex(3, 4, 5):
        own = [at(c, i - 1, j - 1), at(c, i - 1, j), at(c, i, j - 1)]
        if c:
            own = [at(c - 1, i, j), at(c - 1, i, j - 1), at(c, i, j - 1)]
        head = head_of(weight, bias)
        expected = 0.5 + float(head.bias[c]) + float(head.weight[c, 0].numpy() @ np.array(own))
        assert float(found[c, i, j]) == pytest.approx(expected, rel=1e-6)


def test_the_integer_sigmoid():
    m = np.round(np.random.default_rng(0).normal(0, 5, 10000) * 2**30) / 2**30
    m = np.concatenate([m, [-1e6, -16, 16, 1e6]])
    exact = 255 / (1 + np.exp(-m.clip(-30, 30)))
    assert np.abs(integer_sigmoid(m) / 2**MEAN_BITS - exact).max() < 2e-3


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = FsarNetwork(replace(tiny(), pixels="linear")).eval().requires_grad_(False)
    weight = torch.tensor([[-0.5, 0.7, 0.7], [0.9, -0.8, 0.85], [0.9, -0.7, 0.75]])
    made.head.weight.copy_(weight[:, None])
    made.head.bias.copy_(torch.tensor([-0.45, -0.45, -0.5]))
    made.decoder[-1].bias.copy_(torch.tensor([0.0, -3.0] * 3))
    made.decoder[-1].weight.mul_(3)
    return made


def weights_of(network):
    return checkpoint.build(network.state_dict(), network.config)


@pytest.fixture(scope="module")
def codec(network):
    return open_codec("fsar.tiny", weights_of(network))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


PICTURES = {
    "one pixel": noise(3, 1, 1),
    "row": noise(3, 1, 37),
    "column": noise(3, 37, 1),
    "noise": noise(3, 33, 31),
    "white": np.full((3, 20, 30), 255, np.uint8),
    "grey": np.broadcast_to(np.arange(70, dtype=np.uint8), (1, 20, 70)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_round_trip(codec, name):
    x = PICTURES[name]
    data = codec.compress(x)
    np.testing.assert_array_equal(codec.decompress(data), x)
    assert len(data) <= x.size + 60


def test_the_coder_pays_what_the_network_says(codec, network):
    assert isinstance(codec, LinearCodec)
    tiles = [sample.array for sample in samples.small_photos(32)[:8]]
    x = torch.from_numpy(np.stack(tiles)).float() / 255
    losses = network.losses(x)
    params = network.head(network(losses.symbols).double(), x.double())
    nats = float(pixel_nats(params, x.double(), edge_mass=True).sum())
    bits = nats / np.log(2) + float(losses.symbol_nats) * x.numel() / np.log(2)
    assert sum(map(codec.bits, tiles)) == pytest.approx(bits, rel=2e-3)
    archive = codec.compress_many(tiles)
    assert 8 * len(archive) < 1.01 * bits + 60 * 8 * len(tiles)
    other = open_codec("fsar.tiny", weights_of(network), threads=2)
    np.testing.assert_array_equal(np.stack(other.decompress_many(archive)), np.stack(tiles))


@pytest.fixture
def in_numpy(network, monkeypatch):
    """The same codec with the loop over pixels in numpy."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    from linear_reference import NumpyLinearCodec

    return NumpyLinearCodec("fsar.tiny", weights_of(network))


FAR = {  # far from what the model expects, so that values leave their tables; the codec would store them raw
    "noise": noise(3, 17, 23),
    "black and white": np.where(noise(3, 40, 5) < 128, 0, 255).astype(np.uint8),
    "grey noise": noise(1, 6, 30),
    "photograph": samples.photos()[0].array[:, :61, :90],
    **PICTURES,
}


@pytest.mark.parametrize("name", FAR)
def test_the_loop_is_that_of_the_reference(codec, in_numpy, name):
    x = FAR[name]
    plan = codec_plan(codec, x)
    streams = []
    for one in (codec, in_numpy):
        io = EncodeIO()
        one._code_pixels(io, plan, x)
        streams.append(io.finish())
        io = DecodeIO(streams[0])
        np.testing.assert_array_equal(one._code_pixels(io, plan, None), x)
        io.finish()
    assert streams[0] == streams[1]
    assert codec._pixel_bits(plan, x) == pytest.approx(in_numpy._pixel_bits(plan, x), rel=1e-9)


def codec_plan(codec, x):
    from cbench.models.fsar.codec import _Plan

    plan = _Plan(x.shape)
    codec._analyse([(plan, x)])
    codec._predict([plan])
    return plan


def test_ties_go_to_the_even_step():
    """Means exactly between two steps, at every level; a picture of one row is coded in its order."""
    tables = pixel_tables()
    mean = np.tile(np.arange(0, 256 << MEAN_BITS, 1 << 4), 57)
    level = np.repeat(np.arange(57), len(mean) // 57)
    x = (mean >> MEAN_BITS).astype(np.uint8)
    ours, plain = EncodeIO(), EncodeIO()
    parameters = (level << LEVEL_SHIFT | mean).astype(np.int32).reshape(1, -1, 1)
    ours.pixels(linear_model(tables, np.zeros((3, 3)), np.zeros(3)), parameters, x.reshape(1, 1, -1))
    row, centre = tables.select(np.minimum(mean, 255 << MEAN_BITS) * 2.0**-MEAN_BITS, level)
    plain.code(tables.tables, row, x.astype(np.int32) - centre)
    assert ours.finish() == plain.finish()


def test_models_that_leave_their_tables_are_refused():
    tables = Tables.from_weights([[1, 2, 3]])
    one, line, bias = np.zeros(1, np.int32), np.zeros((3, 3), np.int32), np.zeros(3, np.int32)
    good = PixelMap(one, one, one, one, one, one)
    model = LinearModel(tables, good, line, bias)
    for name, value in (
        ("row", 1),
        ("first", 1),
        ("first", -1),
        ("high", 5),
        ("low", 1),
        ("drop", 31),
        ("centre", 1 << 20),
    ):
        with pytest.raises(UnsupportedInputError):
            LinearModel(tables, good._replace(**{name: one + value}), line, bias)
    with pytest.raises(UnsupportedInputError):
        LinearModel(tables, good, line[:2], bias)
    picture, parameters = np.zeros((1, 2, 3), np.uint8), np.zeros((2, 3, 1), np.int32)
    for wrong in (parameters[:1], parameters.astype(np.int64), parameters + (1 << LEVEL_SHIFT), parameters - 1):
        with pytest.raises(UnsupportedInputError):
            model.bits(wrong, picture)
    with pytest.raises(UnsupportedInputError, match="whole"):
        EncodeIO().pixels(model, parameters, picture, 1)
    with pytest.raises(BitstreamError):  # the third symbol, which no picture has
        io = EncodeIO()
        io.code(tables, np.zeros(6, np.int32), np.array([0, 1, 2, 0, 1, 2]))
        DecodeIO(io.finish()).pixels(
            LinearModel(tables, good._replace(centre=one - 2), line, bias), parameters, picture
        )


def test_damage_is_noticed(codec):
    data = codec.compress(samples.small_photos(32)[0].array)
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            codec.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 10):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:size])


def test_checkpoints(network, tmp_path):
    weights = weights_of(network)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert (again.network.config, again.fingerprint()) == (network.config, weights.fingerprint())
    original = checkpoint.to_original(network.state_dict())
    assert {"entropy_coder.ar_model.weight", "entropy_coder.ar_model.bias"} < original.keys()
    torch.save(original, tmp_path / "last.ckpt")
    assert checkpoint.load(tmp_path / "last.ckpt").network.config == network.config


@pytest.mark.parametrize(("name", "size"), [("coder_ar", 49_330), ("coder_ar_o2s", 255_026), ("coder_ar_vq", 49_330)])
def test_published_sizes(name, size):
    """The original's "vq" has 9,248 more: a convolution that it never uses."""
    network = FsarNetwork(getattr(config, name)())
    assert sum(value.numel() for key, value in network.named_parameters() if key != "prior_logits") == size
