"""The FSAR codec: lossless for every picture, exact on every machine, close to its theoretical size."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.coding.container import payload_size
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import FsarCodec
from cbench.models.fsar.integer import IntegerDecoder
from cbench.models.fsar.original_grid import OriginalGrid, original_tables
from cbench.nn.tiling import spans

TINY = Path(__file__).parent / "golden" / "fsar-tiny.safetensors"
"""A network of 16 channels, trained for a minute on tiles of photographs: `configs/fsar.py:v2dvq_c2_tiny`."""


@pytest.fixture(scope="module")
def weights():
    return checkpoint.load(TINY)


@pytest.fixture(scope="module")
def tiny(weights):
    return FsarCodec("fsar.tiny", weights)


@pytest.fixture(scope="module")
def tiles():
    return [sample.array for sample in samples.small_photos(32)[:70]]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


CASES = {
    "one pixel": noise(3, 1, 1),
    "row": noise(3, 1, 37),
    "column": noise(3, 37, 1),
    "noise": noise(3, 33, 31),
    "white": np.full((3, 20, 30), 255, np.uint8),
    "black": np.zeros((3, 20, 30), np.uint8),
    "black and white": np.where(noise(3, 32, 32) < 128, 0, 255).astype(np.uint8),
    "grey": noise(1, 9, 14),
    "ramp": np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 40, 256)),
}


@pytest.mark.parametrize("name", CASES)
def test_round_trip(tiny, name):
    x = CASES[name]
    data = tiny.compress(x)
    np.testing.assert_array_equal(tiny.decompress(data), x)
    assert payload_size(data) <= x.size + 8  # noise is not made larger than it was


def test_tables_of_the_original(weights, tiles):
    codec = OriginalGrid("fsar.original-grid", weights)
    assert len(original_tables().row) == 15 * 256
    for array in (tiles[0], noise(3, 1, 1), noise(1, 13, 40)):
        assert np.array_equal(codec.decompress(codec.compress(array)), array)


def test_photographs_of_odd_sizes(tiny, tiles):
    photo = samples.photos()[0].array
    for x in (tiles[0][:, :31, :29], photo[:, :140, :301], photo[1:2, :64, :65]):
        data = tiny.compress(x)
        np.testing.assert_array_equal(tiny.decompress(data), x)
        assert 8 * len(data) < 7.5 * x.size + 400


def test_real_bytes_are_the_theoretical_ones(tiny, tiles):
    data = tiny.compress_many(tiles)
    theory = sum(tiny.bits(x) for x in tiles)
    assert 8 * len(data) < 1.01 * theory
    for x, y in zip(tiles, tiny.decompress_many(data), strict=True):
        np.testing.assert_array_equal(x, y)


def test_cost_is_close_to_the_network_in_floating_point(tiny, weights, tiles):
    from cbench.models.fsar.network import pixel_nats

    x = torch.from_numpy(np.stack(tiles)).float() / 255
    params = weights.network(weights.network.symbols(x)).double()
    nats = float(pixel_nats(params, x.double(), edge_mass=True).sum())
    prior = weights.counts / weights.counts.sum(1, keepdims=True)
    symbols = weights.network.symbols(x).numpy()
    latent = -sum(np.log2(prior[g][symbols[:, g]]).sum() for g in range(2))
    assert sum(tiny.bits(x) for x in tiles) < 1.003 * (nats / np.log(2) + latent)


def test_batch_and_threads_do_not_matter(weights, tiles):
    one, two = FsarCodec("fsar.tiny", weights, threads=1), FsarCodec("fsar.tiny", weights, threads=2)
    archive = two.compress_many(tiles)
    for x, y in zip(tiles, one.decompress_many(archive), strict=True):
        np.testing.assert_array_equal(x, y)
    for x in tiles[:5]:
        np.testing.assert_array_equal(one.decompress(two.compress(x)), x)
    assert torch.get_num_threads() >= 1


def test_a_picture_is_coded_the_same_in_tiles(tiny, monkeypatch):
    """The margin of a tile covers all that its pixels depend on, so tiles leave no trace."""
    x = samples.photos()[1].array[:, :97, :120]
    symbols = tiny._symbols(x[None])
    rows = tiny._rows(symbols, x.shape)
    monkeypatch.setattr(tiny, "_tile", 16)
    for whole, tiled in zip(rows, tiny._rows(symbols, x.shape), strict=True):
        np.testing.assert_array_equal(whole, tiled)
    assert np.mean(tiny._symbols(x[None]) == symbols) > 0.999


def test_spans_cover_an_axis_once():
    for length in (1, 15, 16, 17, 100):
        parts = spans(length, 16, 3)
        assert [n for part in parts for n in range(*part.target)] == list(range(length))
        for part in parts:
            assert part.inner[0] == part.target[0] - part.outer[0]
            assert part.outer[0] in (0, part.target[0] - 3)


def test_original_rounding_is_met_by_the_integer_decoder(weights, tiles):
    network = weights.network
    symbols = network.symbols(torch.from_numpy(np.stack(tiles[:4])).float() / 255)
    mean, level = IntegerDecoder(network)(symbols)
    params = network.double()(symbols)
    network.float()
    assert float((mean - params[..., 0] * 255).abs().max()) < 0.01
    assert float((level - ((params[..., 1] + 7) * 8).clamp(0, 56)).abs().max()) < 0.501


def test_arrays_that_are_no_pictures_are_refused(tiny):
    for x in (np.zeros((3, 4, 4), np.uint16), np.zeros((4, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)):
        with pytest.raises(UnsupportedInputError):
            tiny.compress(x)


def test_other_weights_are_noticed(tiny, weights, tiles):
    counts = weights.counts.copy()
    counts[0, 0] += 1
    other = FsarCodec("fsar.tiny", checkpoint.Weights(weights.network, counts))
    with pytest.raises(WrongModelError):
        other.decompress(tiny.compress(tiles[0]))


def test_damage_is_noticed(tiny, tiles):
    data = tiny.compress(tiles[0])
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= 1 << random.integers(8)
        with pytest.raises(CbenchError):
            tiny.decompress(bytes(damaged))
    for size in random.integers(0, len(data), 50):
        with pytest.raises(BitstreamError):
            tiny.decompress(data[:size])


def test_unknown_device_is_refused(weights):
    with pytest.raises(ConfigError, match="cannot be used"):
        FsarCodec("fsar.tiny", weights, device="abacus")


def tiny_digest():
    """Hash of all tables that the tiny codec chooses for fixed symbols."""
    coder = FsarCodec("fsar.tiny", checkpoint.load(TINY))
    symbols = np.random.default_rng(0).integers(0, 16, (5, 2, 16, 16))
    row, centre = coder._rows(symbols, (3, 32, 32))
    return hashlib.sha256(row.astype("<u2").tobytes() + centre.astype("<i2").tobytes()).hexdigest()


def test_tables_are_those_of_every_other_machine():
    assert tiny_digest() == "6079c1469f382ed0f4730c0e9ba714864f79d9dfbcf3dad702c01d9ddb996155"
