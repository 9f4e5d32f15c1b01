"""The pyramid: whole codecs, integers against floating point, the same bytes everywhere, damage."""

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
from cbench.coding import CountIO, DecodeIO, EncodeIO, ScriptCodec
from cbench.coding.archive import pack_archive, unpack_archive
from cbench.data import samples
from cbench.data.loaders import Batches
from cbench.errors import CbenchError, ConfigError, UnsupportedInputError
from cbench.models.arib_bps import pyramid_codec, pyramid_weights
from cbench.models.arib_bps.pyramid import QUARTERS, Look, Pyramid, base, completed, quarter
from cbench.models.arib_bps.pyramid_codec import PyramidCodec, best_turn, looks_random, turned
from cbench.models.arib_bps.pyramid_config import PHOTOGRAPH, SMALL, PyramidConfig, PyramidTraining
from cbench.models.arib_bps.pyramid_data import SIDE, Mixed, split, weathered
from cbench.models.arib_bps.pyramid_integer import IntegerPyramid
from cbench.models.arib_bps.pyramid_train import PyramidModule, orthogonal
from cbench.zoo import load_codec
from cbench.zoo.weights import FOLDER

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "arib_bps.py"


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    network = Pyramid(PyramidConfig(channels=8, blocks=1, hidden=8, mixtures=3, levels=3)).requires_grad_(False)
    for step in network.steps:
        step.bias.normal_()
        step.look.line.normal_(std=0.01)
        for layer in step.colours.outer:
            layer.weight.mul_(3)
    return pyramid_weights.build(network)


@pytest.fixture(scope="module")
def coder(weights):
    return PyramidCodec("arib_bps.tiny", weights)


@pytest.fixture(scope="module")
def tiles():
    return [sample.array for sample in samples.small_photos(32)[:40]]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def sizes(coder, arrays):
    ios = [CountIO() for _ in arrays]
    coder.script_many(ios, [coder.header(x) for x in arrays], arrays)
    return np.array([io.total for io in ios])


def test_quarters_make_a_picture():
    x = torch.from_numpy(noise(1, 3, 5, 8))
    whole = torch.zeros_like(x)
    for number, (row, column) in enumerate(QUARTERS):
        whole[..., row::2, column::2] = quarter(x, number)
    assert torch.equal(whole, x)
    full = completed(quarter(x, 1), quarter(x, 0))
    assert torch.equal(full[..., :2, :], quarter(x, 1))
    assert torch.equal(full[..., 2, :], quarter(x, 0)[..., 2, :])


def test_bases_are_means_of_the_nearest():
    x = torch.from_numpy(noise(1, 3, 8, 10)).float()
    known = [quarter(x, number) for number in range(3)]
    for number, around in ((1, ((-1, -1), (-1, 1), (1, -1), (1, 1))), (2, ((-1, 0), (1, 0), (0, -1), (0, 1)))):
        row, column = QUARTERS[number]
        y, z = row + 2, column + 4
        four = sum(x[..., y + dy, z + dx] for dy, dx in around)
        assert torch.equal(base(known[:number])[..., 1, 2], torch.floor((four + 2) / 4))
    four = sum(x[..., 3 + dy, 4 + dx] for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)))
    assert torch.equal(base(known)[..., 1, 2], torch.floor((four + 2) / 4))


def test_filters_ignore_the_brightness():
    look = Look(2, 4).requires_grad_(False)
    look.line.normal_()
    look.bright.zero_()
    x = torch.rand(1, 6, 4, 5)
    for dark, light in zip(look(x), look(x + 50), strict=True):
        torch.testing.assert_close(dark, light, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(32, 32), (17, 23), (1, 9)])
def test_integers_cost_what_the_network_says(weights, coder, tiles, shape):
    arrays = [np.ascontiguousarray(tile[:, : shape[0], : shape[1]]) for tile in tiles[:8]]
    x = torch.from_numpy(np.stack(arrays)).float()
    nats = weights.network.nats(x, torch.zeros(len(x), dtype=torch.long))
    bits = sum(float(step.sum()) for step in nats) / np.log(2)
    io = CountIO()
    pyramid_codec.corners([io] * len(arrays), np.stack(arrays), 3)
    corner = 2 * len(arrays) + io.total
    assert sizes(coder, arrays).sum() - corner == pytest.approx(bits, rel=2e-3)
    data = coder.compress_many(arrays)
    assert 8 * len(data) < 1.01 * bits + corner + 64 * len(arrays) + 400
    np.testing.assert_array_equal(np.stack(coder.decompress_many(data)), np.stack(arrays))


