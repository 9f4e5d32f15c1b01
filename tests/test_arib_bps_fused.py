"""Convolutions of the C++ core with what stands between them: the same as PyTorch's, whatever runs beside them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cbench import _core
from cbench.errors import CbenchError
from cbench.models.arib_bps.config import tiny_share, tiny_split
from cbench.models.arib_bps.engine import Engine
from cbench.models.arib_bps.fused import FusedConv
from cbench.models.arib_bps.layers import ChannelGate, GroupNorm
from cbench.models.arib_bps.network import AribNetwork

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 3e-5, torch.float64: 5e-14}
SIZES = [(16, 16), (4, 4), (8, 8), (19, 34), (1, 3), (1, 1)]


def conv(inputs, outputs, side=3, stride=1, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, side, stride, side // 2).to(dtype).requires_grad_(False)


def norm(channels, groups, dtype=torch.float64):
    made = GroupNorm(groups, channels).to(dtype).requires_grad_(False)
    made.weight.normal_()
    made.bias.normal_()
    return made


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_convolutions_are_those_of_pytorch(size, dtype):
    for inputs, outputs, side in ((32, 24, 3), (3, 40, 3), (20, 6, 3), (32, 24, 1), (5, 3, 1)):
        plain = conv(inputs, outputs, side, dtype=dtype)
        x = torch.randn(3, inputs, *size, dtype=dtype)
        found = FusedConv(plain, _core.ConvCrew(1))(x)
        torch.testing.assert_close(found, plain(x), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_stands_around_a_convolution(dtype):
    crew, plain = _core.ConvCrew(1), conv(24, 20, dtype=dtype)
    a, b, c = (torch.randn(2, channels, 9, 18, dtype=dtype) + 3 for channels in (3, 5, 16))
    shift, skip = torch.randn(2, 20, dtype=dtype), torch.randn(2, 20, 9, 18, dtype=dtype)
    gate = ChannelGate(24).to(dtype).requires_grad_(False)
    for before in (norm(24, 8, dtype), gate, None):
        x = torch.cat([a, b, c], 1) if before is None else before(torch.cat([a, b, c], 1))
        wanted = plain(functional.silu(x)) + shift[:, :, None, None] + skip
        found = FusedConv(plain, crew, before, silu=True)(a, b, c, shift=shift, skip=skip)
        torch.testing.assert_close(found, wanted, rtol=0, atol=5 * TOLERANCE[dtype])
    halved = conv(24, 20, stride=2, dtype=dtype)
    torch.testing.assert_close(FusedConv(halved, crew)(x), halved(x), rtol=0, atol=TOLERANCE[dtype])


def test_silu_of_large_and_small_numbers():
    one = conv(1, 1, 1)
    one.weight.fill_(1)
    one.bias.fill_(0)
    x = torch.tensor([-1e4, -800.0, -40.0, -1e-9, 0.0, 1e-9, 3.0, 40.0, 800.0, 1e300]).double()[None, None, None]
    for kind in (torch.float64, torch.float32):
        y = x.clamp_max(1e30).to(kind)
        found = FusedConv(one.to(kind), _core.ConvCrew(1), silu=True)(y)
        torch.testing.assert_close(found, functional.silu(y), rtol=3e-7 if kind == torch.float32 else 1e-15, atol=1e-30)


@pytest.fixture
def kernels():
    """Names of this machine's kernels; afterwards its own ones are chosen again."""
    names = _core.available_kernels()
    yield names
    _core.choose_kernels(names[-1])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("side", [1, 3])
def test_numbers_depend_neither_on_the_batch_nor_on_threads_or_kernels(kernels, dtype, side):
    plain, before = conv(32, 40, side, dtype=dtype), norm(32, 8, dtype)
    for size in ((16, 16), (4, 4)):
        x = torch.randn(7, 32, *size, dtype=dtype)
        found = FusedConv(plain, _core.ConvCrew(1), before, silu=True)(x)
        for threads in (1, 3):
            other = FusedConv(plain, _core.ConvCrew(threads), before, silu=True)
            assert torch.equal(torch.cat([other(part) for part in x.split((1, 4, 2))]), found)
        for name in kernels:
            _core.choose_kernels(name)
            other = FusedConv(plain, _core.ConvCrew(1), before, silu=True)(x)
            torch.testing.assert_close(other, found, rtol=0, atol=0 if name != "portable" else 5 * TOLERANCE[dtype])


@pytest.mark.parametrize("config", [tiny_share(), replace(tiny_split(), folded=True, n_layers=1)])
def test_a_network_of_fused_convolutions_is_the_same_network(config):
    torch.manual_seed(0)
    network = AribNetwork(config).eval()
    for value in network.parameters():
        if not value.any():
            nn.init.normal_(value, 0, 0.05)
    plain = network.double().requires_grad_(False)
    engine = Engine(network, "exact", torch.device("cpu"))
    x = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b in ((plain.sig, engine.sig), (plain.ins, engine.ins)):
            planes = range(a.planes)
            for wanted, found in zip(a.contexts(x, planes), b.contexts(x, planes), strict=True):
                assert (wanted is None) == (found is None)
                if found is not None:
                    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        bottom = engine.bottom(x.numpy())
        for wanted, found in zip(plain.sig.lvae.bottom(engine_input(x, plain.sig.planes)), bottom, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def engine_input(x, planes):
    return (x >> (8 - planes) << (8 - planes)).double() / 255.0


def test_what_does_not_fit_is_refused():
    weight, bias = np.zeros((4, 6, 3, 3)), np.zeros(4)
    for bad in (
        (weight[0], bias),
        (np.zeros((4, 6, 5, 5)), bias),
        (weight, bias[:3]),
        (weight, bias, (np.zeros(6), np.zeros(6), 4, 1e-5)),
        (weight, bias, (np.zeros(5), np.zeros(6), 2, 1e-5)),
        (weight, bias, None, np.zeros(2)),
        (weight, bias, None, np.zeros(17)),
    ):
        with pytest.raises(CbenchError):
            _core.Convolution64(*bad)
    made, crew = _core.Convolution64(weight, bias), _core.ConvCrew(1)
    x, out = np.zeros((2, 5, 7, 6)), np.zeros((2, 5, 7, 4))
    made.run(crew, [x], out)
    for parts, target, *added in (
        ([x[..., :5].copy()], out),
        ([x, x], out),
        ([], out),
        ([x[:1]], out),
        ([x], np.zeros((2, 5, 7, 5))),
        ([x], out, np.zeros((2, 5))),
        ([x], out, None, np.zeros((2, 5, 6, 4))),
    ):
        with pytest.raises(CbenchError):
            made.run(crew, parts, target, *added)
    with pytest.raises(TypeError):
        made.run(crew, [x.astype(np.float32)], out)
