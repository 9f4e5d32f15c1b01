"""The TBTC codec: any size, any machine, damage, previews; with small untrained networks that code real symbols."""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch

from cbench.coding.container import payload_size
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError
from cbench.models.tbtc import TbtcTraining, checkpoint, module
from cbench.models.tbtc.analysis import macs, receptive_field, spatial_correlation
from cbench.models.tbtc.codec import TbtcCodec
from cbench.models.tbtc.config import TbtcConfig, extra_small, lambda_of, medium, small, tiny
from cbench.models.tbtc.exact import BITS, MARGIN, OFFSETS, ExactPrior, round_with, safe_offset
from cbench.models.tbtc.network import TbtcNetwork
from cbench.zoo.weights import load_weights

MODELS = [(t, p) for t in ("conv", "swin") for p in ("hyperprior", "charm")]
SIZES = ((1, 1), (17, 23), (64, 64), (65, 130))


@cache
def weights(transform, prior, seed=0):
    """A small network whose y and scales vary enough to fill many rows of the tables."""
    torch.manual_seed(seed)
    network = TbtcNetwork(tiny(transform, prior))
    with torch.no_grad():
        for part, factor in ((network.g_a, 4), (network.h_a, 2), (network.h_s, 2), (network.g_s, 2)):
            for name, value in part.named_parameters():
                if name.endswith("weight") and value.ndim > 1:
                    value.mul_(factor if transform == "conv" else 1.5)
        for towers in ("charm_mean_transforms", "charm_scale_transforms"):
            for tower in getattr(network, towers, []):
                tower.layers[4].weight.mul_(2)
                tower.layers[4].bias.add_(0.4)
    return checkpoint.build(checkpoint.parameters_of(network), network.config)


@cache
def codec(transform, prior):
    return TbtcCodec("tbtc.test", weights(transform, prior))


@cache
def photo(height, width, channels=3):
    return np.ascontiguousarray(samples.photos()[0].array[:channels, 40 : 40 + height, 60 : 60 + width])


@pytest.mark.parametrize(("transform", "prior"), MODELS)
def test_any_size_comes_back(transform, prior):
    own = codec(transform, prior)
    for height, width in SIZES:
        for channels in (1, 3):
            x = photo(height, width, channels)
            data = own.compress(x)
            back = own.decompress(data)
            assert (back.shape, back.dtype) == (x.shape, x.dtype)
            assert np.array_equal(back, own.decompress(data))


@pytest.mark.parametrize(("transform", "prior"), [("conv", "hyperprior"), ("swin", "charm")])
def test_a_whole_picture(transform, prior):
    own = codec(transform, prior)
    x = photo(321, 481)
    data = own.compress(x)
    assert own.decompress(data).shape == x.shape
    assert own.bits(x) == pytest.approx(8 * payload_size(data), rel=0.01, abs=100)


def test_what_is_decoded_is_what_training_saw():
    for transform, prior in MODELS:
        own, network = codec(transform, prior), weights(transform, prior).network
        x = photo(128, 192)
        with torch.no_grad():
            out = network(torch.from_numpy(x)[None].float() / 255)
        data = own.compress(x)
        expected = out.x_hat.mul(255).round().clamp(0, 255)[0].numpy()
        # A symbol whose value lies on a tie may fall to the other side of it: the exact means are rounded.
        assert np.abs(own.decompress(data) - expected).mean() < 1
        # Less where training's bound on a likelihood asks for more than the escape symbol does.
        assert 8 * payload_size(data) < 1.03 * float(out.bits) + 200


@pytest.mark.parametrize("transform", ["conv", "swin"])
def test_batches_are_their_pictures(transform):
    """Also where z has one position, and with either memory layout."""
    network = weights(transform, "charm").network
    x = torch.from_numpy(np.stack([photo(64, 64), photo(65, 64)[:, 1:]])).float() / 255
    with torch.no_grad():
        both, first, second = (network(part).x_hat for part in (x, x[:1], x[1:].to(memory_format=torch.channels_last)))
    assert float((both - torch.cat([first, second])).abs().max()) < 1e-3


def test_several_pictures_in_one_archive():
    own = codec("conv", "charm")
    pictures = [photo(17, 23), photo(64, 64), photo(17, 23)]
    backs = own.decompress_many(own.compress_many(pictures))
    for x, back in zip(pictures, backs, strict=True):
        assert np.array_equal(back, own.decompress(own.compress(x)))


@pytest.mark.parametrize(("transform", "prior"), [("conv", "charm"), ("swin", "charm"), ("conv", "hyperprior")])
def test_previews_improve(transform, prior):
    own = codec(transform, prior)
    data = own.compress(photo(65, 130))
    whole = own.decompress(data).astype(float)
    errors = [np.square(own.preview(data, k) - whole).mean() for k in range(own.config.slices + 1)]
    assert errors[-1] == 0
    assert errors[0] == max(errors) > 0
    with pytest.raises(ConfigError, match="slices"):
        own.preview(data, own.config.slices + 1)


