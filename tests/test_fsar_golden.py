"""The parts of FSAR built so far against vectors made by the original code: backbone, quantiser, losses, gradients."""

import json

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared
from torch import nn
from torch.nn import functional

from cbench.errors import ConfigError
from cbench.models.fsar import checkpoint
from cbench.models.fsar.config import tiny, v2dvq_c2
from cbench.models.fsar.network import STEP, FsarNetwork, Quantizer, pixel_nats

pytestmark = needs_shared
ADAPTIVE = ("cat_reduce_logprob", "fsar_mlps_per_channel")
"""Parts of the tiny model that the baseline does not have; the tests below supply them."""


def fixture(name):
    folder = SHARED / "fixtures" / "fsar"
    state = torch.load(folder / f"{name}_state.pt", weights_only=True)
    metrics = json.loads((folder / f"{name}_metrics.json").read_text())
    return state, np.load(folder / f"{name}.npz"), metrics


def baseline(state):
    return checkpoint.from_original({k: v for k, v in state.items() if not any(part in k for part in ADAPTIVE)})


@pytest.fixture(scope="module")
def shallow():
    state, vectors, metrics = fixture("shallow_c2")
    weights = checkpoint.build(baseline(state))
    return weights.network, vectors, metrics, torch.from_numpy(vectors["images"]).float() / 255


def on_original_grid(params):
    """The original's tables: 256 means and 15 log standard deviations."""
    mean = (params[..., 0] / STEP).round().clamp(0, 255) * STEP
    log_std = ((params[..., 1] + 7) / 0.5).round().clamp(0, 14) * 0.5 - 7
    return torch.stack([mean, log_std], -1)


def test_sizes_are_the_published_ones(shallow):
    network = shallow[0]
    assert network.config == v2dvq_c2()
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert count == {"encoder": 48_576, "quantizer": 16_384, "decoder": 111_494}


def test_encoder_quantiser_decoder(shallow):
    network, vectors, _, x = shallow
    z = network.encoder(x)
    np.testing.assert_allclose(z, vectors["z"], atol=2e-6)
    symbols = network.symbols(x)
    np.testing.assert_array_equal(symbols, vectors["symbols"])
    np.testing.assert_allclose(network(symbols), vectors["prior_params"], atol=1e-6)
    assert torch.equal(network.quantizer(z).symbols, symbols)


def test_losses(shallow):
    network, _, metrics, x = shallow
    losses = network.losses(x)
    assert float(losses.symbol_nats) == pytest.approx(metrics["metrics/prior_model/estimated_epd"], rel=1e-5)
    params = on_original_grid(network(losses.symbols)).double()
    nats = float(pixel_nats(params, x.double()).mean())
    assert nats == pytest.approx(metrics["metrics/entropy_coder/estimated_x_epd"], rel=1e-5)


class MaskedQuantizer(Quantizer):
    """The baseline's quantiser with the tiny model's category mask."""

    def mask(self, logits):
        p = functional.softmax(logits, -1) * self.probs
        p = p / (p.sum(-1, keepdim=True) + 1e-7)
        return (p + 1e-9).log() / (p + 1e-9).sum(-1, keepdim=True)

    def posterior(self, f):
        return functional.log_softmax(self.mask(super().posterior(f)), -1)

    def nearest(self, f):
        return self.posterior(f).argmax(-1)


@pytest.fixture
def small():
    state, vectors, metrics = fixture("tiny_lt_cat15")
    network = FsarNetwork(tiny())
    network.load_state_dict(baseline(state), strict=False)
    network.quantizer.__class__ = MaskedQuantizer
    network.quantizer.probs = torch.from_numpy(vectors["entmax_probs"])
    return network, state, vectors, metrics, torch.from_numpy(vectors["images"]).float() / 255


def test_tiny_forward(small):
    network, _, vectors, _, x = small
    with torch.no_grad():
        network.eval()
        z = network.encoder(x)
        np.testing.assert_allclose(z, vectors["z"], atol=2e-6)
        f = network.quantizer.split(z)
        squares = (f[:, :, None] - network.quantizer.codebook).square().sum(-1) / 2
        np.testing.assert_allclose(squares.view(4, 16, 16, 2, 16), vectors["half_sq_distance"], rtol=1e-4, atol=1e-5)
        kept = torch.from_numpy(vectors["reduce_mask"]).long()  # the original's encoder ignores the mask's weights
        all_codes = network.quantizer.codebook.data
        network.quantizer.codebook.data = all_codes[:, kept]
        nearest = kept[Quantizer.nearest(network.quantizer, f)].view(4, 16, 16, 2).permute(0, 3, 1, 2)
        network.quantizer.codebook.data = all_codes
        np.testing.assert_array_equal(nearest, vectors["symbols_encode"])
        posterior = network.quantizer.posterior(f).view(4, 16, 16, 2, 16)
        np.testing.assert_allclose(posterior, vectors["posterior_logits"], atol=1e-5)
        coded = network.quantizer(z)
        np.testing.assert_array_equal(coded.symbols, vectors["symbols_forward"])
        np.testing.assert_allclose(network.quantizer.latent(coded.symbols), vectors["z_hat"], atol=1e-6)
        np.testing.assert_allclose(coded.latent, vectors["z_hat"], atol=1e-6)
        params = network(coded.symbols)
    np.testing.assert_allclose(params, vectors["prior_params"], atol=2e-6)
    probability = torch.exp(-pixel_nats(params, x))
    np.testing.assert_allclose(probability, vectors["data_prob_unquantized"], atol=2e-6)
    nats = pixel_nats(params.double(), x.double()).sum((1, 2, 3))
    np.testing.assert_allclose(nats, vectors["data_nats_per_image_unquantized"], rtol=1e-5)
    nats = pixel_nats(on_original_grid(params).double(), x.double()).sum((1, 2, 3))
    np.testing.assert_allclose(nats, vectors["data_nats_per_image_quantized"], rtol=1e-5)


