"""BaSIC's streams: round trips, damage, orders, schedules, machines, structures, importers, parameter counts."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.coding import DecodeIO, EncodeIO
from cbench.coding.container import pack, unpack
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError
from cbench.models.basic import checkpoint, config
from cbench.models.basic.codec import Analysis, BasicCodec
from cbench.models.basic.complexity import Complexity
from cbench.models.basic.config import BasicConfig, CoderConfig, tiny
from cbench.models.basic.context import ContextModel
from cbench.models.basic.integer import IntegerUnit
from cbench.models.basic.network import BasicNetwork, Structure, random_order
from cbench.models.basic.orders import ORDERS, compile_order, label_schedule, named_order
from cbench.models.basic.slimmable import SlimConv2d
from cbench.models.basic.timing import Timing
from cbench.nn.running import running
from cbench.nn.torchvision_guard import guard

torch.set_num_threads(1)


def weights_of(model: BasicConfig, seed: int = 0) -> checkpoint.Weights:
    """Random weights, with latents large enough to have something to code."""
    torch.manual_seed(seed)
    network = BasicNetwork(model)
    with torch.no_grad():
        [layer for layer in network.edges["x_y"].layers if isinstance(layer, SlimConv2d)][-1].weight.mul_(100)
    for coder in network.z_coders:
        coder.settle()
    return checkpoint.build(network.state_dict(), model)


@cache
def codec(seed: int = 0, threads: int = 1) -> BasicCodec:
    model = replace(tiny(), coders=(CoderConfig(), CoderConfig(order="checkerboard")))
    return BasicCodec("basic.test", weights_of(model, seed), threads=threads)


def picture(height, width, channels=3, seed=0):
    rows, columns = np.indices((height, width))
    base = 128 + 60 * np.sin(rows / 9) + 50 * np.cos(columns / 7)
    noise = np.random.default_rng(seed).normal(0, 20, (channels, height, width))
    return (base + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (17, 23), (64, 64), (65, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(size, channels):
    x = picture(*size, channels)
    data = codec().compress(x)
    decoded = codec().decompress(data)
    assert decoded.shape == x.shape
    assert decoded.dtype == np.uint8
    assert 8 * (len(data) - 60) <= codec().bits(x) + 64
    archive = codec().compress_many([x, x])
    assert all(np.array_equal(item, decoded) for item in codec().decompress_many(archive))


def test_what_is_not_a_picture_is_refused():
    for bad in (np.zeros((4, 8, 8), np.uint8), np.zeros((3, 8, 8), np.uint16)):
        with pytest.raises(UnsupportedInputError):
            codec().compress(bad)


def test_damage_is_always_found():
    x = picture(40, 50)
    data = codec().compress(x)
    chance = np.random.default_rng(1)
    head, (payload,) = unpack(data)
    for _ in range(30):
        broken = bytearray(payload)
        broken[chance.integers(len(payload))] ^= 1 << chance.integers(8)
        for wrong in (bytes(broken), payload[: chance.integers(len(payload))], payload + b"\0"):
            # A right outer checksum, so that the stream itself has to show the damage.
            with pytest.raises(CbenchError):
                codec().decompress(pack(head, wrong))


def test_structures_that_are_not_there_are_refused():
    head, (payload,) = unpack(codec().compress(picture(20, 20)))
    for params in (b"\x03\0\0", b"\0\x09\0", b"\0\0\x02", b"\0\0", b""):
        with pytest.raises(BitstreamError):
            codec().decompress(pack(replace(head, params=params), payload))
    with pytest.raises(ConfigError, match="no structure"):
        codec().with_structure(Structure(3))


def test_other_weights_are_refused():
    with pytest.raises(WrongModelError):
        codec(1).decompress(codec().compress(picture(20, 20)))


def test_files_carry_what_the_decoder_runs_and_the_encoder_is_free():
    x = picture(70, 60)
    for structure in (Structure(), Structure(2, 1, 0, 0), Structure(0, 0, 2, 1, 1), Structure(2, 2, 2, 2, 1)):
        own = codec().with_structure(structure)
        data = own.compress(x)
        assert np.array_equal(codec().decompress(data), own.decompress(data))
        assert unpack(data)[0].params == bytes([structure.z_y, structure.y_x, structure.coder])


@pytest.mark.parametrize(
    "model",
    [
        replace(config.hyperprior(), widths=(4, 6), latent=8, hyper=8),
        replace(config.slim_cae(), widths=(4, 6), latent=6, hyper=6),
        replace(config.group_hyperprior(), widths=(4, 8), latent=8, hyper=8),
        replace(config.cheng(), widths=(4, 8), latent=8, hyper=8),
        replace(config.elic(), widths=(4, 8), latent=8, hyper=8),
        replace(config.topo_group(config.ordered("learned", 4, 3)), widths=(4,), latent=8, hyper=8),
        replace(config.topo_group_base(), widths=(4,), latent=8, hyper=8),
        replace(config.topo_group(config.ordered("random", 2)), widths=(4,), latent=8, hyper=8),
    ],
    ids=["hyperprior", "slim-cae", "groups", "cheng", "elic", "learned", "sum", "random"],
)
def test_other_models(model):
    own = BasicCodec("basic.test", weights_of(model))
    x = picture(65, 40)
    for structure in own.front:
        data = own.with_structure(structure).compress(x)
        assert own.decompress(data).shape == x.shape


ALL_ORDERS = [
    *((name, 12 if name in ("elic", "channelwise-g10") else 2) for name in ORDERS),
    ("random", 1),
    ("random", 3),
]


@pytest.mark.parametrize(("name", "groups"), ALL_ORDERS)
def test_every_order_and_both_schedules(name, groups):
    """Compiled and plain schedules give the same symbols, and the same bytes when written in the same sequence."""
    torch.manual_seed(groups)
    coder = CoderConfig(groups=groups, variant="B" if groups == 2 else "A")
    channels = 12
    model = ContextModel(channels, coder).requires_grad_(False)
    unit = IntegerUnit(model)
    size = (5, 6)
    order = random_order(coder, *size) if name == "random" else named_order(name, groups, *size)
    prior = (torch.randn(*size, 2 * channels).double() * 4096).round()
    y = np.random.default_rng(0).normal(0, 4, (channels, *size))
    compiled, plain = compile_order(order), label_schedule(order)
    assert compiled.steps <= plain.steps
    recorded = Recorder()
    symbols, y_hat = unit.code(recorded, y, prior, plain)
    writer = EncodeIO()
    again, same = unit.code(writer, y, prior, compiled)
    stream = writer.finish()
    assert np.array_equal(symbols, again)
    assert np.array_equal(y_hat, same)
    assert recorded.rewritten(plain, compiled, channels // groups) == stream
    decoded, values = unit.code(DecodeIO(stream), None, prior, compiled)
    assert np.array_equal(decoded, symbols)
    assert np.array_equal(values, y_hat)


class Recorder:
    """An encoder that only remembers what it was asked to write."""

    decoding = False

    def __init__(self):
        self.tables, self.index, self.symbols = None, [], []

    def code(self, tables, index, symbols=None):
        self.tables = tables
        self.index.append(index)
        self.symbols.append(symbols)
        return symbols

    def rewritten(self, then, now, width):
        """What was written by the steps of `then` in the sequence of `now`: elements of `width` values."""
        groups = len(then.step)
        place = np.arange(then.step[0].size)
        sequences = [
            sorted((s.step.reshape(groups, -1)[g, p], g, p) for g in range(groups) for p in place) for s in (then, now)
        ]
        at = {element[1:]: number for number, element in enumerate(sequences[0])}
        index, symbols = (np.concatenate(v).reshape(-1, width) for v in (self.index, self.symbols))
        writer, number = EncodeIO(), [at[element[1:]] for element in sequences[1]]
        steps = np.array([element[0] for element in sequences[1]])
        for step in range(now.steps):
            chosen = np.array(number)[steps == step]
            writer.code(self.tables, index[chosen].ravel(), symbols[chosen].ravel())
        return writer.finish()


@pytest.mark.parametrize(
    ("name", "groups", "steps"),
    [
        ("scanline", 1, 141),
        ("zigzag", 1, 79),
        ("checkerboard", 1, 2),
        ("raster2x2", 1, 4),
        ("channelwise-checkerboard", 4, 8),
        ("elic", 12, 10),
        ("none", 1, 1),
    ],
)
def test_steps_of_a_large_picture(name, groups, steps):
    assert compile_order(named_order(name, groups, 32, 48)).steps == steps


def test_compiled_schedules_are_causal():
    order = random_order(CoderConfig(groups=3), 7, 9, seed=3)
    step = compile_order(order, 3).step
    for g, r, c in np.ndindex(order.shape):
        for other, i, j in np.ndindex(3, 3, 3):
            row, column = r + i - 1, c + j - 1
            if 0 <= row < 7 and 0 <= column < 9 and order[other, row, column] < order[g, r, c]:
                assert step[other, row, column] < step[g, r, c]


def digest_of_latents(threads):
    """24 latents through the codec with that many threads."""
    digest = hashlib.sha256()
    for number in range(24):
        own = codec(threads=threads).with_structure(Structure(coder=number % 2, z_y=number % 3))
        chance = np.random.default_rng(number)
        y = chance.normal(0, 5, (8, 8, 12)).astype(np.float32)
        z = chance.normal(0, 2, (8, 2, 3)).astype(np.float32)
        io = EncodeIO()
        with running(threads):
            y_hat = own.code(io, own.structure, (128, 192), Analysis(y, z))
        digest.update(y_hat.tobytes() + io.finish())
    return digest.hexdigest()


PORTABLE = """
import sys, torch
sys.path[:0] = [{tests!r}]
torch.backends.mkldnn.enabled = False
from test_basic_codec import digest_of_latents
print(digest_of_latents({threads}))
"""


def test_symbols_do_not_depend_on_the_machine():
    """1 or 2 threads, oneDNN on or off, a smaller instruction set: 0 differences in 24 latents."""
    expected = digest_of_latents(1)
    assert digest_of_latents(2) == expected
    code = PORTABLE.format(tests=str(Path(__file__).parent), threads=2)
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == expected


def test_levels_of_complexity():
    own = codec()
    costs = [own.with_complexity(level).cost().total for level in range(8)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == own.cost(own.front[0]).total
    assert costs[-1] == own.cost(own.front[-1]).total
    size, limit = (64, 64), (costs[0] + costs[-1]) / 2
    assert own.with_max_kmac(limit).cost().total <= limit
    for wrong in (
        lambda: own.with_complexity(8),
        lambda: own.with_max_kmac(1e-6),
        lambda: own.with_max_ms(1e-9, size),
    ):
        with pytest.raises(ConfigError):
            wrong()
    assert own.with_max_ms(1e6, size).structure == own.front[0]


@pytest.mark.parametrize("slim_latents", [False, True])
def test_predicted_times(slim_latents):
    """What a choice does not touch takes no longer, and the sum of nothing is the least structure."""
    model = (
        replace(config.slim_cae(), widths=(4, 32), latent=32, hyper=32)
        if slim_latents
        else replace(tiny(), widths=(4, 32), latent=8, hyper=8)
    )
    own = BasicCodec("basic.test", weights_of(model))
    timing = Timing.of(own, (64, 192))
    assert timing is Timing.of(own, (64, 192))
    assert timing.predict(own.front[-1]) == timing.least
    largest = timing.predict(own.front[0])
    assert largest.encoder > timing.least.encoder > 0
    assert largest.decoder > timing.least.decoder > 0
    if not slim_latents:
        assert timing.more[0][0].decoder == timing.more[3][0].encoder == 0


def test_weights_files(tmp_path):
    weights = weights_of(replace(tiny(), coders=(CoderConfig(order="learned", groups=2, stages=3),)))
    path = tmp_path / "w.safetensors"
    checkpoint.save(path, weights, {"about": "test"})
    again = checkpoint.load(path)
    assert again.fingerprint() == weights.fingerprint()
    assert again.front == weights.front
    x = picture(30, 30)
    data = BasicCodec("basic.test", weights).compress(x)
    assert BasicCodec("basic.test", again).decompress(data).shape == x.shape
    half = checkpoint.build(checkpoint.halved(weights.network.state_dict()), weights.network.config)
    checkpoint.save(path, half, {}, half=True)
    small = checkpoint.load(path)
    assert small.fingerprint() == half.fingerprint()


def test_weights_that_do_not_fit():
    state = dict(weights_of(tiny()).network.state_dict())
    with pytest.raises(ConfigError, match="do not say"):
        checkpoint.build(state)
    state.pop("edges.x_y.layers.0.weight")
    with pytest.raises(ConfigError, match="do not fit"):
        checkpoint.build(state, tiny())


def compressai_model(joint):
    guard()
    from compressai.models import JointAutoregressiveHierarchicalPriors, ScaleHyperprior

    torch.manual_seed(0)
    model = JointAutoregressiveHierarchicalPriors(8, 8) if joint else ScaleHyperprior(8, 12)
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            parameter.data.mul_(2)
    return model.eval()


@pytest.mark.parametrize("joint", [True, False])
def test_compressai_checkpoints(joint, tmp_path):
    model = compressai_model(joint)
    path = tmp_path / "model.pth"
    torch.save(model.state_dict(), path)
    network = checkpoint.load(path).network
    x = torch.rand(1, 3, 128, 64)
    with torch.no_grad():
        theirs, ours = model(x), network(x, Structure())
    assert (theirs["x_hat"] - ours.x_hat).abs().max() < 1e-5
    assert (theirs["likelihoods"]["z"] - ours.z_likelihood).abs().max() < 1e-5
    if not joint:
        assert (theirs["likelihoods"]["y"] - ours.y_likelihood).abs().max() < 1e-5
        return
    y = model.g_a(x)
    params = model.h_s(network.code_z(ours.z, Structure())[0])
    assert (params - ours.prior).abs().max() < 1e-5
    merged = model.entropy_parameters(torch.cat([params, model.context_prediction(y.round())], 1))
    scales, means = merged.chunk(2, 1)
    own_means, own_scales = network.y_coders[0](y.round(), ours.prior)
    assert (own_means - means).abs().max() < 1e-5
    assert (own_scales - scales).abs().max() < 1e-5


PUBLISHED_PARAMETERS = {
    "joint": (config.joint(), 14_130_627),
    "combined": (config.combined(), 26_211_604),
    "universal-decoder": (config.universal_decoder(), 18_886_649),
    "cheng": (config.cheng(), 13_104_588),
    "elic": (config.elic(), 18_669_643),
    "hyperprior": (config.hyperprior(), 10_145_059),
    "slim-cae": (config.slim_cae(), 10_167_019),
    "universal-hyperprior": (config.universal_hyperprior(), 10_145_081),
    "static-hyperprior": (config.static_hyperprior(), 10_144_899),
    "topo-group-base": (config.topo_group_base(), 8_984_387),
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameter_counts(name):
    model, published = PUBLISHED_PARAMETERS[name]
    with torch.device("meta"):
        network = BasicNetwork(model)
    count = sum(p.numel() for p in network.parameters())
    # What the original holds besides and never uses.
    count += sum(edge.choices for edge in network.edges.values() if edge.choices > 1)
    count += sum(
        sum(p.numel() for p in coder.model.context.parameters())
        for coder in network.y_coders
        if coder.config.variant != "A"
    )
    count += len(network.y_coders) if len(network.y_coders) > 1 else 0
    assert count == published


def test_parameters_of_the_group_convolutions():
    """What the published count has more: a bias for each of four input groups where layers are dense, unused logits."""
    with torch.device("meta"):
        network = BasicNetwork(config.group_hyperprior())
    parts = {name: sum(p.numel() for p in edge.parameters()) for name, edge in network.edges.items()}
    assert parts == {"x_y": 734_596, "y_z": 2_175_552, "z_y": 2_175_552, "y_x": 734_407}
    biases = 3 * (6 * 192 + 3)
    assert sum(p.numel() for p in network.parameters()) + biases + 45 == 5_835_329


def test_groups_do_not_see_each_other():
    torch.manual_seed(0)
    model = replace(config.group_hyperprior(), widths=(4, 8, 12), latent=12, hyper=8)
    network = BasicNetwork(model).requires_grad_(False)
    x = torch.rand(1, 3, 64, 64)
    y = [network.edges["x_y"](x, choice) for choice in range(3)]
    for choice, leading in ((1, 8), (2, 4)):
        assert torch.allclose(y[choice][:, :leading], y[0][:, :leading], atol=1e-6)
        assert not y[choice][:, leading:].any()
        changed = y[0].clone()
        changed[:, leading:] += 1
        pictures = [network.edges["y_x"](latent, choice) for latent in (y[0], changed)]
        assert torch.equal(*pictures)
    costs = Complexity(network).edges
    grouped = sum(w * n * 25 / 4**stride for stride, (w, n) in enumerate([(3, 12), (4, 12), (4, 12), (4, 12)], 1))
    assert costs[0][0] == pytest.approx((grouped + 4 * 12 * (1 / 4 + 1 / 16 + 1 / 64)) / 1000)
    assert costs[3][0] == pytest.approx(costs[0][0])


def test_complexity_of_the_main_model():
    """KMAC a pixel of spec tables: 190.5 and 15.7 for the edges, 11.17 for a pass of the unit."""
    torch.manual_seed(0)
    costs = Complexity(BasicNetwork(config.joint()))
    assert sum(table[0] for table in costs.edges) == pytest.approx(190.48, abs=0.01)
    assert sum(table[-1] for table in costs.edges) == pytest.approx(15.66, abs=0.01)
    assert costs.coders[0] == pytest.approx(11.17, abs=0.01)
