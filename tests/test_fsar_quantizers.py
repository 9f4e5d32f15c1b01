"""FSAR's vector quantisers: VQ-VAE against vectors made by the original code, the others against their definition."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared

from cbench.data import samples
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
    uniform = torch.rand(4 * 256, 2, 16)
    coded = made.quantizer(made.encoder(x), uniform)
    f = made.quantizer.split(made.encoder(x))
    e = made.quantizer.codebook
    squares = (f[:, :, None] - e).square().sum(-1)
    assert torch.equal(squares.argmin(-1), coded.symbols.permute(0, 2, 3, 1).reshape(-1, 2))
    y, q = coded.shares, coded.vectors.reshape(-1, 2, 8)
    if kind in ("sthq", "noanneal", "vqvae"):
        torch.testing.assert_close(q, e[torch.arange(2), squares.argmin(-1)], atol=1e-5, rtol=1e-4)
        y = torch.nn.functional.one_hot(squares.argmin(-1), 16).float()
    elif kind == "softvqvae":
        y = torch.softmax(-squares / 8, -1)
    torch.testing.assert_close(q, torch.einsum("nlk,lke->nle", y, e), atol=1e-5, rtol=1e-4)
    losses = made.losses(x, uniform)
    prior = torch.log_softmax(made.prior_logits, -1)
    expected = 0.0
    if kind in ("vqvae", "softvqvae"):
        hard = torch.nn.functional.one_hot(squares.argmin(-1), 16).float()
        expected = 1.25 * (f - q).square().mean() - (hard * prior).sum() / x.numel()
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


def test_temperatures_fall_while_training():
    trained = module(FsarTraining(model=replace(tiny(), **KINDS["sqvae"]), halvings=5))
    batch = (picture_batch() * 255).to(torch.uint8)
    trained.total_steps = 100
    for step, expected in ((0, 1.0), (20, 0.5), (100, 1 / 32)):
        trained.step = step
        assert torch.isfinite(trained.loss(batch)["loss"])
        assert trained.network.quantizer.gs_temp == pytest.approx(expected)
        assert trained.network.quantizer.entropy_temp == 1.0


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
    for name, expected in sizes.items():
        made = FsarNetwork(getattr(config, name)())
        assert sum(value.numel() for key, value in made.named_parameters() if key != "prior_logits") == expected