def autoregressive_nats(network, state, q, symbols):
    """-log prior of the symbols a batch under the tiny model's context of the row above and the pixel to the left."""
    b, _, h, w = symbols.shape
    q = q.view(b, h, w, 2, 8)
    above = functional.pad(q, (0, 0, 0, 0, 0, 0, 1, 0))[:, :h]
    left = functional.pad(q, (0, 0, 0, 0, 1, 0))[:, :, :w]
    total = 0
    for c in range(2):
        x = torch.cat([above[..., c, :], left[..., c, :]], -1)
        for layer in (0, 2, 4):
            key = f"prior_model.prior_coder.fsar_mlps_per_channel.{c}.{layer}."
            x = functional.linear(x, state[key + "weight"], state[key + "bias"])
            x = functional.leaky_relu(x, 0.01) if layer < 4 else x
        logits = functional.log_softmax(network.quantizer.mask(x), -1)
        total = total - logits.gather(-1, symbols[:, c, :, :, None]).sum() / b
    return total


def test_tiny_losses_and_gradients(small):
    network, state, vectors, metrics, x = small
    network.train()
    uniform = torch.from_numpy(vectors["train_uniform"])
    z = network.encoder(x)
    coded = network.quantizer(z, uniform)
    params = network.decoder(coded.latent)
    distortion = pixel_nats(params, x).mean()
    f = network.quantizer.split(z)
    symbols = coded.symbols.permute(0, 2, 3, 1).reshape(-1, 2)
    y = network.quantizer.soften(f, symbols, uniform)
    q = torch.einsum("nlk,lke->nle", y, network.quantizer.codebook)
    size = x[0].numel()
    rate = (autoregressive_nats(network, state, q, coded.symbols) + coded.cont / len(x)) / size
    assert distortion.item() == pytest.approx(metrics["train/losses/entropy_coder/loss_distortion"], rel=1e-5)
    assert rate.item() == pytest.approx(metrics["train/losses/prior_model/loss_rate"], rel=1e-5)
    (distortion + rate).backward()
    names = {
        "encoder.0.weight": "prior_model.encoder.encoder.0.weight",
        "encoder.3.weight": "prior_model.encoder.encoder.3.weight",
        "decoder.0.weight": "prior_model.decoder.decoder.0.weight",
        "decoder.6.weight": "prior_model.decoder.decoder.6.weight",
        "quantizer.codebook": "prior_model.prior_coder.embedding",
    }
    ours = dict(network.named_parameters())
    for name, key in names.items():
        expected = vectors[f"grad/{key}"]
        # 1,156 sub-pixels lie so far in the tail that the float32 difference of two distribution functions is zero or a
        # few units in the last place. What the golden gradients of the pixel loss hold there is the rounding of one
        # processor's erf: they are up to 1.2 % away from the gradient in float64. Nothing else is that inexact.
        tolerance = 1e-5 if name == "quantizer.codebook" else 5e-3
        assert np.abs(ours[name].grad.numpy() - expected).max() <= tolerance * np.abs(expected).max(), name


def test_noise_on_some_rows_only_changes_gradients(small):
    network, _, vectors, _, x = small
    network.eval()
    z = network.encoder(x)
    uniform = torch.from_numpy(vectors["train_uniform"])
    for rows in (0, 1, 100, len(uniform)):
        coded = network.quantizer(z, uniform[:rows])
        plain = network.quantizer(z)
        assert torch.equal(coded.symbols, plain.symbols)
        assert float(coded.cont) == pytest.approx(float(plain.cont), rel=1e-5)


@pytest.mark.parametrize("lightning", [False, True])
def test_original_checkpoints_load(tmp_path, lightning, shallow):
    state, vectors, _ = fixture("shallow_c2")
    content = {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3} if lightning else state
    torch.save(content, tmp_path / "last.ckpt")
    weights = checkpoint.load(tmp_path / "last.ckpt")
    assert weights.network.config == v2dvq_c2()
    assert (weights.counts == 1).all()
    np.testing.assert_array_equal(weights.network.symbols(shallow[3]), vectors["symbols"])
    back = checkpoint.to_original(weights.network.state_dict())
    assert back.keys() == state.keys() - {"prior_model.prior_coder.embedding_variance"}
    assert all(torch.equal(back[key], state[key]) for key in back)


def test_checkpoints_of_other_models_are_refused(tmp_path):
    state, _, _ = fixture("tiny_lt_cat15")
    torch.save(state, tmp_path / "full.pt")
    with pytest.raises(ConfigError, match="no part of the V2DVQ baseline"):
        checkpoint.load(tmp_path / "full.pt")
    torch.save({"state_dict": {"a": nn.Linear(2, 2)}}, tmp_path / "code.pt")
    with pytest.raises(ConfigError, match="plain tensors"):
        checkpoint.load(tmp_path / "code.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "full.pt").read_bytes()[:1000])
    with pytest.raises(ConfigError):
        checkpoint.load(tmp_path / "cut.pt")


def test_our_file_round_trips(tmp_path, shallow):
    counts = np.arange(512, dtype=np.uint32).reshape(2, 256)
    weights = checkpoint.Weights(shallow[0], counts)
    checkpoint.save(tmp_path / "w.safetensors", weights, {"note": "test"})
    back = checkpoint.load(tmp_path / "w.safetensors")
    assert back.fingerprint() == weights.fingerprint()
    np.testing.assert_array_equal(back.counts, counts)
    assert (tmp_path / "w.safetensors").stat().st_size < 750_000
