"""FSAR's decoder of byte formats 2 and 3: close to the network, the same integers everywhere, old files still read."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.coding.container import pack, payload_size, read_header, unpack
from cbench.data import samples
from cbench.errors import ConfigError
from cbench.models.fsar import byte_decoder, checkpoint, codec
from cbench.models.fsar.byte_decoder import ByteDecoder, multiply
from cbench.models.fsar.codec import FsarCodec
from cbench.models.fsar.config import tiny
from cbench.models.fsar.integer import IntegerDecoder
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.pixels import FINE_BITS, FINE_LOW, FINE_MEANS, pixel_tables

TINY = Path(__file__).parent / "golden" / "fsar-tiny.safetensors"


@pytest.fixture(scope="module")
def weights():
    return checkpoint.load(TINY)


@pytest.fixture(scope="module")
def tiles():
    return [sample.array for sample in samples.small_photos(32)[:30]]


def decoders(network, version=3):
    exact = IntegerDecoder(network)
    return exact, ByteDecoder(network, exact, version)


def parameters(places):
    """Mean in pixel values, and level."""
    return (places % FINE_MEANS + FINE_LOW) / 2.0**FINE_BITS, places // FINE_MEANS


VARIANTS = {
    "usual": {},
    "no downsampling": {"downsamples": 0},
    "two": {"downsamples": 2},
    "shuffle": {"upsample": "shuffle"},
    "shuffle twice": {"upsample": "shuffle", "downsamples": 2},
    "skip": {"skip": True, "residuals": 2},
    "four blocks": {"residuals": 4},
    "wide": {"channels": 128, "groups": 4},
}


def pictures():
    return [sample.array for sample in samples.small_photos(32)[:8]]


def random_network(**fields):
    torch.manual_seed(0)
    network = FsarNetwork(replace(tiny(), **fields)).eval().requires_grad_(False)
    x = torch.from_numpy(np.stack(pictures())).float() / 255
    network.train()
    for _ in range(20):
        network.losses(x)
    network.eval()
    network.decoder[-1].bias.copy_(torch.tensor([0.5, -2.0] * 3))
    return network


@pytest.mark.parametrize("name", VARIANTS)
def test_it_follows_the_network(name):
    network, x = random_network(**VARIANTS[name]), torch.from_numpy(np.stack(pictures())).float() / 255
    symbols = network.symbols(x)
    _, decoder = decoders(network)
    mean, level = parameters(decoder(symbols).numpy())
    params = network.double()(symbols).numpy()
    expected = (params[..., 0] * 255).clip(-32, 287)
    assert np.abs(mean - expected).mean() < 0.04 * expected.std()
    assert np.abs(level - ((params[..., 1] + 7) * 8).clip(0, 56)).mean() < 0.35


def test_it_costs_next_to_nothing(weights, tiles):
    x = np.stack(tiles)
    symbols = weights.network.symbols(torch.from_numpy(x).float() / 255)
    exact, decoder = decoders(weights.network)
    tables = pixel_tables()
    row, centre = tables.select(*(part.numpy() for part in exact(symbols)))
    before = tables.tables.bits(x.astype(np.int32) - centre, row)
    row, centre = (table[decoder(symbols).numpy()] for table in tables.fine)
    assert tables.tables.bits(x.astype(np.int32) - centre, row) < 1.003 * before


def test_outliers_keep_their_way():
    """Behind an upsampling some pictures go beyond 8 standard deviations, which cost format 2 several bits a sample."""
    network = random_network()
    network.decoder[4].running_var.mul_(1 / 400)  # as if training had seen a twentieth of it
    network.decoder[6].weight.mul_(1 / 20)
    x = torch.from_numpy(np.stack(pictures())).float() / 255
    symbols = network.symbols(x)
    mean = {version: parameters(decoders(network, version)[1](symbols).numpy())[0] for version in (2, 3)}
    expected = (network.double()(symbols)[..., 0].numpy() * 255).clip(-32, 287)
    error = {version: np.abs(mean[version] - expected).mean() for version in mean}
    assert error[3] < 0.04 * expected.std() < 0.2 * error[2]


def test_fine_tables_are_those_of_the_parameters():
    tables = pixel_tables()
    rng = np.random.default_rng(0)
    mean, level = rng.integers(0, FINE_MEANS, 5000), rng.integers(0, 57, 5000)
    row, centre = tables.select((mean + FINE_LOW) * 2.0**-FINE_BITS, level)
    place = level * FINE_MEANS + mean
    np.testing.assert_array_equal(tables.fine[0][place], row)
    np.testing.assert_array_equal(tables.fine[1][place], centre)


def test_products_without_the_library(weights, tiles, monkeypatch):
    """What a processor that saturates would use gives the same integers."""
    a = torch.randint(0, 256, (40, 64), dtype=torch.uint8)
    b = torch.randint(-127, 128, (64, 24), dtype=torch.int8)
    assert torch.equal(multiply(a, b), (a.long() @ b.long()).int())
    _, decoder = decoders(weights.network)
    symbols = weights.network.symbols(torch.from_numpy(np.stack(tiles)).float() / 255)
    found = decoder(symbols)
    monkeypatch.setattr(byte_decoder, "_library_is_exact", lambda: False)
    assert torch.equal(multiply(a, b), (a.long() @ b.long()).int())
    assert torch.equal(decoder(symbols), found)
    assert torch.equal(torch.cat([decoder(symbols[i : i + 1]) for i in range(len(symbols))]), found)


def test_tiles_leave_no_trace(weights, monkeypatch):
    coder = FsarCodec("fsar.tiny", weights)
    x = samples.photos()[1].array[:, :97, :120]
    symbols = coder._symbols(x[None])
    whole = coder._rows(symbols, x.shape, 3)
    monkeypatch.setattr(coder, "_tile", 16)
    for one, other in zip(whole, coder._rows(symbols, x.shape, 3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_older_formats_are_read(weights, tiles, version):
    new = FsarCodec("fsar.tiny", weights)
    old = FsarCodec("fsar.tiny", weights)
    old.format = version
    for x in (*tiles[:3], samples.photos()[0].array[:, :70, :90]):
        data = old.compress(x)
        assert read_header(data).format == version
        np.testing.assert_array_equal(new.decompress(data), x)
        again = new.compress(x)
        assert read_header(again).format == 3
        assert payload_size(again) == pytest.approx(payload_size(data), rel=0.01)
    archive = old.compress_many(tiles)
    np.testing.assert_array_equal(np.stack(new.decompress_many(archive)), np.stack(tiles))


def test_a_wrong_format_number_is_noticed(weights, tiles):
    coder = FsarCodec("fsar.tiny", weights)
    head, sections = unpack(coder.compress(tiles[0]))
    with pytest.raises(Exception, match=r"damage|decode|table|outside|stream|differ"):
        coder.decompress(pack(replace(head, format=1), sections[0]))


def test_weights_that_are_no_numbers_are_refused(weights):
    network = random_network()
    network.decoder[-1].weight[0] = torch.nan
    exact = IntegerDecoder(weights.network)
    with pytest.raises(ConfigError, match="finite"):
        ByteDecoder(network, exact)


def test_the_profile(weights, tiles, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    import profile_fsar

    monkeypatch.setattr(codec, "symbols_of", codec.symbols_of)  # is wrapped, and put back afterwards
    found = profile_fsar.measure(FsarCodec("fsar.tiny", weights), tiles, 10)
    for way in found.values():
        assert 0 < sum(way[label] for label in profile_fsar.PARTS) < way["all"]
    assert found["compress"]["code search"] > 0 == found["decompress"]["code search"]


def digest(version=3):
    """Hash of all places that the tiny decoder gives for fixed symbols."""
    _, decoder = decoders(checkpoint.load(TINY).network, version)
    symbols = torch.from_numpy(np.random.default_rng(0).integers(0, 16, (5, 2, 16, 16)))
    return hashlib.sha256(decoder(symbols).numpy().astype("<i4").tobytes()).hexdigest()


def test_places_are_those_of_every_other_machine():
    assert digest(2) == "34fd53ab0f48d19c39838bdf8f95d9591dd3a1d8c19f233258160ac7a0cad12f"
    assert digest(3) == "9df50231cb16332a36388d53a8323ce99cf013d824989dff06ad5afcf10cb8de"


def test_other_instruction_sets_give_the_same():
    """The library's products saturate with these; torch's own loops are told to use none."""
    root = Path(__file__).parents[1]
    code = "import test_fsar_bytes as t; print(t.digest() == t.digest() == sys.argv[1])"
    out = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", digest()],
        env={
            **os.environ,
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
            "ATEN_CPU_CAPABILITY": "default",
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stdout.strip() == "True", out.stderr
