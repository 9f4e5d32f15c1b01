"""FSAR's prior: tables against vectors made by the original code, contexts against the coder, and whole codecs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared

from cbench.coding import DecodeIO, EncodeIO, StateTables
from cbench.data import samples
from cbench.errors import ConfigError
from cbench.models.fsar import FsarTraining, checkpoint, config, module, tables
from cbench.models.fsar.codec import FsarCodec, nearest
from cbench.models.fsar.config import NEIGHBOURS, FsarConfig, backbone, tiny
from cbench.models.fsar.latents import ContextLatent
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.prior import entmax


def golden(name):
    folder = SHARED / "fixtures" / "fsar"
    description = folder / f"{name}.json"
    return np.load(folder / f"{name}.npz"), json.loads(description.read_text()) if description.is_file() else None


def random_network(seed=0, **fields):
    torch.manual_seed(seed)
    network = FsarNetwork(replace(tiny(), **fields)).eval().requires_grad_(False)
    if network.quantizer.mask is not None:
        network.quantizer.mask.logits.mul_(30)
    return network


@needs_shared
@pytest.mark.parametrize(("name", "context"), [("fsar_table_l", "l"), ("fsar_table_lt", "lt")])
def test_golden_tables(name, context):
    vectors, totals = golden(name)
    groups, codes, embedding = vectors["embedding"].shape
    network = FsarNetwork(
        FsarConfig(channels=groups * embedding, groups=groups, codes=codes, context=NEIGHBOURS[context])
    ).double()
    network.quantizer.codebook.data = torch.from_numpy(vectors["embedding"])
    state = {key[4:]: torch.from_numpy(vectors[key]) for key in vectors.files if key.startswith("mlp.")}
    network.prior.mlps.load_state_dict(state)
    states, neighbours = codes + 1, len(NEIGHBOURS[context])
    every = tables.states_of(np.arange(states**neighbours), states, neighbours)
    for g, expected in enumerate(vectors["table_prob"]):
        p = tables.log_probabilities(network, g, every, np.arange(codes)).exp().detach()
        np.testing.assert_allclose(p, expected.reshape(-1, codes), atol=1e-12)
    found = tables.prior_tables(network.requires_grad_(False))
    symbols = vectors["symbols"]
    numbers = tables.contexts_of(symbols, found.context, states)
    rows = numbers + np.arange(groups)[:, None, None] * states**neighbours
    np.testing.assert_array_equal(rows, vectors["table_row"])
    coder = found.state_tables()
    assert coder.bits(symbols) == pytest.approx(totals["total_bits_exact"], rel=1e-4)
    data = coder.encode(symbols)
    np.testing.assert_array_equal(coder.decode(data, symbols.shape), symbols)
    assert len(data) <= totals["rans16"]["bytes"]


@needs_shared
def test_golden_entmax():
    vectors, _ = golden("entmax")
    logits = torch.from_numpy(vectors["logits"])
    for alpha in (1.1, 1.4, 1.5, 1.9, 2.0):
        np.testing.assert_allclose(entmax(logits, alpha), vectors[f"alpha_{alpha}"], atol=2e-6)
        np.testing.assert_allclose(entmax(logits.double(), alpha), vectors[f"alpha64_{alpha}"], atol=1e-9)
    leaf = logits.clone().requires_grad_(True)
    (entmax(leaf, 1.5) * torch.from_numpy(vectors["grad_probe"])).sum().backward()
    np.testing.assert_allclose(leaf.grad, vectors["grad_alpha1.5"], atol=1e-5)


@pytest.fixture(scope="module")
def full():
    folder = SHARED / "fixtures" / "fsar"
    state = torch.load(folder / "tiny_lt_cat15_state.pt", weights_only=True)
    metrics = json.loads((folder / "tiny_lt_cat15_metrics.json").read_text())
    return checkpoint.build(checkpoint.from_original(state)), np.load(folder / "tiny_lt_cat15.npz"), metrics


@needs_shared
def test_golden_full_model(full):
    weights, vectors, metrics = full
    network, found = weights.network, weights.tables
    np.testing.assert_allclose(network.quantizer.mask.shares(), vectors["entmax_probs"][0], atol=1e-6)
    np.testing.assert_array_equal(found.kept, vectors["reduce_mask"])
    every = tables.states_of(np.arange(225), 15, 2)
    for g, expected in enumerate(vectors["fsar_table_logp_reduced"]):
        p = tables.log_probabilities(network, g, every, found.kept.astype(np.int64)).exp()
        np.testing.assert_allclose(p, np.exp(expected).reshape(-1, 14), atol=1e-6)
    symbols = found.reduce(vectors["symbols_encode"])
    np.testing.assert_array_equal(symbols, vectors["fsar_symbol_reduced"])
    np.testing.assert_array_equal(found.expand(symbols), vectors["symbols_encode"])
    rows = tables.contexts_of(symbols, found.context, 15) + 225 * np.arange(2)[:, None, None]
    np.testing.assert_array_equal(rows, vectors["fsar_table_index"])
    coder = found.state_tables()
    assert coder.bits(symbols) == pytest.approx(metrics["latent_bits_table_exact"], rel=1e-4)
    assert len(coder.encode(symbols)) <= metrics["latent_stream_bytes"]


@needs_shared
def test_the_codec_uses_the_masked_arg_max(full):
    """Unlike the original, whose streams hold other symbols than its evaluation counts."""
    weights, vectors, _ = full
    x = vectors["images"]
    network = weights.network
    z = network.encoder(torch.from_numpy(x).float() / 255)
    coded = nearest(network.quantizer, network.quantizer.split(z)).reshape(4, 16, 16, 2).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(coded, vectors["symbols_forward"])
    latent = -vectors["prior_logp_symbol"].astype(np.float64).sum() / np.log(2)
    assert ContextLatent(weights.tables)._tables.bits(weights.tables.reduce(coded)) == pytest.approx(latent, rel=1e-4)
    codec = FsarCodec("fsar.tiny", weights)
    data = codec.compress_many(list(x))
    np.testing.assert_array_equal(np.stack(codec.decompress_many(data)), x)
    assert 8 * len(data) < 1.01 * sum(codec.bits(picture) for picture in x)


@needs_shared
def test_full_checkpoints_load_and_convert_back(tmp_path, full):
    weights, _, _ = full
    folder = SHARED / "fixtures" / "fsar"
    state = torch.load(folder / "tiny_lt_cat15_state.pt", weights_only=True)
    torch.save({"state_dict": {f"model.{k}": v for k, v in state.items()}}, tmp_path / "last.ckpt")
    loaded = checkpoint.load(tmp_path / "last.ckpt")
    assert loaded.fingerprint() == weights.fingerprint()
    back = checkpoint.to_original(loaded.network.state_dict())
    assert back.keys() == state.keys() - {"prior_model.prior_coder.embedding_variance"}
    assert all(torch.equal(back[key], state[key]) for key in back)
    other = checkpoint.load(tmp_path / "last.ckpt", replace(weights.network.config, alpha=1.4))
    assert other.network.config.alpha == 1.4
    checkpoint.save(tmp_path / "w.safetensors", other, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert again.network.config == other.network.config
    assert again.fingerprint() == other.fingerprint() != weights.fingerprint()


@pytest.mark.parametrize("context", [name for name in NEIGHBOURS if name != "none"])
@pytest.mark.parametrize("shared_mlp", [False, True])
def test_tables_are_the_network(context, shared_mlp):
    """What the coder pays is what the network in training says, for every context and with a mask."""
    network = random_network(context=NEIGHBOURS[context], codes=6, groups=4, alpha=1.5, shared_mlp=shared_mlp)
    kept = tables.kept_categories(network)
    assert 1 < len(kept) < 6
    found = tables.prior_tables(network)
    reduced = np.random.default_rng(1).integers(0, len(kept), (3, 4, 5, 7))
    symbols = torch.from_numpy(found.expand(reduced))
    vectors = network.quantizer.lookup(symbols.permute(0, 2, 3, 1).reshape(-1, 4)).view(3, 5, 7, 4, -1)
    nats = float(network.prior_nats(symbols, vectors)[0])
    assert found.state_tables().bits(reduced) == pytest.approx(nats / np.log(2), rel=2e-4)
    used = np.unique(found.table_of)
    assert len(used) <= len(found.weights)
    assert len(found.weights) <= 4 * (len(kept) + 1) ** len(found.context)


@pytest.mark.parametrize("context", ["l", "lt", "ctx3"])
def test_rows_are_merged_within_their_budget(context):
    network = random_network(context=NEIGHBOURS[context], codes=6)
    whole = tables.prior_tables(network)
    share = whole.weights / whole.weights.sum(1, keepdims=True)
    before = len(whole.weights)
    for budget in (0.0, 0.002, 0.05):
        some = tables.merged(whole, budget)
        own = share[whole.table_of].reshape(-1, 6)
        shared = (some.weights / some.weights.sum(1, keepdims=True))[some.table_of].reshape(-1, 6)
        kl = (own * np.log2(own / shared)).sum(-1)
        assert kl.max() <= budget + 1e-4
        assert len(some.weights) <= before
        before = len(some.weights)
        symbols = np.random.default_rng(0).integers(0, 6, (2, 2, 9, 9))
        coder = some.state_tables()
        np.testing.assert_array_equal(coder.decode(coder.encode(symbols), symbols.shape), symbols)
    assert before < len(whole.weights)
    with pytest.raises(ConfigError, match="negative"):
        tables.merged(whole, -1)


def test_many_contexts_get_rows_where_they_occur(monkeypatch):
    network = random_network(context=NEIGHBOURS["ctx3"], codes=6)
    seen = np.random.default_rng(0).integers(0, 3, (20, 2, 9, 9))
    whole = tables.prior_tables(network).state_tables()
    monkeypatch.setattr(tables, "MOST_ROWS", 100)
    some = tables.prior_tables(network, seen)
    assert len(some.weights) < 2 * 7**3 / 2
    np.testing.assert_allclose(some.state_tables().bits(seen), whole.bits(seen))
    other = np.random.default_rng(0).integers(0, 6, (2, 2, 9, 9))
    assert np.array_equal(some.state_tables().decode(some.state_tables().encode(other), other.shape), other)
    assert isinstance(tables.prior_tables(network).state_tables(), StateTables)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_every_named_context_trains_and_codes(name, tmp_path):
    torch.manual_seed(0)
    trained = module(FsarTraining(model=replace(tiny(), groups=4, codes=8, context=NEIGHBOURS[name])))
    batch = torch.from_numpy(np.stack([sample.array for sample in samples.small_photos(32)[:4]]))
    optimiser = torch.optim.Adam(trained.network.parameters(), 1e-2)
    for _ in range(2):
        loss = trained.loss(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in trained.network.parameters())
        optimiser.step()
    trained.eval()
    trained.calibrate([batch])
    trained.save(tmp_path / "w.safetensors", {})
    again = FsarCodec("fsar.training", checkpoint.load(tmp_path / "w.safetensors"))
    for codec in (trained.codec(), again):
        data = codec.compress_many(list(batch.numpy()))
        np.testing.assert_array_equal(np.stack(again.decompress_many(data)), batch.numpy())
    trained.network.requires_grad_(False)
    symbols = trained.network.symbols(batch.float() / 255)
    vectors = trained.network.quantizer.latent(symbols).permute(0, 2, 3, 1).unflatten(-1, (4, -1))
    if name != "none":
        nats = float(trained.network.prior_nats(symbols, vectors)[0])
        assert sum(map(codec._latent.bits, symbols.numpy())) == pytest.approx(nats / np.log(2), rel=2e-3)


def test_neighbours_in_groups_that_are_not_there_take_no_part():
    """Of four neighbours, three can lie in a picture with two groups: tables have that order."""
    network = random_network(context=NEIGHBOURS["c2lt"], codes=4)
    found = tables.prior_tables(network)
    assert found.context == NEIGHBOURS["clt"]
    assert tables.reaching(NEIGHBOURS["c2"], 1) == NEIGHBOURS["c"]
    symbols = torch.randint(0, 4, (2, 2, 5, 6))
    vectors = network.quantizer.lookup(symbols.permute(0, 2, 3, 1).reshape(-1, 2)).view(2, 5, 6, 2, -1)
    nats = float(network.prior_nats(symbols, vectors)[0])
    assert found.state_tables().bits(symbols.numpy()) == pytest.approx(nats / np.log(2), rel=1e-3)


def test_too_many_contexts_are_refused():
    with pytest.raises(ConfigError, match="fewer codes"):
        tables.prior_tables(random_network(context=NEIGHBOURS["c2lt"], channels=4, groups=4, codes=128))


def test_orders_fall_until_the_rest_has_rows(monkeypatch):
    network = random_network(context=NEIGHBOURS["c2lt"], groups=4, codes=4)
    monkeypatch.setattr(tables, "MOST_ROWS", 30)  # fewer than 4 * 5^2
    some = tables.prior_tables(network)
    assert len(some.weights) <= 4 * 5
    symbols = np.random.default_rng(0).integers(0, 4, (2, 4, 6, 5))
    coder = some.state_tables()
    np.testing.assert_array_equal(coder.decode(coder.encode(symbols), symbols.shape), symbols)


@pytest.mark.parametrize("name", ["v2dvq_c2_o1s", "v2dvq_c2_o2s", "v2dvq_c2_o2s_catreduce", "v2dvq_c2_o3s"])
def test_published_parameter_counts(name):
    network = FsarNetwork(getattr(config, name)())
    counts = dict(v2dvq_c2_o1s=509_894, v2dvq_c2_o2s=587_846, v2dvq_c2_o2s_catreduce=588_102, v2dvq_c2_o3s=673_990)
    assert sum(p.numel() for p in network.parameters()) == counts[name]


SMALL = {
    "no downsampling": {"downsamples": 0},
    "two": {"downsamples": 2},
    "shuffle": {"upsample": "shuffle"},
    "shuffle twice": {"upsample": "shuffle", "downsamples": 2},
    "skip": {"skip": True, "residuals": 2},
    "order 3": {"context": NEIGHBOURS["ctx3"], "codes": 5},
    "masked static prior": {"alpha": 1.4},
}


@pytest.mark.parametrize("fields", SMALL.values(), ids=SMALL)
def test_every_variant_codes(tmp_path, fields):
    """Networks with random weights: the integer decoder follows the floating-point one, files round-trip."""
    network = random_network(**fields)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        network.decoder[-1].bias.copy_(torch.tensor([0.5, -2.0] * 3))
    weights = checkpoint.build(network.state_dict(), network.config)
    codec = FsarCodec("fsar.tiny", weights)
    pictures = [sample.array for sample in samples.small_photos(32)[:3]] + [np.zeros((1, 5, 7), np.uint8)]
    for x, y in zip(pictures, codec.decompress_many(codec.compress_many(pictures)), strict=True):
        np.testing.assert_array_equal(x, y)
    symbols = network.symbols(torch.from_numpy(np.stack(pictures[:3])).float() / 255)
    mean, level = codec._decoder(symbols)
    params = network.double()(symbols)
    network.float()
    assert float((mean - params[..., 0] * 255).abs().max()) < 0.05
    assert float((level - ((params[..., 1] + 7) * 8).clamp(0, 56)).abs().max()) < 0.51
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert again.network.config == network.config
    assert again.fingerprint() == weights.fingerprint()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_backbones_construct(groups):
    for name in ("shallow", "shallow_c32", "shallow_c32_r4", "shallow_r4", "shallow_r8", "shallow_ps", "nods"):
        FsarNetwork(backbone(name, groups))
    with pytest.raises(ConfigError, match="no backbone"):
        backbone("deep", groups)


def test_published_backbone_sizes():
    count = {
        name: [sum(p.numel() for p in part.parameters()) for part in (network.encoder, network.decoder)]
        for name in ("normal", "shallow", "shallow_c32")
        for network in [FsarNetwork(backbone(name, 1))]
    }
    assert count == {
        "normal": [2_440_448, 3_478_534],
        "shallow": [48_576, 111_494],
        "shallow_c32": [13_024, 28_102],
    }


def test_symbols_through_one_coder():
    network = random_network(context=NEIGHBOURS["lt"])
    latent = ContextLatent(tables.prior_tables(network))
    symbols = np.random.default_rng(0).integers(0, 16, (2, 6, 8))
    io = EncodeIO()
    latent.code(io, symbols, symbols.shape)
    io.bits(8, 77)
    back = DecodeIO(io.finish())
    np.testing.assert_array_equal(latent.code(back, None, symbols.shape), symbols)
    assert back.bits(8) == 77
    back.finish()
