"""The ArIB-BPS codec: lossless for every picture, the same on every machine, refuses damage."""

import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import contents

from cbench.coding import StackIO
from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import pack, payload_size, unpack
from cbench.data import samples
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError
from cbench.models.arib_bps import checkpoint, engine
from cbench.models.arib_bps.chunks import chunks_of
from cbench.models.arib_bps.codec import AribCodec
from cbench.models.arib_bps.config import AribConfig, tiny_share, tiny_split
from cbench.models.arib_bps.latents import Posterior, bit_probabilities, centres
from cbench.models.arib_bps.network import AribNetwork
from cbench.models.arib_bps.rates import bounds

torch.set_num_threads(1)
FOLDED = replace(
    tiny_split(),
    folded=True,
    n_layers=1,
    sig_plane_depth=0,
    ins_plane_depth=0,
    space_width_ins=None,
    entropy_width_ins=None,
    entropy_depth_ins=None,
)
HEADER = 40
"""More than what a file holds besides its payload."""


def make(config: AribConfig, seed: int = 0) -> checkpoint.Weights:
    """A network with random weights, probabilities near 1/5 and a posterior that has something to say."""
    torch.manual_seed(seed)
    network = AribNetwork(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if not value.any() and name.endswith("weight"):
                value.normal_(0, 0.05)
        network.sig.lvae.mean[2].gain.fill_(6)
        for net in (*network.sig.entropys, *network.ins.entropys):
            net[-1].weight.mul_(0.05)
            net[-1].bias[:3] -= 1.4
    return checkpoint.Weights(checkpoint.rounded(network).eval())


@pytest.fixture(scope="module")
def weights():
    return make(FOLDED)


@pytest.fixture(scope="module")
def tiny(weights):
    return AribCodec("arib_bps.tiny", weights)


def sparse(*shape, seed=0):
    """A picture whose bits are ones with a probability of 1/5, which these networks compress."""
    bits = np.random.default_rng(seed).random((8, *shape)) < 0.2
    return np.packbits(bits, axis=0)[0]


@pytest.fixture(scope="module")
def tiles():
    return [sample.array for sample in samples.small_photos(32)[:8]]


def cases():
    for channels in (1, 2, 3, 4):
        for name, array in contents(channels, 13, 22, 8):
            yield f"{channels}-{name}", array
        for height, width in ((1, 1), (1, 37), (2, 2), (33, 31)):
            ramp = np.indices((channels, height, width)).sum(axis=0) * 5
            yield f"{channels}-{height}x{width}", ramp.astype(np.uint8)


CASES = dict(cases())


def test_round_trips(tiny):
    data = tiny.compress_many(list(CASES.values()))
    for (name, x), y in zip(CASES.items(), tiny.decompress_many(data), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
    for name in ("4-noise", "3-33x31", "1-1x1", "2-zero"):
        data = tiny.compress(CASES[name])
        np.testing.assert_array_equal(tiny.decompress(data), CASES[name], err_msg=name)


@pytest.mark.parametrize(
    "config", [tiny_share(), replace(tiny_split(), sig_num=7), replace(FOLDED, sig_num=1, share=True)]
)
def test_every_kind_of_model(config, tiles):
    codec = AribCodec("arib_bps.tiny", make(config))
    x = [tiles[0][:, :24, :17], tiles[1][:, :9, :9]]
    for a, b in zip(x, codec.decompress_many(codec.compress_many(x)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_grows_by_more_than_the_header(tiny):
    random = np.random.default_rng(0)
    for shape in ((3, 32, 32), (1, 5, 9), (4, 17, 40)):
        x = random.integers(0, 256, shape, dtype=np.uint8)
        chunks = len(chunks_of(0, [0], shape, 4))
        data = tiny.compress(x)
        assert payload_size(data) <= x.size + 6 * chunks + 4
        assert len(data) <= payload_size(data) + HEADER
        np.testing.assert_array_equal(tiny.decompress(data), x)


def test_a_large_picture_in_several_chunks(tiny):
    x = np.ascontiguousarray(samples.photos()[0].array[:, :70, :290])
    assert len(chunks_of(0, [0], x.shape, 4)) > 2
    np.testing.assert_array_equal(tiny.decompress(tiny.compress(x)), x)


def test_archives_cost_little(tiny):
    """Bytes of an item beyond its stack's content: its length and the stack's last bits."""
    x = [sparse(3, 32, 32, seed=n) for n in range(8)]
    files = [tiny.compress(picture) for picture in x]
    payloads = sum(map(payload_size, files))
    assert sum(map(len, files)) - payloads <= 36 * len(files)
    archive = tiny.compress_many(x * 4)
    assert 8 * (len(archive) - 4 * payloads) / (4 * 8 * 3072) < 0.01


def test_the_items_of_an_archive_that_share_a_stack(tiny):
    """Up to 16 equal small pictures in a row; their check is that of all of them."""
    x = [sparse(3, 8, 8, seed=n) for n in range(19)] + [
        sparse(1, 8, 8),
        sparse(4, 8, 8),
        sparse(3, 8, 8),
        sparse(3, 40, 8),
    ]
    data = tiny.compress_many(x)
    archive = unpack_archive(data)
    assert [i for i in range(len(x)) if archive.item(i)] == [0, 16, 19, 20, 21, 22]
    for a, b in zip(x, tiny.decompress_many(data), strict=True):
        np.testing.assert_array_equal(a, b)
    items, shapes = [archive.item(i) for i in range(len(x))], list(archive.shapes)
    with pytest.raises(BitstreamError):
        tiny.decompress_many(pack_archive(archive.head, [*items[:2], items[0], *items[3:]], shapes))
    with pytest.raises(BitstreamError):
        tiny.decompress_many(pack_archive(archive.head, [items[16], *items[1:16], items[0], *items[17:]], shapes))


def test_files_of_the_first_format_are_read(tiny):
    """They hold all six bytes of the state; now the highest one is left out where it is zero."""
    odd = 0
    for seed in range(8):
        x = sparse(3, 8, 8, seed=seed)
        head, (payload,) = unpack(tiny.compress(x))
        whole = payload[:5] + b"\0" + payload[5:] if len(payload) % 2 else payload
        odd += len(payload) % 2
        np.testing.assert_array_equal(tiny.decompress(pack(replace(head, format=1), whole)), x)
    assert 0 < odd < 8


def test_bits_back_pays_for_latents(weights):
    """What was drawn with the posterior comes back, so fine latents cost hardly more than coarse ones."""
    back = AribCodec("arib_bps.tiny", weights)
    direct = AribCodec("arib_bps.tiny", weights, direct=8)
    for seed in range(3):
        x = sparse(3, 32, 32, seed=seed)
        a, b = back.compress(x), direct.compress(x)
        np.testing.assert_array_equal(back.decompress(a), x)
        np.testing.assert_array_equal(back.decompress(b), x)
        latents = 8 * weights.network.config.latents(32, 32)
        assert 8 * len(a) < 0.8 * 8 * x.size
        assert 8 * len(b) - 8 * len(a) > 0.7 * latents


def test_streams_cost_what_the_bound_says(weights, tiny):
    """The bound with quantised latents, noise averaged out, is what the bytes come to."""
    x = [sparse(3, 32, 32, seed=seed) for seed in range(3)]
    generator = torch.Generator().manual_seed(0)
    found = [bounds(weights.network, torch.from_numpy(picture)[None], 4, generator) for picture in x]
    for (continuous, quantised), picture in zip(found, x, strict=True):
        stream = 8 * payload_size(tiny.compress(picture)) / picture.size
        assert quantised - 0.03 < stream < quantised + 0.05
        assert abs(continuous - quantised) < 0.1


def test_too_few_bits_for_the_latents(weights):
    """Flat pictures leave hardly anything to draw latents from: coarser ones until it is enough."""
    for seed in range(3):
        codec = AribCodec("arib_bps.tiny", make(replace(FOLDED, latent_channels=12), seed))
        for x in (np.zeros((3, 8, 8), np.uint8), np.full((1, 4, 4), 255, np.uint8)):
            np.testing.assert_array_equal(codec.decompress(codec.compress(x)), x)


def test_files_do_not_depend_on_chance(tiny, tiles):
    assert tiny.compress(tiles[0]) == tiny.compress(tiles[0])
    assert tiny.compress_many(tiles[:3]) == tiny.compress_many(tiles[:3])


@pytest.mark.parametrize("precision", ["fast", "plain", "bf16"])
def test_fast_files_are_verified(weights, tiny, tiles, precision):
    codec = AribCodec("arib_bps.tiny", weights, precision=precision)
    data = codec.compress(tiles[0])
    head, _ = unpack(data)
    assert head.environment is not None
    np.testing.assert_array_equal(tiny.decompress(data), tiles[0])
    archive = codec.compress_many(tiles[:5])
    for a, b in zip(tiles, tiny.decompress_many(archive), strict=False):
        np.testing.assert_array_equal(a, b)


def test_a_fast_file_that_would_not_decode_becomes_an_exact_one(weights, tiny, tiles, monkeypatch):
    codec = AribCodec("arib_bps.tiny", weights, precision="fast")
    monkeypatch.setattr(codec, "_decodes", lambda *_: False)
    assert codec.compress(tiles[0]) == tiny.compress(tiles[0])
    assert codec.compress_many(tiles[:2]) == tiny.compress_many(tiles[:2])


def test_ordinary_convolutions_give_the_same_files(weights, tiny, tiles, monkeypatch):
    """What other devices and very large models have."""
    monkeypatch.setattr(engine, "FUSED_PARAMETERS", 0)
    codec = AribCodec("arib_bps.tiny", weights)
    for x in (tiles[0], sparse(3, 8, 12)):
        assert codec.compress(x) == tiny.compress(x)


def test_what_is_no_picture_of_this_codec_is_refused(tiny):
    for x in (
        np.zeros((3, 4, 4), np.uint16),
        np.zeros((5, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 0, 4), np.uint8),
        np.zeros((3, 4, 4), np.float32),
    ):
        with pytest.raises(UnsupportedInputError):
            tiny.compress(x)
    with pytest.raises(UnsupportedInputError, match="at least one"):
        tiny.compress_many([])
    with pytest.raises(ConfigError, match="sig_num"):
        AribConfig(sig_num=8)


def test_damage_is_refused(tiny):
    """300 damaged streams, with a valid checksum around them so that the decoder itself meets them."""
    random = np.random.default_rng(0)
    head, (payload,) = unpack(tiny.compress(sparse(3, 8, 8)))
    refused = 0
    for number in range(300):
        damaged = bytearray(payload)
        kind = number % 3
        if kind == 0:
            damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        elif kind == 1:
            damaged = damaged[: random.integers(len(damaged))]
        else:
            damaged += random.bytes(int(random.integers(1, 9)))
        with pytest.raises(CbenchError):
            tiny.decompress(pack(head, bytes(damaged)))
        refused += 1
    assert refused == 300


def test_damaged_files_and_false_claims_are_refused(tiny, tiles):
    data = tiny.compress(tiles[0][:, :8, :8])
    for bad in (data[:-1], data + b"\0", data[:20], b"", bytes([data[0] ^ 1]) + data[1:]):
        with pytest.raises(BitstreamError):
            tiny.decompress(bad)
    head, (payload,) = unpack(data)
    for wrong in (
        replace(head, shape=(3, 60_000, 60_000)),
        replace(head, shape=(9, 8, 8)),
        replace(head, dtype="uint16"),
        replace(head, params=b"\7"),
        replace(head, params=b"\1\1"),
    ):
        with pytest.raises(BitstreamError):
            tiny.decompress(pack(wrong, payload))
    with pytest.raises(BitstreamError, match="one section"):
        tiny.decompress(pack(head, payload, b""))
    with pytest.raises(WrongModelError, match="codec"):
        tiny.decompress(pack(replace(head, codec="other"), payload))
    with pytest.raises(WrongModelError, match="format"):
        tiny.decompress(pack(replace(head, format=9), payload))


def test_other_weights_are_noticed(tiny, tiles):
    other = AribCodec("arib_bps.tiny", make(FOLDED, seed=1))
    with pytest.raises(WrongModelError, match="weights"):
        other.decompress(tiny.compress(tiles[0][:, :8, :8]))


def test_posterior_of_bins_is_the_logistic_one():
    """The bits of a bin's number have the probabilities that the distribution function says, to 16 bits each."""
    delta = np.array([-11.0, -3.3, -0.5, 0.0, 1.25, 7.0])
    for qp in (1, 3, 6):
        count = 1 << qp
        edges = np.arange(count + 1)[:, None]
        cdf = edges / (edges + (count - edges) * np.exp(np.rint(delta * 256) / 256))
        posterior = Posterior(delta, qp)
        for k in range(count):
            p = np.ones(len(delta))
            for level in range(qp):
                half = qp - 1 - level
                low = np.full(len(delta), k >> (half + 1) << (half + 1))
                upper = posterior._upper(low, level) / 65536
                p *= upper if k >> half & 1 else 1 - upper
            np.testing.assert_allclose(p, (cdf[k + 1] - cdf[k]), rtol=2e-3, atol=qp * 2e-5)


def test_bins_come_back():
    random = np.random.default_rng(0)
    delta = random.normal(0, 2, 500)
    stack = StackIO(clean_bits=True)
    stack.push_bits(16, random.integers(0, 65536, 400).astype(np.uint32))
    before = stack.to_bytes()
    posterior = Posterior(delta, 7)
    bins = posterior.pop(stack)
    assert np.corrcoef(centres(bins, 7), delta)[0, 1] > 0.6
    posterior.push(stack, bins)
    assert stack.to_bytes() == before
    assert centres(np.zeros(3, int), 0).tolist() == [0, 0, 0]


def test_integer_tables_are_those_of_every_machine():
    logits = np.linspace(-12, 12, 3001)
    p = bit_probabilities(logits)
    np.testing.assert_allclose(p / 65536, 1 / (1 + np.exp(-np.clip(logits, -11, 11))), atol=0.002)
    assert p.min() >= 1
    assert zlib.crc32(p.astype("<u2").tobytes()) == TABLE_CHECK


TABLE_CHECK = 3602809585


MATRIX = """
import sys
import numpy as np
import torch
from pathlib import Path
from cbench.models.arib_bps import checkpoint, engine
from cbench.models.arib_bps.codec import AribCodec
folder, threads, onednn = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "on"
torch.backends.mkldnn.enabled = onednn
x = np.load(folder / "x.npy")
codec = AribCodec("arib_bps.tiny", checkpoint.load(folder / "w.safetensors"), threads=threads)
alone = [codec.decompress(path.read_bytes()) for path in sorted(folder.glob("*.cbn"))]
assert (np.stack(alone) == x[: len(alone)]).all()
assert (np.stack(codec.decompress_many((folder / "all").read_bytes())) == x).all()
assert codec.compress_many(list(x)) == (folder / "all").read_bytes()
print("same")
"""


@pytest.mark.parametrize(
    ("capability", "kernels", "threads", "onednn"), [("avx2", "avx2", 2, "on"), ("default", "portable", 1, "off")]
)
def test_files_decode_in_other_environments(weights, tiny, tiles, tmp_path, capability, kernels, threads, onednn):
    """Other kernels of PyTorch, of ours, and of MKL: "COMPATIBLE" adds in another order."""
    x = np.stack([*(tile[:, 4:12, 4:12] for tile in tiles[:4]), *(sparse(3, 8, 8, seed=n) for n in range(4))])
    np.save(tmp_path / "x.npy", x)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    (tmp_path / "all").write_bytes(tiny.compress_many(list(x)))
    for number in range(8):
        (tmp_path / f"{number}.cbn").write_bytes(tiny.compress(x[number]))
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "tests")])
    out = subprocess.run(
        [sys.executable, "-c", MATRIX, str(tmp_path), str(threads), onednn],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "ATEN_CPU_CAPABILITY": capability,
            "CBENCH_SIMD": kernels,
            "MKL_CBWR": "COMPATIBLE",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stdout.strip() == "same", out.stderr
