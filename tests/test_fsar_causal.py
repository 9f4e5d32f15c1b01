"""The causal head: C++ against a plain reference, integers against floating point, and whole codecs."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench import _core
from cbench.bench.loading import load
from cbench.coding import CountIO, DecodeIO, EncodeIO, PixelModel, TraceIO, reference
from cbench.coding.pixels import FEATURES, Layer
from cbench.coding.reference_mixture import mixture_event
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, UnsupportedInputError
from cbench.models.fsar import causal_codec, checkpoint
from cbench.models.fsar.causal import CausalHead, features, visible
from cbench.models.fsar.causal_codec import CausalCodec
from cbench.models.fsar.codec import open_codec
from cbench.models.fsar.config import NEIGHBOURS, FsarConfig
from cbench.models.fsar.integer import pixel_model
from cbench.models.fsar.network import FsarNetwork
from cbench.zoo import load_codec

HIDDEN = 8
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fsar.py"
INVERSE = np.array([round(2 ** (14 - r / 16)) for r in range(16)])


def random_arrays(seed, mixtures=3, hidden=HIDDEN):
    rng = np.random.default_rng(seed)

    def layer(outputs, unit, base):
        most = min(600, 30_000 // hidden)
        weight = rng.integers(-most, most, (3, hidden, outputs)).astype(np.int16)
        return Layer(weight, (base << 10) + unit, np.full((3, outputs), 10, np.int32))

    shape = (3, 3 * mixtures)
    base = np.concatenate([np.zeros(mixtures), 300 * np.arange(mixtures), 90 + 10 * np.arange(mixtures)])
    inner = (rng.integers(-900, 900, (3, FEATURES, hidden)) * visible().numpy()[..., None]).astype(np.int16)
    linear = (rng.integers(-900, 900, (3, FEATURES)) * visible().numpy()).astype(np.int16)
    middle = layer(hidden, np.full((3, hidden), 512, np.int32), np.zeros((3, hidden), np.int32))
    outer = layer(3 * mixtures, np.full(shape, 512, np.int32), np.broadcast_to(base, shape).astype(np.int32))
    return inner, 3, middle, outer, linear, 6


def reference_events(arrays, biases, picture):
    """The definition in csrc/engines/pixel_ar.hpp, sample by sample."""
    inner, inner_shift, middle, outer, linear, linear_shift = arrays
    full = np.broadcast_to(picture, (3, *picture.shape[1:]))
    seen, b = (t[0].numpy() for t in features(torch.from_numpy(full.astype(np.int64))[None]))
    mixtures = outer.base.shape[1] // 3
    events = []
    for y, x, c in np.ndindex(*picture.shape[1:], len(picture)):
        f = seen[:, y, x] * visible()[c].numpy().astype(np.int64)
        h = ((f @ inner[c].astype(np.int64) + (1 << (inner_shift - 1))) >> inner_shift) + biases[y, x, c]
        for layer in (middle, outer):
            h = h.clip(0, 32767)
            h = (h @ layer.weight[c].astype(np.int64) + layer.base[c]) >> layer.shift[c]
        line = int(f @ linear[c].astype(np.int64)) + (1 << (linear_shift - 1)) >> linear_shift
        logits = h[:mixtures].clip(-4096, 4096)
        less = logits.max() - logits
        weight = np.where(less < 240, INVERSE[less & 15] >> np.minimum(less >> 4, 15), 0)
        mean = (256 * b[c, y, x] + line + h[mixtures : 2 * mixtures].clip(-131072, 131072)).clip(-131072, 131072)
        scale = h[2 * mixtures :].clip(0, 255)
        parameters = (values.tolist() for values in (mean, scale, weight))
        events.append(mixture_event(int(picture[c, y, x]), *parameters, 0, 256, "logistic"))
    return events


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 5), (3, 4, 1), (3, 5, 6), (1, 6, 5), (3, 2, 2)])
@pytest.mark.parametrize("mixtures", [1, 3])
def test_equals_reference(shape, mixtures):
    arrays = random_arrays(len(shape) + shape[1], mixtures)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, shape).astype(np.uint8)
    biases = rng.integers(-3000, 3000, (*shape[1:], 3, HIDDEN)).astype(np.int16)
    model = PixelModel(*arrays)
    io = EncodeIO()
    io.pixels(model, biases, picture)
    data = io.finish()
    events = reference_events(arrays, biases, picture)
    assert data == reference.encode(events)
    assert model.bits(biases, picture) == pytest.approx(sum(16 - np.log2(f) for _, f in events))
    back = np.zeros_like(picture)
    decode = DecodeIO(data)
    decode.pixels(model, biases, back)
    decode.finish()
    np.testing.assert_array_equal(back, picture)


def test_rows_at_a_time_and_other_calls():
    """Bands give the same events as the whole picture; pixels mix with other symbols in one stream."""
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (3, 40, 37)).astype(np.uint8)
    biases = rng.integers(-3000, 3000, (40, 37, 3, HIDDEN)).astype(np.int16)
    model = PixelModel(*random_arrays(0))
    whole, parts, count = EncodeIO(), TraceIO(EncodeIO()), CountIO()
    for io in (whole, parts, count):
        io.bits(3, 5)
    whole.pixels(model, biases, picture)
    for first in (0, 16, 32):
        parts.pixels(model, biases[first : first + 16], picture, first)
        count.pixels(model, biases[first : first + 16], picture, first)
    data = whole.finish()
    assert data == parts.inner.finish()
    assert 8 * len(data) == pytest.approx(count.total, rel=1e-3)
    back, decode = np.zeros_like(picture), TraceIO(DecodeIO(data))
    assert decode.bits(3) == 5
    for first in (0, 16, 32):
        decode.pixels(model, biases[first : first + 16], back, first)
    decode.inner.finish()
    np.testing.assert_array_equal(back, picture)
    assert parts.first_difference(decode) is None


def test_the_stream_is_that_of_every_other_machine():
    rng = np.random.default_rng(7)
    picture = rng.integers(0, 256, (3, 30, 31)).astype(np.uint8)
    biases = rng.integers(-3000, 3000, (30, 31, 3, HIDDEN)).astype(np.int16)
    io = EncodeIO()
    io.pixels(PixelModel(*random_arrays(1)), biases, picture)
    assert hashlib.sha256(io.finish()).hexdigest() == (
        "dc22e9f65a6ad21211526de2d99b3c3c94db794bc63795aeed553b5e2ead99fd"
    )


@pytest.mark.parametrize("hidden", [8, 24, 40, 48, 80, 256])
def test_kernels_agree(hidden):
    rng = np.random.default_rng(hidden)
    picture = rng.integers(0, 256, (3, 9, 11)).astype(np.uint8)
    biases = rng.integers(-9000, 9000, (9, 11, 3, hidden)).astype(np.int16)
    model = PixelModel(*random_arrays(2, hidden=hidden))
    before, streams = _core.kernels(), set()
    try:
        for name in _core.available_kernels():
            _core.choose_kernels(name)
            io = EncodeIO()
            io.pixels(model, biases, picture)
            streams.add(io.finish())
    finally:
        _core.choose_kernels(before)
    assert len(streams) == 1


def test_wrong_arguments_are_refused():
    arrays = random_arrays(0)
    model = PixelModel(*arrays)
    picture, biases = np.zeros((3, 4, 5), np.uint8), np.zeros((4, 5, 3, HIDDEN), np.int16)
    for bad_biases, bad_picture, first in (
        (biases[:, :4], picture, 0),
        (biases, picture, 1),
        (biases[..., :4], picture, 0),
        (biases.astype(np.int32), picture, 0),
        (biases, picture[:2], 0),
        (biases, picture.astype(np.int16), 0),
    ):
        with pytest.raises(UnsupportedInputError):
            EncodeIO().pixels(model, bad_biases, bad_picture, first)
    huge = arrays[3]._replace(base=np.full((3, 9), 2**31 - 1, np.int32))
    with pytest.raises(UnsupportedInputError, match="too large"):
        PixelModel(*arrays[:3], huge, *arrays[4:])
    with pytest.raises(UnsupportedInputError, match="shift"):
        PixelModel(arrays[0], 0, *arrays[2:])
    with pytest.raises(UnsupportedInputError, match="shape"):
        PixelModel(np.zeros((3, FEATURES, 16), np.int16), 3, *arrays[2:])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    shape = FsarConfig(
        channels=16, groups=1, codes=16, downsamples=2, context=NEIGHBOURS["lt"], pixels="causal", hidden=16
    )
    made = FsarNetwork(shape).eval().requires_grad_(False)
    made.decoder[-1].weight.mul_(3)
    made.head.outer.mul_(5)
    return made


@pytest.fixture(scope="module")
def coder(network):
    return open_codec("fsar.tiny", checkpoint.build(network.state_dict(), network.config))


@pytest.fixture(scope="module")
def tiles():
    return [sample.array for sample in samples.small_photos(32)[:40]]


def test_integers_cost_what_the_network_says(network, coder, tiles):
    assert isinstance(coder, CausalCodec)
    x = torch.from_numpy(np.stack(tiles)).float() / 255
    losses = network.losses(x)
    bits = float(losses.distortion + losses.symbol_nats) * x.numel() / np.log(2)
    assert sum(coder.bits(tile) for tile in tiles) == pytest.approx(bits, rel=1e-3)
    data = coder.compress_many(tiles)
    assert 8 * len(data) < 1.01 * bits + 40 * 64
    np.testing.assert_array_equal(np.stack(coder.decompress_many(data)), np.stack(tiles))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


CASES = {
    "one pixel": noise(3, 1, 1),
    "row": noise(3, 1, 37),
    "column": noise(3, 37, 1),
    "noise": noise(3, 33, 31),
    "white": np.full((3, 20, 30), 255, np.uint8),
    "black and white": np.where(noise(3, 32, 32) < 128, 0, 255).astype(np.uint8),
    "grey": noise(1, 9, 14) // 2 + 60,
    "grey ramp": np.broadcast_to(np.arange(256, dtype=np.uint8), (1, 40, 256)),
    "ramp": np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 40, 256)),
}


@pytest.mark.parametrize("name", CASES)
def test_round_trip(coder, name):
    x = CASES[name]
    data = coder.compress(x)
    np.testing.assert_array_equal(coder.decompress(data), x)
    assert len(data) <= x.size + 60  # noise is not made larger than it was


def test_large_pictures_in_bands_and_batches(coder, network, tiles, monkeypatch):
    x = samples.photos()[1].array[:, :97, :120]
    whole = coder.compress(x)
    archive = coder.compress_many(tiles)
    monkeypatch.setattr(causal_codec, "LARGE", 10)
    monkeypatch.setattr(causal_codec, "TILE", 8)
    monkeypatch.setattr(causal_codec, "PIXELS_AT_A_TIME", 2000)
    assert coder.compress(x) == whole
    np.testing.assert_array_equal(coder.decompress(whole), x)
    other = open_codec("fsar.tiny", checkpoint.build(network.state_dict(), network.config), threads=2)
    np.testing.assert_array_equal(np.stack(other.decompress_many(archive)), np.stack(tiles))


def test_damage_is_noticed(coder, tiles):
    data = coder.compress(tiles[0])
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            coder.decompress(bytes(damaged))
    for size in rng.integers(0, len(data), 30):
        with pytest.raises(BitstreamError):
            coder.decompress(data[:size])


def test_weights_files_round_trip(tmp_path, network):
    weights = checkpoint.build(network.state_dict(), network.config)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    again = checkpoint.load(tmp_path / "w.safetensors")
    assert again.network.config == network.config
    assert again.fingerprint() == weights.fingerprint()
    np.testing.assert_array_equal(again.tables.weights, weights.tables.weights)


def test_no_sum_overflows_for_large_weights():
    torch.manual_seed(1)
    head = CausalHead(FsarConfig(pixels="causal", hidden=32)).requires_grad_(False)
    for parameter in head.parameters():
        parameter.mul_(30)
    pixel_model(head)  # the C++ core checks every bound


def test_training_reduces_the_loss(tiles):
    torch.manual_seed(0)
    shape = FsarConfig(
        channels=16, groups=1, codes=16, context=NEIGHBOURS["lt"], pixels="causal", hidden=8, detach_context=True
    )
    network = FsarNetwork(shape)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    x = torch.from_numpy(np.stack(tiles[:16])).float() / 255
    costs = []
    for _ in range(25):
        losses = network.losses(x, torch.rand(512, 1, 16), prior_every=4)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        costs.append(losses.distortion.item())
    assert costs[-1] < costs[0] - 0.3


@pytest.mark.parametrize("name", ["ar_tiny", "v2dvq_c2_o3s_tiny"])
def test_training_to_a_working_codec(name, tmp_path):
    """The experiment's training stage in four steps: the weights file that it writes codes pictures."""
    from cbench.train.fit import fit

    train = load(f"{CONFIG}:{name}").experiment.train
    path = fit(replace(train, steps=4, batch_size=8, validate_every=2), tmp_path, progress=False)
    weights = checkpoint.load(path)
    assert weights.network.config == train.config.model
    assert weights.tables is not None
    codec = open_codec("fsar.tiny", weights)
    x = samples.small_photos(32)[500].array
    np.testing.assert_array_equal(codec.decompress(codec.compress(x)), x)


@pytest.mark.parametrize("settings", [("default", "portable"), ("avx2", "avx2")])
def test_files_decode_with_other_instruction_sets(tiles, tmp_path, settings):
    """The shipped weights, in a process whose torch and coder use other instructions and another thread count."""
    (tmp_path / "archive").write_bytes(load_codec("fsar.ar").compress_many(tiles[:6]))
    np.save(tmp_path / "x.npy", np.stack(tiles[:6]))
    code = (
        "import sys, numpy as np; from pathlib import Path; from cbench.zoo import decompress_many;"
        "folder = Path(sys.argv[1]); y = np.stack(decompress_many((folder / 'archive').read_bytes(), threads=2));"
        "assert (y == np.load(folder / 'x.npy')).all(); print('same')"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "ATEN_CPU_CAPABILITY": settings[0], "CBENCH_SIMD": settings[1]},
        cwd=CONFIG.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stdout.strip() == "same", out.stderr
