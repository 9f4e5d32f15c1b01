"""FSAR's option of mixtures for the pixels: what the network says is what the coder pays, exact and lossless."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.bench.config import DataSpec
from cbench.bench.loading import experiments_in, load
from cbench.bench.measure import build
from cbench.data import samples
from cbench.errors import CbenchError
from cbench.models.fsar import causal_codec, checkpoint
from cbench.models.fsar.codec import open_codec
from cbench.models.fsar.config import tiny
from cbench.models.fsar.mixture_codec import MixtureCodec
from cbench.models.fsar.network import FsarNetwork

KINDS = ("mixture", "mixture-colour")


def tiles(count):
    return [sample.array for sample in samples.small_photos(32)[:count]]


def network_of(pixels):
    """Random, but with means that follow the codes, and scales and colours as photographs want them."""
    torch.manual_seed(0)
    made = FsarNetwork(replace(tiny(), pixels=pixels)).eval().requires_grad_(False)
    bias = made.decoder[-1].bias.view(3, -1)
    bias[:, 6:9] = torch.tensor([2.0, 1.5, 0.5])
    if pixels == "mixture-colour":
        bias[1:, 9] = torch.tensor([0.9, 0.1])
        bias[2, 10] = 0.8
    return made


@pytest.fixture(scope="module", params=KINDS)
def network(request):
    return network_of(request.param)


@pytest.fixture(scope="module")
def mixed(network):
    return open_codec("fsar.tiny", checkpoint.build(network.state_dict(), network.config))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


PICTURES = {
    "one pixel": noise(3, 1, 1),
    "row": noise(3, 1, 37),
    "noise": noise(3, 33, 31),
    "white": np.full((3, 20, 30), 255, np.uint8),
    "grey": np.broadcast_to(np.arange(70, dtype=np.uint8), (1, 20, 70)),
    "photograph": samples.photos()[0].array[:, :70, :97],
}


@pytest.mark.parametrize("name", PICTURES)
def test_round_trip(mixed, name):
    x = PICTURES[name]
    np.testing.assert_array_equal(mixed.decompress(mixed.compress(x)), x)


def test_the_coder_pays_what_the_network_says(mixed, network):
    assert isinstance(mixed, MixtureCodec)
    pictures = tiles(8)
    x = torch.from_numpy(np.stack(pictures)).float() / 255
    losses = network.losses(x)
    bits = float(losses.distortion + losses.symbol_nats) * x.numel() / np.log(2)
    assert sum(map(mixed.bits, pictures)) == pytest.approx(bits, rel=3e-3)
    archive = mixed.compress_many(pictures)
    assert 8 * len(archive) < 1.01 * bits + 400
    for back, given in zip(mixed.decompress_many(archive), pictures, strict=True):
        np.testing.assert_array_equal(back, given)


def test_colours_help(mixed, network):
    """A picture whose colours are equal is cheaper where green and blue see the colours before."""
    if network.config.pixels == "mixture":
        return
    x = np.repeat(tiles(1)[0][:1], 3, 0)
    alone = network_of("mixture")
    other = open_codec("fsar.tiny", checkpoint.build(alone.state_dict(), alone.config))
    assert mixed.bits(x) < 0.97 * other.bits(x)


def test_large_pictures_and_threads(network, mixed, monkeypatch):
    """Parameters band by band while coding, and tiles; bands are part of the format."""
    x = PICTURES["photograph"]
    monkeypatch.setattr(causal_codec, "LARGE", 100)
    other = open_codec("fsar.tiny", checkpoint.build(network.state_dict(), network.config), threads=2)
    data = mixed.compress(x)
    np.testing.assert_array_equal(other.decompress(data), x)
    monkeypatch.setattr(causal_codec, "TILE", 8)
    np.testing.assert_array_equal(other.decompress(other.compress(x)), x)


def test_damage_is_noticed(mixed):
    data = mixed.compress(tiles(1)[0])
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            mixed.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 10):
        with pytest.raises(CbenchError):
            mixed.decompress(data[:size])


CONFIG = Path(__file__).resolve().parents[1] / "configs" / "fsar_pixels.py"


def few():
    return samples.small_photos(32)[:8]


def test_every_option_is_an_experiment():
    kinds = {load(f"{CONFIG}:{name}").experiment.train.config.model.pixels for name in experiments_in(CONFIG)}
    assert kinds == {"gaussian", "linear", "mixture", "mixture-colour", "causal"}


@pytest.mark.parametrize("name", ["gaussian", "mixture_colour"])
def test_training_to_working_codecs(name, tmp_path):
    """Two steps; Gaussians are coded with the original's tables, too."""
    from cbench.train.fit import fit

    experiment = load(f"{CONFIG}:{name}").experiment
    config = experiment.train.config
    config = replace(config, model=replace(config.model, channels=16, codes=16))
    data = DataSpec(source=few)
    small = {"config": config, "data": data, "validation": data, "steps": 2, "batch_size": 4, "validate_every": 2}
    path = fit(replace(experiment.train, **small), tmp_path, progress=False)
    pictures = [sample.array for sample in few()]
    for spec in experiment.codecs:
        if spec.weights:
            made = build(spec, experiment.measure, path)
            np.testing.assert_array_equal(
                np.stack(made.decompress_many(made.compress_many(pictures))), np.stack(pictures)
            )
