"""McQuic's quantiser as FSAR's baseline: sizes, integer networks, streams, training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError
from cbench.models.fsar import FsarTraining, checkpoint, config, mcquic, module
from cbench.models.fsar.codec import FsarCodec
from cbench.models.fsar.mcquic import pack, unpack
from cbench.models.fsar.network import FsarNetwork

TINY = replace(config.mcquic(), channels=16, codes=64)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    network = FsarNetwork(TINY).eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    for level in network.quantizer.levels:
        level.frequency.copy_(torch.rand(level.frequency.shape))
    network.decoder[-1].bias.copy_(torch.tensor([0.5, -1.5] * 3))
    return checkpoint.build(network.state_dict(), TINY)


@pytest.fixture(scope="module")
def pictures():
    found = [sample.array for sample in samples.small_photos(32)[:3]]
    noise = np.random.default_rng(0).integers(0, 256, (3, 12, 15), dtype=np.uint8)
    return [*found, found[0][:, :1, :1], found[1][:1, :9, :17], np.tile(found[2], (1, 3, 2))[:, :70, :49], noise]


def test_published_sizes():
    """The original counts the code frequencies as parameters."""
    with torch.device("meta"):
        network = FsarNetwork(config.mcquic())
    frequencies = sum(level.frequency.numel() for level in network.quantizer.levels)
    assert [level.codebook.shape for level in network.quantizer.levels] == [(2, k, 32) for k in (8192, 2048, 512)]
    assert sum(p.numel() for p in network.quantizer.parameters()) + frequencies == 2_664_582
    assert sum(p.numel() for p in network.parameters()) + frequencies == 2_824_652


def test_symbols_of_all_levels_share_a_grid():
    codes = [torch.randint(0, 64, (2, 2, 4 * side, 3 * side)) for side in (4, 2, 1)]
    packed = pack(codes)
    assert packed.shape == (2, TINY.planes, 4, 3)
    assert all(torch.equal(a, b) for a, b in zip(unpack(packed, 2), codes, strict=True))


def test_nearest_codes_have_the_largest_logits(weights, monkeypatch):
    monkeypatch.setattr(mcquic, "ROWS", 7)
    for level in weights.network.quantizer.levels:
        f = torch.randn(2, 5, 4, 2, 8)
        assert torch.equal(level._nearest(f.flatten(0, 2)).view(2, 5, 4, 2), level._logits(f).argmax(-1))


def test_files_archives_and_weights(weights, pictures, tmp_path):
    codec = FsarCodec("fsar.tiny", weights)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    other = FsarCodec("fsar.tiny", checkpoint.load(tmp_path / "w.safetensors"), threads=2)
    archive = codec.compress_many(pictures)
    for x, y in zip(pictures, other.decompress_many(archive), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(other.decompress(codec.compress(x)), x)
    theory = sum(codec.bits(x) for x in pictures)
    assert 8 * len(archive) == pytest.approx(theory, rel=0.02)


def test_the_integer_networks_are_the_networks(weights):
    codec = FsarCodec("fsar.tiny", weights)
    generator = torch.Generator().manual_seed(1)
    tables, of_plane = weights.network.quantizer.tables()
    assert [len(row) for row in tables] == [64, 64, 16, 16, 4, 4]
    symbols = torch.stack([torch.randint(0, len(tables[t]), (3, 2), generator=generator) for t in of_plane])[None]
    found, _ = codec._decoder(symbols)
    network = FsarNetwork(TINY).eval().double()
    network.load_state_dict(weights.network.state_dict())
    with torch.no_grad():
        params = network(symbols)
    assert float((found / 255 - params[..., 0]).abs().max()) < 1e-3


def test_tiles_are_the_whole(weights, pictures):
    codec, x = FsarCodec("fsar.tiny", weights), pictures[5]
    symbols = codec._symbols(x[None])
    whole = codec._rows(symbols, x.shape)
    codec._tile = 2
    for a, b in zip(whole, codec._rows(symbols, x.shape), strict=True):
        np.testing.assert_array_equal(a, b)


def test_damage_is_noticed(weights, pictures):
    codec = FsarCodec("fsar.tiny", weights)
    data = codec.compress(pictures[0])
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            codec.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 15):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:size])
    with pytest.raises(CbenchError):
        codec.decompress(data + b"\0")


def test_training_reduces_the_loss_and_codes(pictures):
    torch.manual_seed(0)
    trained = module(FsarTraining(model=replace(TINY, codes=32), revive_every=1))
    batch = torch.from_numpy(np.stack(pictures[:3]))
    optimiser = torch.optim.Adam(trained.network.parameters(), 1e-2)
    costs = []
    for trained.step in range(20):
        losses = trained.loss(batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        trained.after_step(batch)
        costs.append(losses["bpd"].item())
    assert costs[-1] < costs[0] - 1
    for level in trained.network.quantizer.levels:
        assert level.codebook.grad.abs().sum() > 0
        torch.testing.assert_close(level.frequency.sum(1), torch.ones(2))
        assert float(level.frequency.std()) > 0
    trained.eval()
    codec = trained.codec()
    np.testing.assert_array_equal(np.stack(codec.decompress_many(codec.compress_many(pictures[:3]))), batch.numpy())


def test_what_is_refused(weights):
    state = weights.network.state_dict()
    for value in (-1.0, float("nan")):
        wrong = checkpoint.build(state, TINY)
        wrong.network.quantizer.levels[1].frequency[0, 3] = value
        with pytest.raises(ConfigError, match="frequencies"):
            FsarCodec("fsar.tiny", wrong)
    for codes in (40, 16):
        with pytest.raises(ConfigError, match="multiple of 16"):
            replace(TINY, codes=codes)
    with pytest.raises(ConfigError, match="neither context"):
        replace(TINY, convolution="checkerboard")
    with pytest.raises(ConfigError, match="neither context"):
        replace(TINY, context=config.NEIGHBOURS["l"])
