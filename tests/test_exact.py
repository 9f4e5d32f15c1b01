"""The exact layers: right, exact, and the same whatever the threads, batch, kernels and instruction set."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cbench.errors import ConfigError
from cbench.nn.exact import (
    ExactConv2d,
    ExactConvTranspose2d,
    ExactProduct,
    Grid,
    fold_batch_norm,
    interleave,
    largest_sum,
    snap,
)

GRID = Grid(16, -(256 << 16), 256 << 16)


def integers(*shape, low=-(1 << 20), high=1 << 20, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=chance).double()


def int_matmul(x, weight, bias):
    """The same product in Python integers, which have no limits."""
    rows = [[int(v) for v in row] for row in x.reshape(-1, x.shape[-1]).tolist()]
    columns = [[int(v) for v in column] for column in weight.T.tolist()]
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) + int(o) for column, o in zip(columns, bias, strict=True)]
        for row in rows
    ]


def test_product_equals_integer_arithmetic():
    layer = ExactProduct(torch.randn(40, 5), torch.randn(5), GRID)
    x = integers(7, 40, low=GRID.low, high=GRID.high + 1)
    assert layer(x).long().tolist() == int_matmul(x, layer.weight, layer.bias.tolist())


def test_largest_values_stay_exact():
    """All inputs at the end of their range, with the signs of the weights: the bound itself."""
    layer = ExactProduct(torch.randn(300, 4), torch.rand(4), GRID)
    x = torch.sign(layer.weight.T).double() * GRID.high
    sums = layer(x)
    assert int(sums.abs().max()) <= largest_sum(layer.weight, layer.bias, GRID) < 2**53
    assert sums.long().tolist() == int_matmul(x, layer.weight, layer.bias.tolist())


def test_float32_range_is_respected():
    grid = Grid(4, 0, 255)
    layer = ExactProduct(torch.randn(64, 8), None, grid, dtype=torch.float32)
    x = integers(100, 64, low=0, high=256).float()
    assert largest_sum(layer.weight.double(), layer.bias.double(), grid) < 2**24
    assert layer(x).long().tolist() == int_matmul(x, layer.weight, layer.bias.tolist())


@pytest.mark.parametrize("weight", [torch.full((10, 1), 1e12), torch.tensor([[float("nan")]])])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(ConfigError):
        ExactProduct(weight, None, GRID)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolution(size):
    conv = nn.Conv2d(6, 4, size, padding=size // 2).double()
    layer = ExactConv2d(conv.weight, conv.bias, GRID)
    x = integers(2, 9, 7, 6)
    expected = conv((x * 2.0**-GRID.bits).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x) * 2.0**-layer.bits, expected, atol=1e-4, rtol=0)


def test_transposed_convolution():
    conv = nn.ConvTranspose2d(6, 4, 4, 2, 1).double()
    layer = ExactConvTranspose2d(conv.weight, conv.bias, GRID)
    x = integers(2, 5, 7, 6)
    expected = conv((x * 2.0**-GRID.bits).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(interleave(layer(x)) * 2.0**-layer.bits, expected, atol=1e-4, rtol=0)


def test_snap_rounds_ties_to_even_and_clamps():
    sums = torch.tensor([-6.0, -2, -1, 0, 1, 2, 3, 6, 10, 4000]).double()
    assert snap(sums, 2, Grid(0, -1, 100)).tolist() == [-1, 0, 0, 0, 0, 0, 1, 2, 2, 100]


def test_batch_norm_folds():
    norm = nn.BatchNorm2d(5).eval()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 5, 3, 3)
    factor, offset = fold_batch_norm(norm)
    folded = x * factor.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)
    torch.testing.assert_close(folded.float(), norm(x), atol=1e-5, rtol=1e-5)


def decoder_digest(batch=64, threads=1, mkldnn=True, count=64):
    """Hash of all integers that a V2DVQ-c2 decoder with fixed random weights gives for fixed symbols."""
    from cbench.models.fsar.config import FsarConfig
    from cbench.models.fsar.integer import IntegerDecoder
    from cbench.models.fsar.network import FsarNetwork

    network = FsarNetwork(FsarConfig()).eval().requires_grad_(False)
    random = np.random.default_rng(0)
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            noise = random.integers(-1024, 1024, value.shape) / 512  # exact, so the same on every machine
            scale = 0.5 if value.ndim < 2 else 1 / 16 if value.shape[-1] < 4 else 1 / 8
            value.copy_(torch.from_numpy(np.abs(noise) + 0.5 if "running_var" in name else noise * scale))
    network.decoder[-1].weight[0::2].mul_(1 / 4)
    network.decoder[-1].weight[1::2].mul_(2)
    network.decoder[-1].bias.copy_(torch.tensor([0.5, -3.5] * 3))
    symbols = torch.from_numpy(random.integers(0, 256, (count, 2, 4, 4)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=mkldnn):
            decoder = IntegerDecoder(network)
            parts = [decoder(symbols[i : i + batch]) for i in range(0, count, batch)]
    finally:
        torch.set_num_threads(before)
    mean, level = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    assert len(np.unique(level)) > 10
    assert len(np.unique(mean)) > mean.size // 2
    return hashlib.sha256(mean.astype("<f8").tobytes() + level.astype("<i8").tobytes()).hexdigest()


@pytest.fixture(scope="module")
def digest():
    return decoder_digest()


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mkldnn", [True, False])
def test_decoder_is_the_same_for_any_batch_threads_and_kernels(digest, batch, threads, mkldnn):
    assert decoder_digest(batch, threads, mkldnn) == digest


@pytest.mark.parametrize(
    "settings",
    [{"ATEN_CPU_CAPABILITY": "default"}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"MKL_CBWR": "COMPATIBLE"}],
    ids=str,
)
def test_decoder_is_the_same_with_other_instruction_sets(digest, settings):
    code = "from test_exact import decoder_digest; print(decoder_digest(batch=16))"
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == digest


def test_decoder_digest_is_that_of_every_other_machine(digest):
    """A change here means that files made before decode to something else."""
    assert digest == "5bed093543be5b75a03f58b98413798c4b5a1f3c107bc50c648ea9cb83306558"