def test_inputs_that_are_refused():
    own = codec("conv", "hyperprior")
    for array in (np.zeros((4, 8, 8), np.uint8), np.zeros((3, 8, 8), np.uint16), np.zeros((5, 8, 8), np.uint8)):
        with pytest.raises(UnsupportedInputError):
            own.compress(array)


@pytest.mark.parametrize(("transform", "prior"), [("conv", "hyperprior"), ("swin", "charm")])
def test_damage_is_noticed(transform, prior):
    own = codec(transform, prior)
    data = own.compress(photo(17, 23))
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            own.decompress(bytes(damaged))
    for cut in (0, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(CbenchError):
            own.decompress(data[:cut])
    with pytest.raises(CbenchError):
        own.decompress(data + b"\0")


def test_damaged_streams_never_crash():
    """Past the container's checksum: the script itself meets nonsense."""
    from dataclasses import replace

    from cbench.coding.container import pack, unpack

    own = codec("swin", "charm")
    head, (stream,) = unpack(own.compress(photo(17, 23)))
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(25):
        damaged = bytearray(stream)
        damaged[rng.integers(len(stream))] ^= 1 << rng.integers(8)
        try:
            own.decompress(pack(head, bytes(damaged)))
        except CbenchError:
            refused += 1
    assert refused == 25
    with pytest.raises(BitstreamError):
        own.decompress(pack(replace(head, shape=(4, 17, 23)), stream))


def test_other_weights_are_refused():
    data = codec("conv", "hyperprior").compress(photo(17, 23))
    other = TbtcCodec("tbtc.test", weights("conv", "hyperprior", seed=1))
    with pytest.raises(WrongModelError, match="weights"):
        other.decompress(data)


@pytest.mark.parametrize(("transform", "prior"), MODELS)
def test_exact_prior_agrees_with_the_network(transform, prior):
    own = weights(transform, prior)
    exact, network = ExactPrior(own.network), own.network
    z_hat = torch.randint(-6, 7, (1, 12, 2, 3)).float() + own.network.entropy_bottleneck.quantiles[:, 0, 1].view(
        -1, 1, 1
    )
    with torch.no_grad():
        p = network.parameters_of(z_hat, lambda own, mu: mu)
        out = exact.hyper((z_hat.double() * 2**BITS).round().permute(0, 2, 3, 1))
        out = round_with(out, safe_offset(out)) if exact.needs_offset else out
        scales, means = out.chunk(2, -1)
        done = []
        for i in range(network.config.slices):
            mu, scale = exact.slice(i, scales, means, done) if prior == "charm" else (means, scales)
            done.append(mu)
            own_channels = slice(i * mu.shape[-1], (i + 1) * mu.shape[-1])
            for found, expected in ((mu, p.mu), (scale, p.scale)):
                expected = expected[:, own_channels].permute(0, 2, 3, 1)
                assert float((found * 2.0**-BITS - expected).abs().max()) < 2e-3


def test_offsets_keep_away_from_ties():
    values = torch.arange(200, dtype=torch.float64) * 7.3 + 0.5
    offset = safe_offset(values)
    assert offset > 0
    shaken = values + (torch.rand(200, dtype=torch.float64) - 0.5) * MARGIN
    assert torch.equal(round_with(values, offset), round_with(shaken, offset))
    crowded = torch.arange(2 * OFFSETS, dtype=torch.float64) / (2 * OFFSETS)
    assert 0 <= safe_offset(crowded) < OFFSETS


DECODE = """
import os, sys
from pathlib import Path
import torch
torch.backends.mkldnn.enabled = os.environ["ONEDNN"] == "1"
from cbench.models.tbtc import checkpoint
from cbench.models.tbtc.analysis import macs, receptive_field, spatial_correlation
from cbench.models.tbtc.codec import TbtcCodec
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    codec = TbtcCodec("tbtc.test", checkpoint.load(path), threads=int(os.environ["THREADS"]))
    for file in sorted(path.parent.glob(path.stem + "-*.cbn")):
        codec.decompress(file.read_bytes())
        print(file.name)
"""


def test_files_decode_under_other_kernels(tmp_path):
    """`decompress` compares the symbols' check, so coming back at all is the proof."""
    written = []
    for transform, prior in (("conv", "charm"), ("swin", "charm"), ("swin", "hyperprior")):
        # Random weights themselves depend on the kernels, so they travel too.
        checkpoint.save(tmp_path / f"{transform}-{prior}.safetensors", weights(transform, prior), {})
        for side in (64, 200):
            written.append(f"{transform}-{prior}-{side}.cbn")
            (tmp_path / written[-1]).write_bytes(codec(transform, prior).compress(photo(side, 190)))
    for threads, onednn, level in (("2", "1", "avx2"), ("1", "0", "default")):
        environment = {**os.environ, "THREADS": threads, "ONEDNN": onednn, "ATEN_CPU_CAPABILITY": level}
        environment["MKL_CBWR"] = "COMPATIBLE"  # the one setting under which matrix products add in another order
        command = [sys.executable, "-c", DECODE, str(tmp_path)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert sorted(run.stdout.split()) == sorted(written)


@pytest.mark.parametrize(("transform", "prior"), [("conv", "hyperprior"), ("swin", "charm")])
def test_training_weights_file_and_codec(transform, prior, tmp_path):
    torch.manual_seed(0)
    training = module(TbtcTraining(model=tiny(transform, prior), rate=0.02, settle_every=2))
    names = {id(p) for group in training.groups() for p in group.parameters}
    assert id(training.network.entropy_bottleneck.quantiles) not in names
    optimizer = torch.optim.Adam(training.groups()[0].parameters, lr=1e-3)
    x = torch.from_numpy(photo(64, 128))[None]
    first = None
    for _ in range(6):
        losses = training.loss(x)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        training.step += 1
        training.after_step(x)
        first = first or float(losses["loss"].detach())
    assert float(losses["loss"]) < first
    training.network.eval()
    training.calibrate([])
    assert float(training.loss(x[:, :, :17, :23])["psnr"]) > 0
    path = tmp_path / "w.safetensors"
    training.save(path, {"note": "test"})
    assert load_weights(path)[1]["lambda"] == "0.02"
    own = TbtcCodec("tbtc.test", checkpoint.load(path))
    assert own.fingerprint == TbtcCodec("tbtc.test", checkpoint.load(path)).fingerprint
    picture = photo(64, 128)
    assert np.array_equal(own.decompress(own.compress(picture)), own.decompress(own.compress(picture)))
    again = module(TbtcTraining(model=tiny(transform, prior)))
    again.load(path)
    assert set(training.pictures(x)) == {"picture", "decoded"}
    assert own.config == tiny(transform, prior)


@pytest.mark.parametrize("transform", ["conv", "swin"])
def test_a_linear_start_is_a_linear_transform_coder(transform):
    torch.manual_seed(0)
    own = module(TbtcTraining(model=extra_small(transform, "charm"), linear_start=6)).network.eval()
    x = torch.from_numpy(photo(128, 192))[None].float() / 255
    with torch.no_grad():
        y = own.g_a(x)
        error = (own.g_s(y.round()) - x).square().mean()
    assert float(-10 * error.log10()) > 20
    deviations = y.std((0, 2, 3))
    assert float(deviations[0]) > 10 * float(deviations.median())
    with pytest.raises(ConfigError, match="paper"):
        module(TbtcTraining(model=tiny("swin", "charm", "tbtc"), linear_start=6))


def test_ms_ssim_can_be_trained():
    training = module(TbtcTraining(model=tiny("conv", "hyperprior"), rate=10, distortion="ms-ssim"))
    loss = training.loss(torch.from_numpy(photo(192, 192))[None])["loss"]
    loss.backward()
    assert torch.isfinite(loss)


def test_autocast_leaves_the_priors_alone():
    network = weights("conv", "charm").network
    x = torch.from_numpy(photo(64, 64))[None].float() / 255
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = network(x)
    assert out.x_hat.dtype == out.y_likelihood.dtype == torch.float32


def test_macs_are_the_true_ones():
    found = macs(TbtcNetwork(medium("conv", "charm", "tbtc")).eval(), 64, 64)
    kodak = 512 * 768 / 64**2 / 1e9
    assert [round(part * kodak, 2) for part in (found.g_a, found.h_a, found.h_s, found.charm, found.g_s)] == [
        98.15,
        1.29,
        2.14,
        11.81,
        98.15,
    ]
    assert round(found.decoder * kodak, 2) == 112.10
    assert round((found.published_g_s + found.h_s + found.charm) * kodak, 1) == 361.4
    swin = macs(weights("swin", "charm").network, 128, 128)
    assert 0 < swin.attention < swin.g_a + swin.g_s


def test_analyses():
    network = weights("swin", "charm").network
    x = torch.from_numpy(photo(128, 128))[None].float() / 255
    correlation = spatial_correlation(network, x, reach=1)
    assert correlation.shape == (3, 3)
    assert float(correlation[1, 1]) == 1
    field = receptive_field(network, x)
    assert field.shape == (128, 128)
    assert float(field.max()) == 1
    # Four 5x5 convolutions see 61 pixels.
    assert float(receptive_field(weights("conv", "charm").network, x)[0, 0]) == 0


def test_configs():
    assert lambda_of(0.001) == pytest.approx(0.01526, rel=1e-3)
    assert small("swin", "charm").slices == 6
    assert extra_small("swin", "charm").slices == 5
    with pytest.raises(ConfigError, match="divide"):
        TbtcConfig(channels=(128, 192, 256, 330))
    with pytest.raises(ConfigError, match="multiples"):
        TbtcConfig(hyper=(100, 192))
    with pytest.raises(ConfigError, match="no TBTC"):
        TbtcConfig(transform="mlp")
    with pytest.raises(ConfigError, match="variant"):
        TbtcConfig(variant="other")
