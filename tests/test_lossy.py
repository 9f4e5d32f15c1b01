"""The layers that lossy codecs share: pictures, factorised prior, Gaussian tables, exact upsampling."""

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared
from torch.nn import functional

from cbench.coding import CountIO, DecodeIO, EncodeIO
from cbench.errors import ConfigError, UnsupportedInputError
from cbench.nn.exact import ExactUpsampling, Grid, leaky_relu, snap
from cbench.nn.factorized import MEDIAN_BITS, FactorizedPrior, FactorizedTables, modern_key
from cbench.nn.gaussian import gaussian_likelihood, gaussian_tables, scale_index, thresholds
from cbench.nn.pictures import check_picture, round_up, to_pictures, to_tensor
from cbench.nn.rounding import noisy, round_through


def fixture(name):
    return np.load(SHARED / "fixtures" / "tbtc" / name)


@pytest.mark.parametrize("shape", [(3, 17, 23), (1, 17, 23), (3, 1, 1), (1, 64, 64)])
def test_pictures_come_back(shape):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]
    x = to_tensor(pictures, 16)
    assert x.shape == (2, 3, round_up(shape[1], 16), round_up(shape[2], 16))
    assert x.dtype == torch.float32
    assert torch.equal(x[:, :, shape[1] - 1 :, 0], x[:, :, -1:, 0].expand(-1, -1, x.shape[2] - shape[1] + 1))
    for picture, back in zip(pictures, to_pictures(x, shape), strict=True):
        assert np.array_equal(picture, back)


def test_pictures_are_clamped():
    x = torch.tensor([-0.5, 0.4999 / 255, 1.5]).expand(1, 3, 1, 3)
    assert to_pictures(x, (3, 1, 3))[0][0].tolist() == [[0, 0, 255]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 8, 8), np.uint8), "alpha"),
        (np.zeros((2, 8, 8), np.uint8), "alpha"),
        (np.zeros((3, 8, 8), np.uint16), "8-bit"),
        (np.zeros((5, 8, 8), np.uint8), "5 channels"),
    ],
)
def test_other_pictures_are_refused(array, words):
    with pytest.raises(UnsupportedInputError, match=words):
        check_picture(array, "a codec")


def test_rounding_lets_gradients_through():
    x = torch.tensor([0.5, 1.5, -0.6], requires_grad=True)
    y = round_through(x)
    (y * torch.tensor([1.0, 2, 3])).sum().backward()
    assert y.tolist() == [0, 2, -1]
    assert x.grad.tolist() == [1, 2, 3]
    assert float((noisy(x) - x).detach().abs().max()) <= 0.5


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    prior = FactorizedPrior(6)
    with torch.no_grad():
        for i, bias in enumerate(prior.biases):
            bias += 0.7 * i
    prior.settle()
    return prior


def test_settled_quantiles_hit_their_targets(prior):
    logits = prior._cumulative(prior.quantiles.double())
    # float32 holds the outer quantiles to a part in 10^7.
    assert float((logits - prior.target.double()).abs().max()) < 1e-4
    assert float(prior.loss()) < 1e-2


def test_prior_round_trip_with_escapes(prior):
    tables = prior.integers()
    rng = np.random.default_rng(0)
    z = (rng.normal(0, 8, (6, 5, 7)) + rng.choice([0, 9000], (6, 5, 7), p=[0.95, 0.05])).astype(np.float32)
    symbols = tables.symbols(z)
    writer = EncodeIO()
    tables.code(writer, symbols, symbols.shape)
    reader = DecodeIO(writer.finish())
    back = tables.code(reader, None, symbols.shape)
    reader.finish()
    assert np.array_equal(back, symbols)
    values = tables.values(back, 14) / 2**14
    assert np.abs(values - z).max() <= 0.5 + 2**-MEDIAN_BITS
    rounded = prior.rounded(torch.from_numpy(z)[None])[0]
    assert np.abs(rounded.numpy() - values).max() < 1.01


def test_prior_costs_what_training_thought(prior):
    tables = prior.integers()
    z = torch.randn(1, 6, 30, 30, generator=torch.Generator().manual_seed(1)) * 6
    z = z + prior.quantiles[:, 0, 1].detach().view(-1, 1, 1)
    symbols = tables.symbols(z[0].numpy())
    counter = CountIO()
    tables.code(counter, symbols, symbols.shape)
    nominal = -float(prior.likelihood(prior.rounded(z)).log2().sum())
    assert counter.total == pytest.approx(nominal, rel=2e-3)


