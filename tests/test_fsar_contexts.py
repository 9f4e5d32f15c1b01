"""Convolutions as FSAR's context models: exact tables, streams, weights files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbench.coding import DecodeIO, EncodeIO
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError
from cbench.models.fsar import checkpoint, config, grids, tables
from cbench.models.fsar.codec import FsarCodec
from cbench.models.fsar.config import NEIGHBOURS, FsarConfig, tiny
from cbench.models.fsar.latents import latent_of
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.volumes import MlpLatent

KINDS = {
    "maskconv3x3": ("masked", 3),
    "maskconv5x5": ("masked", 5),
    "maskconv3d3x3x3": ("volume", 3),
    "maskconv3d5x5x5": ("volume", 5),
    "checkerboard3x3": ("checkerboard", 3),
}


def random_weights(kind):
    torch.manual_seed(0)
    convolution, kernel = KINDS[kind]
    network = FsarNetwork(replace(tiny(), convolution=convolution, kernel=kernel)).eval().requires_grad_(False)
    network.prior.conv.weight.mul_(8)
    counts = np.random.default_rng(0).integers(1, 100, (2, 16)).astype(np.uint32)
    if network.config.static_prior:
        network.prior_logits.copy_(torch.from_numpy(np.log(counts / counts.sum(1, keepdims=True))))
    weights = checkpoint.build(network.state_dict(), network.config)
    return checkpoint.Weights(weights.network, counts)


@pytest.fixture(scope="module", params=KINDS)
def weights(request):
    return random_weights(request.param)


def test_the_coder_pays_what_the_network_says(weights):
    network = weights.network
    symbols = np.random.default_rng(1).integers(0, 16, (3, 2, 7, 9))
    rows = torch.from_numpy(symbols.transpose(0, 2, 3, 1).reshape(-1, 2))
    vectors = network.quantizer.lookup(rows).view(3, 7, 9, 2, -1)
    logits = torch.from_numpy(np.log(weights.counts / weights.counts.sum(1, keepdims=True))).float()
    if network.config.static_prior:
        network.prior_logits.copy_(logits)
    nats = float(network.prior_nats(torch.from_numpy(symbols), vectors)[0])
    latent = latent_of(weights)
    assert sum(map(latent.bits, symbols)) == pytest.approx(nats / np.log(2), rel=1e-3)
    for own in symbols:
        io = EncodeIO()
        latent.code(io, own, own.shape)
        data = io.finish()
        np.testing.assert_array_equal(latent.code(DecodeIO(data), None, own.shape), own)


def test_positions_see_only_what_is_coded_before(weights):
    """A symbol changes the tables of later positions only."""
    network = weights.network
    h, w = 5, 6
    symbols = torch.randint(0, 16, (1, 2, h, w), generator=torch.Generator().manual_seed(1))
    steps = np.empty((2, h, w), int)
    latent = latent_of(weights)
    for number, (where, _, _) in enumerate(latent._steps(np.zeros((2, h + 4, w + 4), int), h, w)):
        steps[where] = number

    def logits(found):
        vectors = network.quantizer.lookup(found.permute(0, 2, 3, 1).reshape(-1, 2)).view(1, h, w, 2, -1)
        start = network.prior_logits if network.config.static_prior else None
        return network.prior(vectors, start).view(h, w, 2, 16)

    before = logits(symbols)
    for place in np.ndindex(2, h, w):
        changed = symbols.clone()
        changed[:, *place] = (changed[:, *place] + 5) % 16
        different = (logits(changed) != before).any(-1).permute(2, 0, 1).numpy()
        assert not different[steps <= steps[place]].any()
        assert different.any() or steps[place] >= steps[1].max() - 2 or network.config.convolution == "checkerboard"


def test_pictures_round_trip(weights, tmp_path):
    codec = FsarCodec("fsar.tiny", weights)
    pictures = [samples.small_photos(32)[i].array for i in (0, 7)]
    pictures += [pictures[0][:, :1, :1], pictures[1][:, :9, :17], np.full((1, 5, 30), 200, np.uint8)]
    for x, y in zip(pictures, codec.decompress_many(codec.compress_many(pictures)), strict=True):
        np.testing.assert_array_equal(x, y)
    data = codec.compress(pictures[3])
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert again.network.config == weights.network.config
    np.testing.assert_array_equal(FsarCodec("fsar.tiny", again, threads=2).decompress(data), pictures[3])
    rng = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            codec.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 10):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:size])


@pytest.mark.parametrize("name", ["v2dvq_c2_maskconv", "v2dvq_c2_checkerboard", "v2dvq_c2_maskconv3d"])
def test_published_sizes_and_checkpoints(name, tmp_path):
    network = FsarNetwork(getattr(config, name)())
    size = sum(value.numel() for key, value in network.named_parameters() if key != "prior_logits")
    assert size == (176_454 + 256 * (32 * 27 + 1) if name.endswith("3d") else 471_878)
    original = checkpoint.to_original(network.state_dict())
    shape = (256, 32, 3, 3, 3) if name.endswith("3d") else (512, 64, 3, 3)
    assert original["prior_model.prior_coder.ar_model.0.mask"].shape == shape
    torch.save({"state_dict": {f"model.{key}": value for key, value in original.items()}}, tmp_path / "last.ckpt")
    loaded = checkpoint.load(tmp_path / "last.ckpt")
    assert loaded.network.config == network.config
    assert torch.equal(loaded.network.prior.conv.weight, network.prior.conv.weight)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["c2lt", "ctx3", "c2"])
def test_networks_code_where_tables_would_be_too_large(name, shared, tmp_path, monkeypatch):
    """The same networks as in the tables, at every position anew; weights files hold no tables then."""
    torch.manual_seed(1)
    model = replace(tiny(), groups=4, codes=8, context=NEIGHBOURS[name], shared_mlp=shared)
    network = FsarNetwork(model).eval().requires_grad_(False)
    whole = latent_of(checkpoint.build(network.state_dict(), model))
    monkeypatch.setattr(tables, "MOST_CONTEXTS", 100)
    weights = checkpoint.build(network.state_dict(), model)
    assert weights.tables is None
    latent, symbols = latent_of(weights), np.random.default_rng(0).integers(0, 8, (4, 7, 9))
    assert latent.bits(symbols) == pytest.approx(whole.bits(symbols), rel=1e-3)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert again.network.config == model
    codec, other = FsarCodec("fsar.tiny", weights), FsarCodec("fsar.tiny", again, threads=2)
    for x in (samples.small_photos(32)[3].array, samples.small_photos(32)[4].array[:1, :9, :1]):
        data = codec.compress(x)
        np.testing.assert_array_equal(other.decompress(data), x)
    with pytest.raises(CbenchError):
        other.decompress(data[:-3])
    with pytest.raises(ConfigError, match="fewer codes"):
        checkpoint.build(network.state_dict() | {"quantizer.mask.logits": torch.zeros(1, 8)}, replace(model, alpha=1.5))


def test_networks_without_any_group_before():
    """All neighbours in other groups are outside, however far: the distribution is always the same."""
    torch.manual_seed(0)
    network = FsarNetwork(replace(tiny(), groups=1, context=NEIGHBOURS["c2"])).eval().requires_grad_(False)
    whole = latent_of(checkpoint.build(network.state_dict(), network.config))
    latent = MlpLatent(network.prior, network.quantizer.codebook)
    symbols = np.random.default_rng(0).integers(0, 16, (1, 5, 4))
    assert latent.bits(symbols) == pytest.approx(whole.bits(symbols), rel=1e-3)


def test_weights_are_powers_of_two_anywhere():
    logits = np.array([[0, -1, -512, -1024, -1025, -40000, 1 << 20]])
    expected = [0] * 6 + [1 << 24]
    np.testing.assert_array_equal(grids.weights_of(logits)[0], expected)
    found = grids.weights_of(logits[:, :6])[0]
    exact = np.exp2(np.array([0, -1, -512, -1024, -1025]) / 1024 + 24)
    assert np.abs(found[:5] - exact).max() <= 1
    assert found[5] == 0


def test_convolutions_exclude_other_contexts():
    for fields in ({"context": NEIGHBOURS["l"]}, {"alpha": 1.5}, {"kernel": 4}):
        with pytest.raises(ConfigError, match="kernel 3 or 5"):
            FsarConfig(convolution="masked", **fields)
