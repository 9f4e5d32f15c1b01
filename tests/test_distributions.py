"""Normal tables by integers: close to the truth, and the same integers everywhere."""

import zlib
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from cbench.coding.distributions import CDF_BITS, Z_BITS, deviations, exp_fixed, normal_cdf
from cbench.models.fsar import pixels


def test_normal_cdf_is_close_symmetric_and_rising():
    z = np.round(np.linspace(-9, 9, 200_001) * 2**Z_BITS).astype(np.int64)
    cdf = normal_cdf(z)
    assert np.abs(cdf / 2**CDF_BITS - norm.cdf(z / 2**Z_BITS)).max() < 1e-9
    assert (np.diff(cdf) >= 0).all()
    assert (cdf + normal_cdf(-z) == 2**CDF_BITS).all()
    assert normal_cdf(0) == 2 ** (CDF_BITS - 1)
    assert normal_cdf(1 << 60) == 2**CDF_BITS
    assert normal_cdf(-(1 << 60)) == 0


def test_normal_cdf_never_changes():
    """Files made with these integers must stay readable."""
    z = np.arange(-(9 << Z_BITS), 9 << Z_BITS, 4999)
    assert zlib.crc32(normal_cdf(z).astype("<i8").tobytes()) == 0x51EE7A25


@pytest.mark.parametrize("x", [Fraction(0), Fraction(-7), Fraction(13, 8), Fraction(-1, 3)])
def test_exp(x):
    assert exp_fixed(x, 40) / 2**40 == pytest.approx(np.exp(float(x)), rel=1e-9)


def test_deviations():
    inverse = round(2**36 / 3.7)
    z = deviations(np.array([-640, 0, 64, 100]), 6, inverse, 36)
    np.testing.assert_allclose(z / 2**Z_BITS, np.array([-10, 0, 1, 100 / 64]) / 3.7, atol=1e-7)


@pytest.fixture(scope="module")
def table():
    return pixels.pixel_tables()


def test_pixel_tables_never_change(table):
    crc = zlib.crc32(table.tables.cdf.astype("<u4").tobytes())
    for part in (table.tables.offset, table.row, table.centre, table.first, table.mean_low, table.mean_high):
        crc = zlib.crc32(np.asarray(part).astype("<i8").tobytes(), crc)
    assert crc == 0x028A271B


def test_pixel_tables_are_normal_distributions(table):
    """Mass of every value for random parameters, against scipy at the rounded parameters."""
    random = np.random.default_rng(0)
    frequency = table.tables.frequencies / 65536
    for _ in range(300):
        level = random.integers(pixels.LEVELS)
        log_std = pixels.LOG_STD_LOW + level / pixels.LOG_STD_STEPS
        mean = random.uniform(0, 255)
        row, centre = (int(part[0]) for part in table.select(np.array([mean]), np.array([level])))
        rounded = np.rint(mean * table.mean_scale[level]) / table.mean_scale[level]
        values = centre + table.tables.offset[row] + np.arange(table.tables.size[row])
        assert values.min() >= 0
        assert values.max() <= 255
        edges = np.arange(values[0], values[-1] + 2) - 0.5
        cdf = norm.cdf((edges - rounded) / (255 * np.exp(log_std)))
        cdf[edges == -0.5], cdf[edges == 255.5] = 0, 1
        expected = np.maximum(np.diff(cdf), 2**-16)
        got = frequency[row, : len(values)]
        np.testing.assert_allclose(
            got, expected, rtol=0.02, atol=4e-3
        )  # the heaviest value gets what rounding down leaves
        escape = frequency[row, len(values)]
        assert escape < 1e-3


def test_pixel_tables_cost_little_over_the_distribution(table):
    random = np.random.default_rng(1)
    log_std, mean = random.uniform(-6, -1, 50_000), random.uniform(0, 255, 50_000)
    std = 255 * np.exp(log_std)
    x = np.clip(np.rint(random.normal(mean, std)), 0, 255)
    low = np.where(x == 0, -np.inf, (x - 0.5 - mean) / std)
    high = np.where(x == 255, np.inf, (x + 0.5 - mean) / std)
    ideal = -np.log2(norm.cdf(high) - norm.cdf(low)).sum()
    level = np.rint((log_std - pixels.LOG_STD_LOW) * pixels.LOG_STD_STEPS).astype(int)
    row, centre = table.select(mean, level)
    assert table.tables.bits(x.astype(np.int32) - centre, row) < 1.002 * ideal
