"""FSAR's vector quantisers: VQ-VAE against vectors made by the original code, the others against their definition."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared

from cbench.data import samples
from cbench.errors import CbenchError
from cbench.models.fsar import FsarTraining, checkpoint, config, module
from cbench.models.fsar.codec import FsarCodec
from cbench.models.fsar.config import FsarConfig, tiny
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.quantizers import quantizer

KINDS = {
    "sthq": {},
    "noanneal": {"entropy_temp": 1.0},
    "nosth": {"quantizer": "nosth"},
    "sqvae": {"quantizer": "sqvae", "gs_temp": 1.0, "entropy_temp": 1.0, "annealed": "gs_temp"},
    "vqvae": {"quantizer": "vqvae"},
    "softvqvae": {"quantizer": "softvqvae", "annealed": "relax_temp"},
    "gapcontrol": {"quantizer": "softvqvae", "annealed": "gap"},
    "vqvae-ema": {"quantizer": "vqvae-ema"},
    "em": {"quantizer": "em"},
}


@needs_shared
def test_golden_vq_vae():
    folder = SHARED / "fixtures" / "fsar"
    vectors, totals = np.load(folder / "vq_baseline.npz"), json.loads((folder / "vq_baseline.json").read_text())
    made = quantizer(FsarConfig(channels=10, groups=2, codes=24, quantizer="vqvae"))
    made.codebook.data = torch.from_numpy(vectors["state/embedding"])
    z = torch.from_numpy(vectors["z"]).requires_grad_(True)
    coded = made(z)
    np.testing.assert_allclose(coded.latent.detach(), vectors["quantized"], atol=1e-6)
    np.testing.assert_allclose(made.latent(coded.symbols).detach(), vectors["decoded"], atol=1e-6)
    losses = totals["losses/loss_vq"] + totals["losses/loss_commitment"]
    assert float(coded.penalty.detach()) == pytest.approx(losses, rel=1e-5)
    (coded.penalty + (coded.latent * torch.from_numpy(vectors["probe_weight"])).sum() / 100).backward()
    for found, name in ((z.grad, "grad_z"), (made.codebook.grad, "grad_embedding")):
        assert np.abs(found.numpy() - vectors[name]).max() <= 1e-5 * np.abs(vectors[name]).max()


@needs_shared
def test_golden_moving_averages():
    """One update; the original begins with averages over no vectors."""
    vectors = np.load(SHARED / "fixtures" / "fsar" / "vq_baseline.npz")
    made = quantizer(FsarConfig(channels=10, groups=2, codes=24, quantizer="vqvae-ema"))
    for tensor in (made.codebook.data, made.total):
        tensor.copy_(torch.from_numpy(vectors["ema/embedding0"]))
    made.count.zero_()
    made(torch.from_numpy(vectors["z"]))
    smoothed = (made.count + 1e-5) / (made.count.sum(1, keepdim=True) + 24e-5) * made.count.sum(1, keepdim=True)
    for found, name in ((smoothed, "count1"), (made.total, "weight1"), (made.codebook.data, "embedding1")):
        np.testing.assert_allclose(found, vectors[f"ema/{name}"], rtol=1e-5, atol=1e-6)


def network(kind, seed=0):
    torch.manual_seed(seed)
    return FsarNetwork(replace(tiny(), **KINDS[kind]))


def picture_batch(count=4):
    return torch.from_numpy(np.stack([s.array for s in samples.small_photos(32)[:count]])).float() / 255


def test_samples_become_hard_codes_when_the_temperature_falls():
    made = network("nosth").quantizer
    made.gs_temp = 1e-3
    f = torch.randn(200, 2, 8)
    uniform = torch.rand(200, 2, 16)
    posterior = made.posterior(f)
    y = made.sample(posterior, uniform)
    gumbel = -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()
    assert torch.equal(y.argmax(-1), (posterior + gumbel).argmax(-1))
    assert float((y.amax(-1) > 0.99).float().mean()) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_losses_follow_their_definition(kind):
    made, x = network(kind), picture_batch()
    made.quantizer.DECAY = 1.0  # moving averages stand still
    uniform = torch.rand(4 * 256, 2, 16)
    coded = made.quantizer(made.encoder(x), uniform)
    made.quantizer.drawing = False  # "em" is at its first turn again
    f = made.quantizer.split(made.encoder(x))
    e = made.quantizer.codebook
    squares = (f[:, :, None] - e).square().sum(-1)
    assert torch.equal(squares.argmin(-1), coded.symbols.permute(0, 2, 3, 1).reshape(-1, 2))
    y, q = coded.shares, coded.vectors.reshape(-1, 2, 8)
    if kind in ("sthq", "noanneal", "vqvae", "vqvae-ema", "em"):
        torch.testing.assert_close(q, e[torch.arange(2), squares.argmin(-1)], atol=1e-5, rtol=1e-4)
        y = torch.nn.functional.one_hot(squares.argmin(-1), 16).float()
    elif kind in ("softvqvae", "gapcontrol"):
        y = torch.softmax(-squares / 8, -1)
    torch.testing.assert_close(q, torch.einsum("nlk,lke->nle", y, e), atol=1e-5, rtol=1e-4)
    losses = made.losses(x, uniform)
    prior = torch.log_softmax(made.prior_logits, -1)
    expected = 0.0
    if kind in ("vqvae", "softvqvae", "gapcontrol", "vqvae-ema"):
        hard = torch.nn.functional.one_hot(squares.argmin(-1), 16).float()
        expected = (0.25 if kind == "vqvae-ema" else 1.25) * (f - q).square().mean() - (hard * prior).sum() / x.numel()
    else:
        posterior = torch.log_softmax(-squares / 2, -1)
        entropy = made.config.entropy_temp * (y * posterior).sum()
        expected = (entropy - (y * prior).sum() + (f - q).square().sum() / 2) / x.numel()
    torch.testing.assert_close(losses.rate, expected, atol=1e-5, rtol=1e-3)


def test_gradients_reach_what_they_should():
    """Straight through to the encoder, or through the codes' shares; the pixels' loss moves a codebook only if soft."""
    x, uniform = picture_batch(), torch.rand(4 * 256, 2, 16)
    for kind, moved in (("sthq", False), ("nosth", False), ("vqvae", False), ("sqvae", True), ("softvqvae", True)):
        made = network(kind)
        made.losses(x, uniform).distortion.backward()
        assert made.encoder[0].weight.grad.abs().sum() > 0
        grad = made.quantizer.codebook.grad
        assert (grad is not None and float(grad.abs().sum()) > 0) == moved, kind


def test_turns_of_the_encoder_and_of_everything_else():
    made, x, uniform = network("em"), picture_batch(), torch.rand(4 * 256, 2, 16)
    for encoder_learns in (True, False, True):
        made.zero_grad()
        losses = made.losses(x, uniform)
        losses.total.backward()
        grad = made.encoder[0].weight.grad
        assert (grad is not None and float(grad.abs().sum()) > 0) == encoder_learns
        assert float(made.quantizer.codebook.grad.abs().sum()) > 0
        assert float(made.decoder[0].weight.grad.abs().sum()) > 0
        nearest = made.quantizer.nearest(made.quantizer.split(made.encoder(x)))
        same = (losses.symbols.permute(0, 2, 3, 1).reshape(-1, 2) == nearest).float().mean()
        assert (float(same) == 1) == encoder_learns


def test_gap_control_moves_the_loss_to_hard_codes():
    made, x = network("gapcontrol"), picture_batch()
    soft = made.losses(x).distortion
    assert made.quantizer(made.encoder(x)).hard is None
    found = {}
    for gap in (0.5, 1e-9):
        made.quantizer.anneal(gap)
        found[gap] = made.losses(x).distortion
    z = made.encoder(x)
    coded = made.quantizer(z)
    hard = made.pixel_nats(made.decoder(made.quantizer.latent(coded.symbols)), x).mean()
    torch.testing.assert_close(coded.hard, made.quantizer.latent(coded.symbols), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[1e-9], hard)
    torch.testing.assert_close(found[0.5], (soft + hard) / 2)
    with pytest.raises(CbenchError, match="softvqvae"):
        FsarConfig(annealed="gap")


def test_moving_averages_train_and_resume(tmp_path):
    """Codes follow the encoder; what weights files leave out begins anew at the codebook."""
    torch.manual_seed(0)
    trained = module(FsarTraining(model=replace(tiny(), quantizer="vqvae-ema")))
    batch = (picture_batch() * 255).to(torch.uint8)
    before = trained.network.quantizer.codebook.clone()
    trained.loss(batch)
    assert not torch.equal(before, trained.network.quantizer.codebook)
    made = trained.network.quantizer
    assert torch.isfinite(made.codebook).all()
    made.put(1, torch.arange(16) == 3, torch.full((1, 8), 7.0))
    trained.loss(batch)
    assert float((made.codebook[1, 3] - 7).abs().max()) < 0.1
    trained.eval()
    trained.save(tmp_path / "w.safetensors", {})
    other = module(FsarTraining(model=replace(tiny(), quantizer="vqvae-ema")))
    other.load(tmp_path / "w.safetensors")
    assert torch.equal(other.network.quantizer.total, made.codebook)


def test_temperatures_fall_while_training():
    trained = module(FsarTraining(model=replace(tiny(), **KINDS["sqvae"]), halvings=5))
    batch = (picture_batch() * 255).to(torch.uint8)
    trained.total_steps = 100
    for step, expected in ((0, 1.0), (20, 0.5), (100, 1 / 32)):
        trained.step = step
        assert torch.isfinite(trained.loss(batch)["loss"])
        assert trained.network.quantizer.gs_temp == pytest.approx(expected)
        assert trained.network.quantizer.entropy_temp == 1.0
    trained.config = replace(trained.config, anneal_from=0.5)
    for step, expected in ((50, 1.0), (70, 0.5)):
        trained.step = step
        trained.loss(batch)
        assert trained.network.quantizer.gs_temp == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_and_files(kind, tmp_path):
    made = network(kind).eval().requires_grad_(False)
    weights = checkpoint.build(made.state_dict(), made.config)
    x = samples.small_photos(32)[0].array
    codec = FsarCodec("fsar.tiny", weights)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert again.fingerprint() == weights.fingerprint()
    np.testing.assert_array_equal(FsarCodec("fsar.tiny", again).decompress(codec.compress(x)), x)


def test_published_sizes():
    """The two parameters more of "sqvae" are its variance and its temperature, which is no parameter here."""
    sizes = {"vqvae_c2": 176_454, "softvqvae_c2": 176_454, "sqvae_c2": 176_455, "v2dvq_c2_nosth": 176_454}
    sizes |= {"vqvae_ema_c2": 176_454, "v2dvq_em_c2": 176_454}
    for name, expected in sizes.items():
        made = FsarNetwork(getattr(config, name)())
        assert sum(value.numel() for key, value in made.named_parameters() if key != "prior_logits") == expected
