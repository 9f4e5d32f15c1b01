"""Rates, qualities, Bjontegaard differences and timing."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from cbench.bench import metrics, timing
from cbench.errors import ConfigError
from tests.shared import SHARED, needs_shared

RATES = [0.1, 0.2, 0.4, 0.8, 1.6]
PSNRS = [27.0, 29.5, 32.0, 35.0, 38.0]


def test_rates_and_their_units():
    cube = np.zeros((4, 5, 10), np.uint16)
    assert metrics.bpd(100, cube) == 4
    assert metrics.bpp(100, cube) == 16
    assert metrics.ratio(100, cube.nbytes) == 0.25


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "uint64"])
def test_largest_error_never_wraps_around(dtype):
    info = np.iinfo(dtype)
    x = np.array([[[info.min, 5, info.max]]], dtype)
    y = np.array([[[info.max, 5, info.max]]], dtype)
    assert metrics.max_error(x, x) == 0
    assert metrics.max_error(x, y) == metrics.max_error(y, x) == int(info.max) - int(info.min)


def test_psnr():
    x = np.full((3, 8, 8), 100, np.uint8)
    assert metrics.psnr(x, x) is None
    assert metrics.psnr(x, x + 1) == pytest.approx(20 * np.log10(255))
    assert metrics.psnr(x.astype(np.uint16), (x + 1).astype(np.uint16)) == pytest.approx(20 * np.log10(65535))
    assert metrics.psnr(x, x + 1, peak_value=1) == pytest.approx(0)


def test_ms_ssim():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3, 170, 165), np.uint8)
    assert metrics.ms_ssim(x, x) == pytest.approx(1)
    assert metrics.ms_ssim(x, rng.permuted(x, axis=2)) < 0.5
    assert metrics.ms_ssim(x[:, :160], x[:, :160]) is None


def test_spectral_angle():
    x = np.zeros((2, 1, 3), np.uint16)
    x[0] = 7
    y = np.zeros_like(x)
    y[1] = 9
    assert metrics.sam(x, 2 * x) == pytest.approx(0)
    assert metrics.sam(x, y) == pytest.approx(90)
    assert metrics.sam(0 * x, 0 * x) == 0


@pytest.mark.parametrize("method", ["pchip", "cubic"])
def test_bd_rate_of_a_codec_that_saves_a_fifth_is_minus_twenty(method):
    fewer = [0.8 * rate for rate in RATES]
    assert metrics.bd_rate(fewer, PSNRS, RATES, PSNRS, method=method) == pytest.approx(-20)
    assert metrics.bd_rate(RATES, PSNRS, fewer, PSNRS, method=method) == pytest.approx(25)
    better = [q + 1 for q in PSNRS]
    assert metrics.bd_quality(RATES, better, RATES, PSNRS, method=method) == pytest.approx(1)
    assert metrics.bd_rate(RATES[::-1], PSNRS[::-1], RATES, PSNRS, method=method) == pytest.approx(0)


def test_bd_rate_of_curves_that_never_meet():
    assert metrics.bd_rate(RATES, PSNRS, RATES, [q + 50 for q in PSNRS]) is None


def test_bd_rate_refuses_what_it_cannot_answer():
    with pytest.raises(ConfigError, match="at least 4"):
        metrics.bd_rate(RATES[:3], PSNRS[:3], RATES, PSNRS, method="cubic")
    with pytest.raises(ConfigError, match="pchip"):
        metrics.bd_rate(RATES, PSNRS, RATES, PSNRS, method="spline")
    with pytest.raises(ConfigError, match="positive"):
        metrics.bd_rate([0.0, *RATES[1:]], PSNRS, RATES, PSNRS)


@needs_shared
def test_bd_rate_agrees_with_the_recorded_values():
    vectors = json.loads((SHARED / "fixtures/basic/bd_metric.json").read_text())
    reference, jpeg = vectors["reference_hyperprior_kodak"], vectors["reference_jpeg_kodak"]
    for case in vectors["cases"]:
        ours = case["bytes_mean"], case["psnr"]
        anchor = reference["bytes_mean"], reference["psnr"]
        rate = metrics.bd_rate(*ours, *anchor, method="cubic")
        assert rate == pytest.approx(case["bd_rate_standard_percent"], abs=1e-6)
        # The original tool swaps the roles: its figure is what the anchor needs more than ours.
        swapped = metrics.bd_rate(*anchor, *ours, method="cubic")
        assert swapped == pytest.approx(case["bd_value_reference_code_reports"], abs=1e-6)
        gain = metrics.bd_quality(*ours, *anchor, method="cubic")
        assert gain == pytest.approx(case["bd_psnr_standard_db"], abs=1e-6)
        versus_jpeg = metrics.bd_rate(*ours, jpeg["bytes_mean"], jpeg["psnr"], method="cubic")
        assert versus_jpeg == pytest.approx(case["bd_rate_standard_vs_jpeg_percent"], abs=1e-6)
        assert metrics.bd_rate(*ours, *anchor) == pytest.approx(rate, abs=1.5)


def test_median_of_repeats():
    calls = []
    seconds, result = timing.median_seconds(lambda: calls.append(0) or len(calls), 3)
    assert result == 3 and seconds >= 0
    with pytest.raises(ConfigError):
        timing.median_seconds(lambda: None, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a process reset its peak")
def test_peak_memory_is_of_the_block_alone():
    with timing.PeakMemory() as large:
        np.ones(6_000_000).sum()
    with timing.PeakMemory() as small:
        np.ones(1000).sum()
    assert 40 < large.mb < 80
    assert small.mb < 10
