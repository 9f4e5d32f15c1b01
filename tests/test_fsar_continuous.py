"""FSAR's baselines without codes: entropy bottleneck and bits-back VAE."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbench.coding import StackIO
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError
from cbench.models.fsar import FsarTraining, checkpoint, config, module
from cbench.models.fsar.bits_back import BitsBackCodec, posterior_rows, posterior_tables
from cbench.models.fsar.codec import open_codec
from cbench.models.fsar.config import FsarConfig, tiny
from cbench.models.fsar.continuous import borders, middles
from cbench.models.fsar.integer import BITS, IntegerEncoder
from cbench.models.fsar.network import FsarNetwork


def random_weights(kind, **fields):
    torch.manual_seed(0)
    network = FsarNetwork(replace(tiny(), quantizer=kind, **fields)).eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    network.encoder[-1].weight.mul_(6)
    if kind == "vae":
        network.encoder[-1].bias[8:].sub_(2.5)
    network.decoder[-1].bias.copy_(torch.tensor([0.5, -2.0] * 3))
    return checkpoint.build(network.state_dict(), network.config)


@pytest.fixture(scope="module", params=["bottleneck", "vae"])
def weights(request):
    return random_weights(request.param)


@pytest.fixture(scope="module")
def pictures():
    found = [sample.array for sample in samples.small_photos(32)[:6]]
    noise = np.random.default_rng(0).integers(0, 256, (3, 12, 15), dtype=np.uint8)
    return [*found, found[0][:, :1, :1], found[1][:, :9, :17], found[2][:1, :20, :6], noise]


def test_files_archives_and_weights(weights, pictures, tmp_path):
    codec = open_codec("fsar.tiny", weights)
    assert isinstance(codec, BitsBackCodec) == (weights.network.config.quantizer == "vae")
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    other = open_codec("fsar.tiny", checkpoint.load(tmp_path / "w.safetensors"), threads=2)
    archive = codec.compress_many(pictures)
    for x, y in zip(pictures, other.decompress_many(archive), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(other.decompress(codec.compress(x)), x)


def test_real_bytes_are_the_theoretical_ones(weights, pictures):
    codec = open_codec("fsar.tiny", weights)
    tiles = pictures[:6]
    theory = sum(codec.bits(x) for x in tiles)
    first = 0
    if weights.network.config.quantizer == "vae":  # the bits that draw the latents of the first picture
        stack = StackIO(clean_bits=True)
        codec._push(stack, tiles[0])
        first = stack.clean_bits
    assert 8 * len(codec.compress_many(tiles)) == pytest.approx(theory + first, rel=0.01)


def test_rates_are_those_of_the_network(weights, pictures):
    """The network's own estimate; for the VAE the mean over draws is."""
    network, codec = weights.network, open_codec("fsar.tiny", weights)
    x = torch.from_numpy(np.stack(pictures[:6])).float() / 255
    torch.manual_seed(1)
    with torch.no_grad():
        losses = [network.losses(x) for _ in range(10)]
    bits = float(sum(loss.distortion + loss.symbol_nats for loss in losses) / 10) * x.numel() / np.log(2)
    assert sum(codec.bits(picture) for picture in pictures[:6]) == pytest.approx(bits, rel=0.03)


def test_damage_is_noticed(weights, pictures):
    codec = open_codec("fsar.tiny", weights)
    data = codec.compress(pictures[0])
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            codec.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 20):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:size])


@pytest.mark.parametrize("kind", ["bottleneck", "vae"])
def test_damage_behind_the_checksums_is_noticed(kind, pictures):
    """Payloads that the container does not protect: errors, or pictures that the check of the content refuses."""
    codec = open_codec("fsar.tiny", random_weights(kind))
    head = codec.header(pictures[0])
    payload, check = codec._encode([head], [pictures[0]])[0]
    rng = np.random.default_rng(1)
    for trial in range(30):
        damaged = bytearray(payload)
        damaged[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        data = bytes(damaged) if trial % 3 else payload[: rng.integers(len(payload))]
        try:
            _, found = codec._decode([head], [data])[0]
        except CbenchError:
            continue
        assert found != check


@pytest.mark.parametrize(("name", "size"), [("entropy_bottleneck", 163_974), ("bits_back", 158_022)])
def test_published_sizes(name, size):
    assert sum(p.numel() for p in FsarNetwork(getattr(config, name)()).parameters()) == size


def test_the_integer_encoder_is_the_encoder(pictures):
    for fields in ({}, {"downsamples": 2}, {"skip": True, "residuals": 2}, {"downsamples": 0}):
        network = random_weights("vae", **fields).network
        x = torch.from_numpy(np.stack(pictures[:2]))
        exact = IntegerEncoder(network)(x) * 2.0**-BITS
        assert float((exact - network.double().encoder(x.double() / 255)).abs().max()) < 1e-2


def test_intervals_and_posteriors():
    from scipy.special import ndtr, ndtri

    assert np.abs(borders()[1:-1] * 2.0**-24 - ndtri(np.arange(1, 256) / 256)).max() < 1e-6
    assert np.abs(middles() * 2.0**-24 - ndtri((np.arange(256) + 0.5) / 256)).max() < 1e-6
    mean, log_std = 0.71, -1.3
    z = (np.array([mean, log_std]) * 2**BITS).astype(np.int64).reshape(1, 2, 1, 1)
    row = int(posterior_rows(z).item())
    found = posterior_tables().frequencies[row] / 65536
    edges = np.concatenate([[-np.inf], ndtri(np.arange(1, 256) / 256), [np.inf]])
    exact = np.diff(ndtr((edges - round(mean * 64) / 64) / np.exp(round(log_std * 4) / 4)))
    assert np.abs(found - exact).max() < 3e-4  # every interval gets at least one part of 65,536


@pytest.mark.parametrize("kind", ["bottleneck", "vae"])
def test_training_reduces_the_loss_and_codes(kind, pictures):
    torch.manual_seed(0)
    trained = module(FsarTraining(model=FsarConfig(channels=16, quantizer=kind)))
    batch = torch.from_numpy(np.stack(pictures[:6]))
    optimiser = torch.optim.Adam(trained.network.parameters(), 5e-3)
    costs = []
    for _ in range(25):
        losses = trained.loss(batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        costs.append(losses["bpd"].item())
    assert costs[-1] < costs[0] - 1
    trained.eval()
    trained.calibrate([batch])
    codec = trained.codec()
    np.testing.assert_array_equal(np.stack(codec.decompress_many(codec.compress_many(pictures[:6]))), batch.numpy())