def test_prior_tables_survive_a_weights_file(prior):
    tables = prior.integers()
    state = tables.state("prior.")
    back = FactorizedTables.from_state(state, "prior.")
    assert np.array_equal(back.tables.cdf, tables.tables.cdf)
    assert FactorizedTables.from_state({}, "prior.") is None
    state.pop("prior.size")
    with pytest.raises(ConfigError, match="only a part"):
        FactorizedTables.from_state(state, "prior.")
    with pytest.raises(ConfigError, match="channels"):
        FactorizedTables(tables.weights, tables.size[1:], tables.offset, tables.median)
    with pytest.raises(ConfigError, match="lengths"):
        FactorizedTables(tables.weights, tables.size + 9999, tables.offset, tables.median)


@needs_shared
def test_prior_matches_the_golden_vectors():
    golden = fixture("entropy_bottleneck.npz")
    state = {
        modern_key(key.removeprefix("param/")): torch.from_numpy(golden[key])
        for key in golden
        if key.startswith("param/") and "_cdf" not in key and not key.endswith("_offset")
    }
    prior = FactorizedPrior(4)
    result = prior.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) == {"_offset", "_quantized_cdf", "_cdf_length"}
    values = torch.from_numpy(golden["values"])
    assert torch.equal(prior.rounded(values), torch.from_numpy(golden["dequantised"]))
    found = prior.likelihood(prior.rounded(values)).detach().numpy()
    assert np.allclose(found, golden["likelihood"], rtol=1e-4)
    assert float(prior.loss()) == pytest.approx(float(golden["aux_loss"]), rel=1e-5)


def test_scale_rows():
    limits = thresholds(14)
    assert len(limits) == 63
    assert (np.diff(limits) > 0).all()
    edges = np.concatenate([limits, limits + 1, [-5, 0, 1 << 30]])
    expected = (edges[:, None] > limits).sum(1)
    assert np.array_equal(scale_index(edges, 14), expected)
    assert limits[0] == int(0.11 * 2**14)


@needs_shared
def test_scale_table_is_the_original():
    golden = fixture("gaussian_cdf.npz")
    assert np.allclose(thresholds(40) / 2**40, golden["scale_table"][:63], rtol=1e-6)


def test_gaussian_tables_cost_what_training_thought():
    tables = gaussian_tables()
    assert len(tables) == 64
    rng = np.random.default_rng(0)
    for low, high in ((0.02, 0.11), (0.12, 0.5), (0.5, 4), (4, 40), (40, 250)):
        scale = np.exp(rng.uniform(np.log(low), np.log(high), 20000))
        symbols = np.rint(rng.normal(0, scale)).astype(np.int32)
        v = torch.from_numpy(symbols).double()
        nominal = -float(gaussian_likelihood(v, torch.zeros_like(v), torch.from_numpy(scale)).log2().sum())
        spent = tables.bits(symbols, scale_index((scale * 2**14).astype(np.int64), 14))
        assert spent == pytest.approx(nominal, rel=4e-3, abs=4)


def test_gaussian_likelihood_bound_keeps_its_gradient():
    scale = torch.tensor([0.01, -3.0], requires_grad=True)
    gaussian_likelihood(torch.tensor([2.0, 2.0]), torch.zeros(2), scale).log().sum().neg().backward()
    assert (scale.grad <= 0).all()


def test_exact_upsampling():
    torch.manual_seed(0)
    weight, bias = torch.randn(3, 4, 5, 5), torch.randn(4)
    grid = Grid(bits=10, low=-(1 << 14), high=1 << 14)
    x = torch.randint(-1000, 1000, (2, 6, 5, 3)).double()
    layer = ExactUpsampling(weight, bias, grid)
    found = layer(x) * 2.0**-layer.bits
    expected = functional.conv_transpose2d(
        x.permute(0, 3, 1, 2) / 1024, weight.double(), bias.double(), stride=2, padding=2, output_padding=1
    )
    assert found.shape == (2, 12, 10, 4)
    assert torch.allclose(found.permute(0, 3, 1, 2), expected, atol=1e-5)


def test_exact_leaky_relu():
    x = torch.tensor([-100000.0, -3, 0, 7], dtype=torch.float64)
    assert leaky_relu(x).tolist() == [-100000 * 655, -3 * 655, 0, 7 * 65536]
    assert snap(leaky_relu(x), 16, Grid(0, -2000, 2000)).tolist() == [-999, 0, 0, 7]
