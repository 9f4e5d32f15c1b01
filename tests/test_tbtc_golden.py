"""The TBTC networks, losses and checkpoints against golden vectors made by the reproduction's code."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared
from torch.nn import functional

from cbench.errors import ConfigError
from cbench.models.tbtc import TbtcTraining, checkpoint
from cbench.models.tbtc.codec import TbtcCodec
from cbench.models.tbtc.config import large, medium, small
from cbench.models.tbtc.network import TbtcNetwork
from cbench.models.tbtc.swin import Block, PatchEmbed, PatchMerging, PatchSplitting, window_plan
from cbench.models.tbtc.train import rate_distortion
from cbench.nn.gaussian import scale_index
from cbench.nn.rounding import round_through

MODELS = ("conv-hyperprior", "conv-charm", "swint-hyperprior", "swint-charm", "swint-charm-w8", "swint-charm-paper")
TRAININGS = ("conv-hyperprior", "conv-charm", "swint-charm")
M = [(t, p) for t in ("conv", "swin") for p in ("hyperprior", "charm")]


@cache
def fixture(name):
    return np.load(SHARED / "fixtures" / "tbtc" / f"{name}.npz")


def facts(name):
    return json.loads((SHARED / "fixtures" / "tbtc" / f"{name}.json").read_text())


@cache
def weights(name):
    return checkpoint.load(SHARED / "fixtures" / "tbtc" / f"{name}_state_dict.pt")


def tensor(name, key):
    return torch.from_numpy(fixture(name)[key])


@pytest.mark.parametrize(
    ("size", "transform", "prior", "variant", "count"),
    [
        (medium, "conv", "hyperprior", "tbtc", 21_385_155),
        (medium, "conv", "charm", "tbtc", 29_078_031),
        (medium, "swin", "hyperprior", "tbtc", 24_645_008),
        (medium, "swin", "charm", "tbtc", 32_337_884),
        (medium, "conv", "hyperprior", "paper", 21_385_155),
        (medium, "conv", "charm", "paper", 29_277_391),
        (medium, "swin", "hyperprior", "paper", 24_670_340),
        (medium, "swin", "charm", "paper", 32_562_576),
        (small, "conv", "hyperprior", "paper", 8_092_867),
        (small, "swin", "hyperprior", "paper", 9_120_194),
        (large, "conv", "hyperprior", "paper", 41_050_819),
        (large, "swin", "hyperprior", "paper", 41_810_536),
    ],
)
def test_parameter_counts(size, transform, prior, variant, count):
    network = TbtcNetwork(size(transform, prior, variant))
    assert sum(p.numel() for p in network.parameters()) == count


@needs_shared
@pytest.mark.parametrize("name", MODELS)
def test_forward(name):
    network, golden = weights(name).network, fixture(name)
    left, right, top, bottom = golden["pad_left_right_top_bottom"].tolist()
    x = torch.from_numpy(golden["image"]).permute(2, 0, 1)[None].float() / 255
    x = functional.pad(x, (left, right, top, bottom))
    y = network.g_a(x)
    z = network.h_a(y)
    z_hat = network.entropy_bottleneck.rounded(z)
    p = network.parameters_of(z_hat, lambda own, mu: round_through(y[:, own] - mu) + mu)
    out = network(x)
    charm = network.config.prior == "charm"

    def close(found, key, tolerance):
        assert float((found - tensor(name, key)).abs().max()) <= tolerance, key

    close(y, "y", 1e-5)
    close(z, "z", 1e-4)
    close(p.mu, "mu" if charm else "hyper_means", 1e-5)
    close(p.scale, "scale" if charm else "hyper_scales", 1e-5)
    close(p.y_hat, "y_hat", 1e-5)
    close(out.x_hat, "x_hat", 2e-5)
    assert torch.equal((y - p.mu).round().short(), tensor(name, "y_symbols"))
    medians = network.entropy_bottleneck.quantiles[:, 0, 1].view(-1, 1, 1)
    assert torch.equal((z - medians).round().short(), tensor(name, "z_symbols"))
    index = scale_index(np.floor(p.scale.double().numpy() * 2**40).astype(np.int64), 40)
    assert np.array_equal(index, golden["y_indexes"])
    results = facts(name)["results"]
    bits_y, bits_z = (-float(part.log2().sum()) for part in (out.y_likelihood, out.z_likelihood))
    assert bits_y == pytest.approx(results["bits_y"], rel=1e-5)
    assert bits_z == pytest.approx(results["bits_z"], rel=1e-5)
    assert torch.allclose(out.y_likelihood, tensor(name, "y_likelihood"), rtol=1e-3)


@needs_shared
@pytest.mark.parametrize("name", MODELS)
def test_tables_of_the_original(name):
    bottleneck = weights(name).network.entropy_bottleneck
    bottleneck.update(force=True)
    found = bottleneck._quantized_cdf.numpy()
    assert np.array_equal(bottleneck._cdf_length.numpy(), fixture(name)["z_cdf_length"])
    assert np.array_equal(bottleneck._offset.numpy(), fixture(name)["z_offset"])
    # Float32 tables are those of one machine; on others a bound moves by a unit, which is why ours are stored.
    assert np.abs(found - fixture(name)["z_cdf"][:, : found.shape[1]]).max() <= 1


@needs_shared
@pytest.mark.parametrize("name", MODELS)
def test_real_files(name):
    golden, results = fixture(name), facts(name)["results"]
    codec = TbtcCodec("tbtc.golden", weights(name))
    picture = np.ascontiguousarray(golden["image"].transpose(2, 0, 1))
    data = codec.compress(picture)
    back = codec.decompress(data)
    psnr = 10 * np.log10(255**2 / np.square(back.astype(float) - picture).mean())
    if not golden["pad_left_right_top_bottom"].any():
        assert psnr == pytest.approx(results["psnr_8bit"], abs=1e-3)
        # Header and coder end cost us more on such small pictures; rows of 16 bits are equally good.
        assert len(data) < results["bytes_y"] + results["bytes_z"] + 60


@needs_shared
@pytest.mark.parametrize("name", TRAININGS)
def test_training_losses_and_gradients(name):
    golden, results = fixture(f"train-{name}"), facts(f"train-{name}")["results"]
    network = TbtcNetwork(weights(name).network.config)
    network.load_state_dict(checkpoint.parameters_of(weights(name).network), strict=False)
    # In float64 no value is near enough to a tie or a ReLU's corner for two implementations to part.
    network.train().double()
    x = torch.from_numpy(golden["images"]).permute(0, 3, 1, 2).double() / 255
    out = network(x, tensor(f"train-{name}", "noise_y"), tensor(f"train-{name}", "noise_z"))
    losses = rate_distortion(out, x, TbtcTraining(model=network.config, rate=0.01))
    expected = results["lambda_0.01"]
    assert float(losses["loss"]) == pytest.approx(expected["loss"], rel=1e-5)
    assert float(losses["bpp"]) == pytest.approx(expected["bpp_loss"], rel=1e-5)
    assert float(losses["mse"]) == pytest.approx(expected["mse_loss"], rel=1e-5)
    # The paper's form, 255^2 MSE + beta * bits of a crop, is this one with lambda = 1 / (beta * pixels), scaled.
    pixels, beta = 128 * 128, 0.001
    scaled = (
        rate_distortion(out, x, TbtcTraining(model=network.config, rate=1 / (beta * pixels)))["loss"] * beta * pixels
    )
    assert float(scaled) == pytest.approx(results["beta_0.001"]["loss"], rel=1e-5)
    losses["loss"].backward()
    gradients = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
    theirs = checkpoint.to_original(gradients, network.config)
    for key, norm in expected["grad_l2"].items():
        if norm:
            assert float(theirs[key].norm()) == pytest.approx(norm, rel=1e-3), key
    for key in golden:
        if key.startswith("grad/"):
            own, other = theirs[key.removeprefix("grad/")], torch.from_numpy(golden[key])
            assert float((own - other).norm()) <= 1e-3 * float(other.norm()) + 1e-6, key
    assert float(network.entropy_bottleneck.loss()) == pytest.approx(results["aux_loss"], rel=1e-2, abs=1e-4)


def part(module, prefix):
    golden = fixture("blocks")
    state = {
        key.removeprefix(f"{prefix}/param/"): torch.from_numpy(golden[key])
        for key in golden
        if key.startswith(f"{prefix}/param/") and "relative_position_index" not in key
    }
    module.load_state_dict(state)
    return module(tensor("blocks", f"{prefix}/in")), tensor("blocks", f"{prefix}/out")


@needs_shared
def test_blocks():
    config = replace(weights("swint-charm").network.config, head=8)
    cases = {
        "block_noshift": Block(12, 4, 0, config),
        "block_shift": Block(12, 4, 2, config),
        "block_shift_w8": Block(12, 8, 4, config),
        "merge": PatchMerging(6, 10),
        "split_reference": PatchSplitting(10, 6, "front"),
        "split_paper": PatchSplitting(10, 6, "behind"),
        "unpack_paper": PatchSplitting(10, 3, "none"),
        "embed": PatchEmbed(3, 8),
    }
    with torch.no_grad():
        for name, module in cases.items():
            found, expected = part(module, name)
            if found.shape != expected.shape:
                expected = expected.view_as(found)
            assert torch.allclose(found, expected, atol=2e-6), name


@pytest.mark.parametrize("size", [(8, 16), (5, 7), (1, 1), (4, 4), (9, 4)])
@pytest.mark.parametrize("shift", [0, 2])
def test_padding_inside_a_block_changes_nothing_outside(size, shift):
    """A map that windows do not cover: its positions see one another exactly as in the covered map around it."""
    plan = window_plan(*size, 4, shift, torch.device("cpu"))
    places = torch.arange(plan.gather.numel())
    assert torch.equal(plan.gather[plan.scatter], torch.arange(size[0] * size[1]))
    windows = plan.mask.shape[0] + plan.free
    assert windows * 16 == len(places)
    # Nobody is alone: each place sees at least itself.
    assert bool((plan.mask[:, 0].diagonal(dim1=1, dim2=2) == 0).all())


def test_padded_positions_are_not_seen():
    torch.manual_seed(0)
    config = medium("swin", "charm")
    block = Block(64, 4, 2, config).eval()
    x = torch.randn(1, 6, 5, 64)
    with torch.no_grad():
        block.attn.relative_position_bias_table.normal_()
        before = block(x)
        # The padding repeats positions of the map; were it seen, doubling them would show.
        plan = window_plan(6, 5, 4, 2, torch.device("cpu"))
        filled = plan.gather.clone()
        inside = torch.zeros(len(filled), dtype=torch.bool)
        inside[plan.scatter] = True
        filled[~inside] = 0
        object.__setattr__(plan, "gather", filled)
        assert torch.allclose(block(x), before, atol=1e-6)
    window_plan.cache_clear()


@needs_shared
@pytest.mark.parametrize(("transform", "prior"), M)
def test_importer_is_an_identity(transform, prior):
    keys = json.loads((SHARED / "fixtures" / "tbtc" / "state_dict_keys_M.json").read_text())
    listed = keys[f"zyc2022-{transform}{'t' if transform == 'swin' else ''}-{prior}"]
    config = medium(transform, prior, "tbtc")
    network = TbtcNetwork(config)
    theirs = checkpoint.to_original(checkpoint.parameters_of(network), config)
    found = {key: [list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in theirs.items()}
    assert found == listed
    ours = checkpoint.from_original(theirs)
    assert set(ours) == set(checkpoint.parameters_of(network))
    assert checkpoint.config_of(ours) == config


@needs_shared
@pytest.mark.parametrize("name", MODELS)
def test_importer_keeps_every_value(name):
    original = torch.load(SHARED / "fixtures" / "tbtc" / f"{name}_state_dict.pt", weights_only=True)
    loaded = weights(name).network
    back = checkpoint.to_original(checkpoint.parameters_of(loaded), loaded.config)
    assert back.keys() == original.keys()
    for key, value in original.items():
        if "_offset" not in key and "_cdf" not in key:
            assert torch.allclose(back[key].to(value.dtype), value, rtol=1e-6, atol=0), key


@needs_shared
def test_other_weights_are_refused():
    state = checkpoint.parameters_of(weights("conv-charm").network)
    for key in ("g_a.0.weight", "charm_mean_transforms.3.layers.2.bias"):
        with pytest.raises(ConfigError, match="TBTC"):
            checkpoint.build({name: value for name, value in state.items() if name != key})
    with pytest.raises(ConfigError, match="fit"):
        checkpoint.build(state | {"extra": torch.zeros(1)})
