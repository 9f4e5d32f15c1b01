"""FSAR's data-space models: tables on the pixels themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, DataNotFoundError, UnsupportedInputError
from cbench.models.fsar import DsarTraining, dsar, dsar_module, tables
from cbench.models.fsar.dsar_config import DsarConfig
from cbench.models.fsar.dsar_config import dsar as published


def model(order, values=12):
    torch.manual_seed(order)
    network = dsar.DsarNetwork(replace(published(order), values=values)).eval().requires_grad_(False)
    for part in network.first:
        part.weight.mul_(8)
    return network


def weights_of(network):
    return dsar.DsarWeights(network, dsar.pixel_states(network))


def picture(values=12, shape=(3, 9, 14)):
    return np.random.default_rng(0).integers(0, values, shape, dtype=np.uint8)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_tables_are_the_network(order, tmp_path):
    network = model(order)
    weights = weights_of(network)
    codec = dsar.DsarCodec("fsar.dsar", weights)
    x = picture()
    nats = float(network.nats(torch.from_numpy(x)[None])) * x.size
    assert codec._tables[3].bits(x[None]) == pytest.approx(nats / np.log(2), rel=1e-3)
    dsar.save(tmp_path / "w.safetensors", weights, {})
    again = dsar.build(tmp_path / "w.safetensors", "cpu", 1)
    for own in (x, x[:1], x[:, :1, :1], x[:, :1], np.full((3, 5, 5), 11, np.uint8)):
        np.testing.assert_array_equal(again.decompress(codec.compress(own)), own)
    archive = codec.compress_many([x, x[:, 2:]])
    np.testing.assert_array_equal(again.decompress_many(archive)[1], x[:, 2:])


def test_one_hot_inputs():
    """The first layer's sums are its product with one-hot vectors."""
    network = model(2)
    states = torch.tensor([[0, 12], [3, 0], [7, 7]])
    hot = torch.nn.functional.one_hot(states, 13).flatten(1).float()
    logits = network.rest[1](network.first[1](hot)) + network.prior_logits[1]
    torch.testing.assert_close(network.log_probabilities(1, states), torch.log_softmax(logits, -1))


def test_pictures_of_all_values():
    network = model(1, 256)
    codec = dsar.DsarCodec("fsar.dsar", weights_of(network))
    for x in (samples.small_photos(32)[3].array, picture(256, (3, 31, 17)), picture(256, (1, 8, 8))):
        data = codec.compress(x)
        np.testing.assert_array_equal(codec.decompress(data), x)
        assert len(data) <= x.size + 60


def test_contexts_that_do_not_occur_share_rows(monkeypatch):
    network = model(3)
    monkeypatch.setattr(tables, "MOST_ROWS", 100)
    seen = np.random.default_rng(1).integers(0, 4, (5, 3, 8, 8))
    found = dsar.pixel_states(network, seen)
    assert len(found.weights) < 3 * 13**3 / 2
    codec = dsar.DsarCodec("fsar.dsar", dsar.DsarWeights(network, found))
    np.testing.assert_array_equal(codec.decompress(codec.compress(picture())), picture())


def test_what_is_refused(tmp_path):
    codec = dsar.DsarCodec("fsar.dsar", weights_of(model(1)))
    for x in (np.zeros((2, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint16), np.full((3, 4, 4), 12, np.uint8)):
        with pytest.raises(UnsupportedInputError):
            codec.compress(x)
    for fields in ({"context": ()}, {"values": 1}):
        with pytest.raises(ConfigError):
            DsarConfig(**fields)
    with pytest.raises(DataNotFoundError, match="weights file"):
        dsar.build(None, "cpu", 1)
    data = codec.compress(picture())
    rng = np.random.default_rng(0)
    for _ in range(50):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            codec.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 20):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:size])


@pytest.mark.parametrize(("order", "size"), [(1, 1_583_628), (2, 3_563_556), (3, 6_336_072)])
def test_published_sizes(order, size):
    with torch.device("meta"):
        assert sum(p.numel() for p in dsar.DsarNetwork(published(order)).parameters()) == size


def test_training():
    torch.manual_seed(0)
    trained = dsar_module(DsarTraining(model=replace(published(3), values=8), every=2))
    batch = torch.from_numpy(np.stack([s.array // 32 for s in samples.small_photos(32)[:4]]))
    optimiser = torch.optim.Adam(trained.network.parameters(), 1e-2)
    costs = []
    for _ in range(25):
        losses = trained.loss(batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        costs.append(losses["bpd"].item())
    assert costs[-1] < costs[0] - 0.5
    trained.eval()
    trained.calibrate([batch])
    codec = trained.codec()
    data = codec.compress_many(list(batch.numpy()))
    np.testing.assert_array_equal(np.stack(codec.decompress_many(data)), batch.numpy())
    assert 8 * len(data) / batch.numel() == pytest.approx(trained.loss(batch)["bpd"].item(), rel=0.1)