CASES = {
    "one pixel": noise(3, 1, 1),
    "row": noise(3, 1, 37),
    "column": noise(3, 37, 1),
    "two": noise(3, 2, 1),
    "noise": noise(3, 33, 31),
    "white": np.full((3, 20, 30), 255, np.uint8),
    "black and white": np.where(noise(3, 32, 32) < 128, 0, 255).astype(np.uint8),
    "grey": noise(1, 9, 14) // 2 + 60,
    "grey with alpha": noise(2, 9, 14),
    "alpha": np.concatenate([noise(3, 21, 10) // 4, np.full((1, 21, 10), 255, np.uint8)]),
    "ramp": np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 40, 256)),
    "tiles": np.add.outer(np.arange(3), np.add.outer(np.arange(133), np.arange(139))).astype(np.uint8),
}


@pytest.mark.parametrize("name", CASES)
def test_round_trip(coder, name):
    x = CASES[name]
    data = coder.compress(x)
    np.testing.assert_array_equal(coder.decompress(data), x)
    assert len(data) <= x.size + 60  # noise is not made larger than it was


def test_chroma_samples_meet_the_known_quarter(coder):
    """Chroma that is interpolated between every second pixel; the samples lie in odd rows or columns."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 60, (36, 36))
    chroma = np.zeros((71, 71), np.int64)
    chroma[::2, ::2] = 2 * small
    chroma[1::2] = (chroma[:-1:2] + chroma[2::2]) // 2
    chroma[:, 1::2] = (chroma[:, :-1:2] + chroma[:, 2::2]) // 2
    luma = rng.integers(0, 100, (71, 71))
    x = np.stack([luma + chroma, luma, luma]).astype(np.uint8)
    for rows, columns in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = np.ascontiguousarray(x[:, rows : 70 + rows, columns : 68 + columns])
        assert best_turn(part) == rows + 2 * columns
        np.testing.assert_array_equal(turned(turned(part, 3), 3), part)
        np.testing.assert_array_equal(coder.decompress(coder.compress(part)), part)


def test_what_it_does_not_take(coder):
    for array in (noise(3, 4, 4).astype(np.uint16), noise(5, 4, 4)):
        with pytest.raises(UnsupportedInputError):
            coder.compress(array)


def test_tiles_and_batches_do_not_matter(coder, weights, tiles, monkeypatch):
    """Pictures of several sizes in one archive; the network in parts gives what it gives at once."""
    arrays = [*tiles[:5], noise(3, 5, 6), CASES["grey with alpha"], CASES["alpha"], noise(1, 5, 6)]
    together = coder.compress_many(arrays)
    for batch, threads in ((1, 1), (3 * 1024, 1)):
        monkeypatch.setattr(pyramid_codec, "BATCH", batch)
        other = PyramidCodec("arib_bps.tiny", weights, threads)
        for x, y in zip(arrays, other.decompress_many(together), strict=True):
            np.testing.assert_array_equal(x, y)
        assert other.compress_many(arrays) == together
    x = samples.photos()[1].array[:, :41, :38]
    before = sizes(coder, [x])
    monkeypatch.setattr(pyramid_codec, "TILE", 7)
    assert sizes(coder, [x]) == pytest.approx(before)


def test_small_items_of_an_archive_carry_their_own_check(coder, tiles):
    """Less than 0.015 bits a sample around the symbols; archives that store checks too are still read."""
    arrays = tiles * 2
    data = coder.compress_many(arrays)
    archive = unpack_archive(data)
    assert archive.checks is None
    assert (8 * len(data) - sizes(coder, arrays).sum()) / (len(arrays) * arrays[0].size) < 0.015
    whole = ScriptCodec.compress_many(coder, arrays)
    assert unpack_archive(whole).checks is not None
    items = [archive.item(i) for i in range(len(archive))]
    for form in (data, whole):
        np.testing.assert_array_equal(np.stack(coder.decompress_many(form)), np.stack(arrays))
    rng = np.random.default_rng(0)
    for _ in range(12):
        bad = bytearray(items[3])
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        with pytest.raises(CbenchError):
            coder.decompress_many(pack_archive(archive.head, [*items[:3], bytes(bad)], archive.shapes[:4]))


def test_every_product_is_exact(weights):
    """The same network in float64, whose sums are exact too, gives the same numbers."""
    narrow, wide = IntegerPyramid(weights.network), IntegerPyramid(weights.network).double()
    rng = np.random.default_rng(0)
    seen = [torch.from_numpy(rng.integers(0, 256, (2, 3, 9, 11)).astype(np.float32)) for _ in range(3)]
    state = torch.from_numpy(rng.integers(0, 8 << 7, (2, 9, 11, 8)).astype(np.float32))
    for number in range(3):
        found = narrow.steps[number](seen[: number + 1], state, 0, torch.tensor([0, 1]))
        other = wide.steps[number]([q.double() for q in seen[: number + 1]], state.double(), 0, torch.tensor([0, 1]))
        assert torch.equal(found[0].double(), other[0])
        assert torch.equal(found[1].hidden.double(), other[1].hidden)
        np.testing.assert_array_equal(found[1].line, other[1].line)


def test_damage_is_noticed(coder, tiles):
    data = coder.compress(tiles[0])
    rng = np.random.default_rng(0)
    damaged = []
    for _ in range(200):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    damaged += [data[:size] for size in rng.integers(0, len(data), 60)]
    damaged += [data + bytes(rng.integers(0, 256, size, np.uint8)) for size in range(1, 41)]
    for bad in damaged:
        with pytest.raises(CbenchError):
            coder.decompress(bad)


def test_damaged_streams_never_give_a_wrong_picture(coder, tiles):
    """The same behind the container's checks: the script itself ends, with an error or with a picture."""
    head, io = coder.header(tiles[1]), EncodeIO()
    coder.script(io, head, tiles[1])
    stream = io.finish()
    rng = np.random.default_rng(1)
    for _ in range(40):
        flipped = bytearray(stream)
        flipped[rng.integers(len(stream))] ^= 1 << rng.integers(8)
        decode = DecodeIO(bytes(flipped))
        with pytest.raises(CbenchError):
            assert not np.array_equal(coder.script(decode, head, None), tiles[1])
            decode.finish()


