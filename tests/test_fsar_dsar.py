"""FSAR's data-space models: tables on the pixels themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, DataNotFoundError, UnsupportedInputError
from cbench.models.fsar import DsarTraining, dsar, dsar_module, tables
from cbench.models.fsar.dsar_config import DsarConfig, dsar_maskconv
from cbench.models.fsar.dsar_config import dsar as published
from cbench.models.fsar.dsar_networks import build_network

FORMS = ("table", "sum", "tucker")


def model(order, values=12, form="mlp"):
    torch.manual_seed(order)
    network = build_network(replace(published(order), values=values, form=form)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if form != "mlp":
            parameter.normal_(0, 0.3)
        elif name.startswith("first") and name.endswith("weight"):
            parameter.mul_(8)
    return network


def masked(kernel, values=12):
    torch.manual_seed(kernel)
    network = build_network(DsarConfig(form="masked", kernel=kernel, values=values)).eval().requires_grad_(False)
    network.conv.weight.mul_(12)
    network.prior_logits.normal_()
    return network


def weights_of(network):
    return dsar.DsarWeights(network, dsar.pixel_states(network))


def picture(values=12, shape=(3, 9, 14)):
    return np.random.default_rng(0).integers(0, values, shape, dtype=np.uint8)


@pytest.mark.parametrize(("order", "form"), [(1, "mlp"), (2, "mlp"), (3, "mlp"), *((2, form) for form in FORMS)])
def test_tables_are_the_network(order, form, tmp_path):
    network = model(order, form=form)
    weights = weights_of(network)
    codec = dsar.DsarCodec("fsar.dsar", weights)
    x = picture()
    nats = float(network.nats(torch.from_numpy(x)[None])) * x.size
    assert codec._pixels[3].bits(x) == pytest.approx(nats / np.log(2), rel=1e-3)
    dsar.save(tmp_path / "w.safetensors", weights, {})
    again = dsar.build(tmp_path / "w.safetensors", "cpu", 1)
    for own in (x, x[:1], x[:, :1, :1], x[:, :1], np.full((3, 5, 5), 11, np.uint8)):
        np.testing.assert_array_equal(again.decompress(codec.compress(own)), own)
    archive = codec.compress_many([x, x[:, 2:]])
    np.testing.assert_array_equal(again.decompress_many(archive)[1], x[:, 2:])


def test_one_hot_inputs():
    """The first layer's sums are its product with one-hot vectors; decompositions are what they say."""
    for form in FORMS:
        network = model(2, form=form)
        states = torch.cartesian_prod(torch.arange(13), torch.arange(13))
        if form == "table":
            logits = network.table[1]
        elif form == "sum":
            logits = (network.tables[1, 0, :, None] + network.tables[1, 1, None]).flatten(0, 1)
        else:
            core = network.core[1].view(16, 16, 16)
            factors = (*network.factors[1], core, network.values[1])
            logits = torch.einsum("ai,bj,ijk,kv->abv", *factors).flatten(0, 1)
        expected = torch.log_softmax(logits + network.prior_logits[1], -1)
        torch.testing.assert_close(network.log_probabilities(1, states), expected, atol=1e-4, rtol=1e-4)
    network = model(2)
    states = torch.tensor([[0, 12], [3, 0], [7, 7]])
    hot = torch.nn.functional.one_hot(states, 13).flatten(1).float()
    logits = network.rest[1](network.first[1](hot)) + network.prior_logits[1]
    torch.testing.assert_close(network.log_probabilities(1, states), torch.log_softmax(logits, -1))


@pytest.mark.parametrize("kernel", [3, 5])
def test_convolutions_are_exact_sums(kernel, tmp_path):
    network = masked(kernel)
    weights = dsar.DsarWeights(network, None)
    codec = dsar.DsarCodec("fsar.dsar", weights)
    x = picture()
    hot = torch.nn.functional.one_hot(torch.from_numpy(x).long(), 12).permute(0, 3, 1, 2).flatten(0, 1)[None].float()
    weight = network.conv.weight * network.mask
    logits = torch.nn.functional.conv2d(hot, weight, network.conv.bias, padding=kernel // 2)[0].unflatten(0, (3, 12))
    logits = logits + network.prior_logits[:, :, None, None]
    nats = torch.nn.functional.cross_entropy(
        logits.transpose(1, 0)[None].flatten(2), torch.from_numpy(x).long().flatten()[None]
    )
    assert float(network.nats(torch.from_numpy(x)[None])) == pytest.approx(float(nats), rel=1e-5)
    assert codec._pixels[3].bits(x) == pytest.approx(float(nats) * x.size / np.log(2), rel=1e-3)
    grey = torch.from_numpy(np.repeat(x[:1], 3, 0))
    bits = network.logits(grey[None])[0].log_softmax(-1)[
        torch.arange(126), 1, grey[0].flatten().long()
    ].sum() / -np.log(2)
    assert codec._pixels[1].bits(x[:1]) == pytest.approx(float(bits), rel=1e-3)
    dsar.save(tmp_path / "w.safetensors", weights, {})
    again = dsar.build(tmp_path / "w.safetensors", "cpu", 1)
    for own in (x, x[:1], x[:, :1, :1], x[:, :1], x[:, :, :1], np.full((3, 5, 5), 11, np.uint8)):
        np.testing.assert_array_equal(again.decompress(codec.compress(own)), own)
    archive = codec.compress_many([x, x[:, 2:]])
    np.testing.assert_array_equal(again.decompress_many(archive)[1], x[:, 2:])


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


@pytest.mark.parametrize("kind", ["mlp", "masked"])
def test_what_is_refused(kind):
    weights = weights_of(model(1)) if kind == "mlp" else dsar.DsarWeights(masked(3), None)
    codec = dsar.DsarCodec("fsar.dsar", weights)
    for x in (np.zeros((2, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint16), np.full((3, 4, 4), 12, np.uint8)):
        with pytest.raises(UnsupportedInputError):
            codec.compress(x)
    for fields in ({"context": ()}, {"values": 1}, {"kernel": 4}, {"form": "table", "context": published(3).context}):
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
        assert sum(p.numel() for p in build_network(published(order)).parameters()) == size


@pytest.mark.parametrize(("kernel", "size"), [(3, 5_309_952), (5, 14_747_136)])
def test_published_sizes_of_convolutions(kernel, size):
    assert sum(p.numel() for p in build_network(dsar_maskconv(kernel)).parameters()) == size


@pytest.mark.parametrize("form", ["mlp", "sum", "tucker", "masked"])
def test_training(form):
    torch.manual_seed(0)
    trained = dsar_module(DsarTraining(model=replace(published(3), values=8, form=form, rank=4), every=2))
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
