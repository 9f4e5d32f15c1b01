"""Mixture coding: the same integers as the plain-Python definition, for every kernel set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, ndtr

from cbench import _core
from cbench.coding import DecodeIO, EncodeIO, Mixture, reference
from cbench.coding.reference_mixture import mixture_event, table
from cbench.errors import BitstreamError, UnsupportedInputError


def parameters(rng, components, n, low, size):
    mean = rng.integers((low - 5) * 256, (low + size + 5) * 256, (components, n)).astype(np.int32)
    scale = rng.integers(0, 256, (components, n)).astype(np.uint8)
    weight = np.floor(2.0 ** rng.uniform(0, 16, (components, n))).astype(np.uint16)
    return mean, scale, weight


@pytest.mark.parametrize(("family", "cdf"), [("logistic", expit), ("gaussian", ndtr)])
def test_tables_are_the_distribution(family, cdf):
    exact = cdf(np.arange(513) / 32) * 65536
    assert np.abs(np.array(table(family)) - np.minimum(exact, 65535)).max() < 0.51


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(0, 90),
    components=st.integers(1, 5),
    low=st.sampled_from([0, -128, 1000, -(1 << 20)]),
    size=st.sampled_from([1, 2, 3, 100, 255, 256, 257, 32768]),
    family=st.sampled_from(["logistic", "gaussian"]),
)
def test_equals_reference(seed, n, components, low, size, family):
    rng = np.random.default_rng(seed)
    mean, scale, weight = parameters(rng, components, n, low, size)
    symbols = rng.integers(low, low + size, n).astype(np.int32)
    mixture = Mixture(mean, scale, weight, low=low, size=size, family=family)
    events = [
        mixture_event(
            int(symbols[i]), mean[:, i].tolist(), scale[:, i].tolist(), weight[:, i].tolist(), low, size, family
        )
        for i in range(n)
    ]
    found = mixture.native.intervals(symbols)
    assert [tuple(pair) for pair in found.T.tolist()] == events
    data = mixture.encode(symbols)
    assert data == reference.encode(events)
    assert np.array_equal(mixture.decode(data), symbols)


@pytest.mark.parametrize("size", [256, 300])
def test_kernels_agree_and_the_rate_is_the_models(size):
    rng = np.random.default_rng(size)
    n, components = 60_001, 3
    mean = rng.uniform(0, size, (components, n))
    log_scale = rng.uniform(-0.5, 3, (components, n))
    logits = rng.normal(0, 1, (components, n))
    share = np.exp(logits) / np.exp(logits).sum(0)
    pick = (rng.random(n) > np.cumsum(share, 0)[:-1]).sum(0)
    at = (pick, np.arange(n))
    symbols = np.clip(np.rint(rng.logistic(mean[at], np.exp(log_scale[at]))), 0, size - 1).astype(np.int32)
    mixture = Mixture.from_floats(mean, log_scale, logits, size=size)

    def below(edge):
        return (share * expit((edge - mean) / np.exp(log_scale))).sum(0)

    upper = np.where(symbols == size - 1, 1, below(symbols + 0.5))
    ideal = -np.log2(upper - np.where(symbols == 0, 0, below(symbols - 0.5))).sum()
    before, streams = _core.kernels(), set()
    try:
        for name in _core.available_kernels():
            _core.choose_kernels(name)
            data = mixture.encode(symbols)
            streams.add(data)
            assert np.array_equal(mixture.decode(data), symbols)
    finally:
        _core.choose_kernels(before)
    assert len(streams) == 1
    assert ideal < 8 * len(data) < 1.002 * ideal
    assert abs(mixture.bits(symbols) - 8 * len(data)) < 0.0005 * ideal


def test_io_and_errors():
    rng = np.random.default_rng(1)
    mixture = Mixture(*parameters(rng, 2, 500, 0, 256))
    symbols = rng.integers(0, 256, 500)
    io = EncodeIO()
    io.mixture(mixture, symbols)
    io.bits(3, [5], (1,))
    data = io.finish()
    back = DecodeIO(data)
    assert np.array_equal(back.mixture(mixture), symbols)
    assert back.bits(3, None, (1,)) == 5
    back.finish()
    with pytest.raises(BitstreamError):
        mixture.decode(data)
    with pytest.raises(UnsupportedInputError, match="outside the mixture"):
        mixture.encode(symbols + 1000)
    with pytest.raises(UnsupportedInputError, match="different lengths"):
        mixture.encode(symbols[:5])
    with pytest.raises(UnsupportedInputError, match="finite"):
        Mixture.from_floats([[np.nan]], [[0.0]])
    with pytest.raises(UnsupportedInputError, match="all of one shape"):
        Mixture(np.zeros((1, 3), np.int32), np.zeros((1, 4), np.uint8))
    with pytest.raises(UnsupportedInputError, match="all zero"):
        Mixture(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint16))
    with pytest.raises(UnsupportedInputError, match="family"):
        Mixture(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.uint8), family="laplace")