def test_weights_files_round_trip(tmp_path, weights):
    pyramid_weights.save(tmp_path / "w.safetensors", weights, {})
    again = pyramid_weights.load(tmp_path / "w.safetensors")
    assert again.network.config == weights.network.config
    assert again.fingerprint() == weights.fingerprint()
    broken = Pyramid(weights.network.config)
    with torch.no_grad():
        broken.up.bias[0] = 1e6
    with pytest.raises(ConfigError, match="half precision"):
        pyramid_weights.build(broken)
    with pytest.raises(ConfigError, match="another kind of model"):
        pyramid_weights.load(FOLDER / "fsar-ar.safetensors")


def test_looks_random():
    assert looks_random(noise(3, 32, 32))
    assert not looks_random(CASES["ramp"])


def test_training_reduces_the_loss(tiles):
    torch.manual_seed(0)
    module = PyramidModule(PyramidTraining(model=PyramidConfig(channels=16, blocks=1, hidden=8, mixtures=2)))
    module.peak_lr = 2e-3
    optimisers = module.configure_optimizers()
    batch = torch.from_numpy(np.stack(tiles[:12]))
    costs = []
    for _ in range(12):
        losses = module.loss(batch)
        losses["loss"].backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        costs.append(float(losses["bpd"].detach()))
    assert costs[-1] < costs[0] - 0.2


def test_training_to_a_working_codec(tmp_path):
    """The experiment's training stage in four steps: the weights file that it writes codes pictures."""
    from cbench.train.fit import fit

    train = load(f"{CONFIG}:pyramid_tiny").experiment.train
    path = fit(replace(train, steps=4, batch_size=4, validate_every=2), tmp_path, progress=False)
    codec = PyramidCodec("arib_bps.tiny", pyramid_weights.load(path))
    assert codec._network.channels == train.config.model.channels
    x = samples.small_photos(32)[500].array
    np.testing.assert_array_equal(codec.decompress(codec.compress(x)), x)


