"""Adaptive residual coding: exact, robust, and better than sample-adaptive Golomb coding on real residuals."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import SHARED, needs_shared

from cbench import _core
from cbench.coding import decode_adaptive, encode_adaptive
from cbench.errors import BitstreamError, UnsupportedInputError


def golomb_bits(residuals: np.ndarray) -> int:
    """Length of the sample-adaptive Golomb code of CCSDS-123 (counter limit 64, unary limit 18, 16-bit samples)."""
    bits = 0
    for plane in residuals:
        total, count = 4 * 16, 4
        for value in np.where(plane < 0, -2 * plane - 1, 2 * plane).reshape(-1).tolist():
            k = 0
            while count << (k + 1) <= total + (49 * count >> 7) and k < 14:
                k += 1
            quotient = value >> k
            bits += quotient + 1 + k if quotient < 18 else 18 + 16
            total, count = total + value, count + 1
            if count == 64:
                total, count = (total + 1) >> 1, count >> 1
    return bits


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 70)),
    scale=st.sampled_from([0.3, 3.0, 200.0, 1e5, 3e6]),
)
def test_round_trip(seed, shape, scale):
    rng = np.random.default_rng(seed)
    residuals = np.clip(np.rint(rng.standard_cauchy(shape) * scale), -(1 << 24), 1 << 24).astype(np.int32)
    data = encode_adaptive(residuals)
    assert np.array_equal(decode_adaptive(data, shape), residuals)


def test_kernels_agree_and_bytes_never_change():
    rng = np.random.default_rng(4)
    spread = 2.0 ** rng.integers(0, 9, (6, 1, 1))
    residuals = np.rint((rng.random((6, 40, 90)) ** 3 - 0.25) * 40 * spread).astype(np.int32)
    before, streams = _core.kernels(), set()
    try:
        for name in _core.available_kernels():
            _core.choose_kernels(name)
            data = encode_adaptive(residuals)
            streams.add(data)
            assert np.array_equal(decode_adaptive(data, residuals.shape), residuals)
    finally:
        _core.choose_kernels(before)
    assert len(streams) == 1
    assert hashlib.sha256(data).hexdigest()[:16] == "99bf228c847c2b4f"
    for damaged in (data[:-2], data[:99] + bytes([data[99] ^ 8]) + data[100:], data + b"x"):
        with pytest.raises(BitstreamError):
            decode_adaptive(damaged, residuals.shape)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_decode_or_raise(data):
    try:
        residuals = decode_adaptive(data, (2, 5, 30))
    except BitstreamError:
        return
    assert encode_adaptive(residuals) == data


def test_errors():
    with pytest.raises(UnsupportedInputError, match="planes, lines, samples"):
        encode_adaptive([1, 2])
    with pytest.raises(UnsupportedInputError, match="2\\^24"):
        encode_adaptive([[[1 << 25]]])


@needs_shared
@pytest.mark.parametrize("size", ["xs", "s"])
@pytest.mark.parametrize("delta", [0, 1, 5])
def test_beats_the_golomb_streams_of_linerwkv(size, delta):
    stored = np.load(SHARED / "fixtures" / "linerwkv" / f"codec_enmap_{size}.npz")
    residuals = stored[f"d{delta}_residual"].transpose(2, 0, 1)
    assert len(encode_adaptive(residuals)) < 0.99 * len(stored[f"d{delta}_golomb_bytes"])


@needs_shared
@pytest.mark.parametrize(("cube", "shape"), [("enmap_potsdam_c", (202, 32, 64)), ("abu_airport_4", (205, 100, 100))])
def test_beats_golomb_on_band_differences(cube, shape):
    samples = np.fromfile(SHARED / "data" / "hyperspectral" / f"{cube}.raw", "<u2").reshape(shape).astype(np.int32)
    residuals = np.diff(samples[:40], axis=0)
    assert 8 * len(encode_adaptive(residuals)) < 0.9 * golomb_bits(residuals)