def test_training_on_a_mixture():
    """Four small pictures make a square and come back as they were; photographs are changed now and then."""
    small, large = samples.small_photos(32)[:16], samples.photos()[:2]
    mixed = Mixed(small, large)
    assert len(mixed) == 6
    with pytest.raises(IndexError):
        mixed[6]
    batch = Batches(mixed, 6, crop=SIDE, flip=False)[0]
    assert batch.shape == (6, 4, SIDE, SIDE)
    assert sorted(batch[:, 3].float().mean((1, 2)).tolist()) == [SMALL] * 4 + [PHOTOGRAPH] * 2
    parts = {kind: x for x, kind in split(batch, torch.Generator().manual_seed(0))}
    found = {x.tobytes() for x in parts[SMALL].byte().numpy()}
    assert found == {sample.array.tobytes() for sample in small}
    crop, changed = torch.from_numpy(np.ascontiguousarray(large[0].array[None, :, :SIDE, :SIDE])).float(), 0
    for seed in range(30):
        other = weathered(crop, torch.Generator().manual_seed(seed))
        assert other.shape == crop.shape
        assert torch.equal(other, other.round().clamp(0, 255))
        assert abs(other.mean() - crop.mean()) < 30
        changed += not torch.equal(other, crop)
    assert 5 < changed < 22
    model = PyramidConfig(channels=8, blocks=1, hidden=8, mixtures=2)
    module = PyramidModule(PyramidTraining(model=model, kind=None))
    assert torch.isfinite(module.loss(batch)["bpd"])
    assert torch.isfinite(module.loss(crop.byte())["bpd"])
    train = load(f"{CONFIG}:pyramid_mixture_cpu").experiment.train
    assert (train.crop, train.config.kind) == (SIDE, None)


def test_orthogonal():
    torch.manual_seed(0)
    for shape in ((8, 30), (30, 8)):
        singular = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert singular.min() > 0.6
        assert singular.max() < 1.3


@pytest.mark.filterwarnings("ignore:TF32")
def test_kernels_and_settings_give_the_same_bytes(coder, tiles):
    """Here, with every kernel of the coder; instruction sets of torch need a new process each, below."""
    before, streams = _core.kernels(), set()
    precision = torch.get_float32_matmul_precision()
    try:
        for name in _core.available_kernels():
            _core.choose_kernels(name)
            streams.add(coder.compress(tiles[3]))
        torch.set_float32_matmul_precision("medium")
        streams.add(coder.compress(tiles[3]))
        assert torch.get_float32_matmul_precision() == "medium"
        with torch.backends.mkldnn.flags(enabled=False):
            streams.add(coder.compress(tiles[3]))
    finally:
        _core.choose_kernels(before)
        torch.set_float32_matmul_precision(precision)
    assert len(streams) == 1


@pytest.mark.parametrize(("torch_set", "ours"), [("default", "portable"), ("avx2", "avx2")])
def test_files_decode_with_other_instruction_sets(tiles, tmp_path, torch_set, ours):
    """The shipped weights, in a process whose torch and coder use other instructions and another thread count."""
    archive = load_codec("arib_bps.pyramid").compress_many(tiles[:4])
    (tmp_path / "archive").write_bytes(archive)
    np.save(tmp_path / "x.npy", np.stack(tiles[:4]))
    code = (
        "import sys, numpy as np; from pathlib import Path; from cbench.zoo import load_codec;"
        "folder = Path(sys.argv[1]); codec = load_codec('arib_bps.pyramid', threads=2);"
        "data = (folder / 'archive').read_bytes(); x = np.load(folder / 'x.npy');"
        "assert (np.stack(codec.decompress_many(data)) == x).all();"
        "assert codec.compress_many(list(x)) == data; print('same')"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "ATEN_CPU_CAPABILITY": torch_set, "CBENCH_SIMD": ours, "MKL_CBWR": "COMPATIBLE"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stdout.strip() == "same", out.stderr
