"""Finite-state coding: bytes equal the reference's for every kernel set, contexts are what they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbench import _core
from cbench.coding import CountIO, DecodeIO, EncodeIO, StateTables, reference
from cbench.errors import BitstreamError, UnsupportedInputError

ABOVE, LEFT, CORNER, GROUP = (0, -1, 0), (0, 0, -1), (0, -1, -1), (-1, 0, 0)


def random_model(rng, symbols, groups, offsets, tables=None):
    contexts = (symbols + 1) ** len(offsets)
    count = tables or groups * contexts
    weights = np.floor(2.0 ** rng.uniform(0, 20, (count, symbols))).astype(np.int64)
    table_of = rng.integers(0, count, (groups, contexts))
    return weights, table_of, StateTables(weights, table_of, offsets)


def table_numbers(symbols, table_of, offsets, alphabet):
    """The table of every symbol, by the definition, in event order."""
    pictures, groups, height, width = symbols.shape
    events = []
    for y in range(height):
        for x in range(width):
            for c in range(groups):
                for b in range(pictures):
                    context = 0
                    for dc, dy, dx in offsets:
                        at = (c + dc, y + dy, x + dx)
                        context = context * (alphabet + 1) + (symbols[b][at] + 1 if min(at) >= 0 else 0)
                    events.append((int(symbols[b, c, y, x]), int(table_of[c, context])))
    return events


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    alphabet=st.sampled_from([1, 2, 7, 31, 32, 33, 70]),
    offsets=st.sampled_from([[], [ABOVE], [ABOVE, LEFT], [GROUP, LEFT], [LEFT, ABOVE, CORNER]]),
    shape=st.tuples(st.integers(0, 70), st.integers(1, 3), st.integers(0, 5), st.integers(0, 4)),
)
def test_equals_reference(seed, alphabet, offsets, shape):
    if len(offsets) > 2 and alphabet > 7:
        alphabet = 7
    rng = np.random.default_rng(seed)
    weights, table_of, model = random_model(rng, alphabet, shape[1], offsets, tables=9)
    symbols = rng.integers(0, alphabet, shape)
    frequencies = [reference.quantise(row.tolist()) for row in weights]
    events = [
        (sum(frequencies[table][:symbol]), frequencies[table][symbol])
        for symbol, table in table_numbers(symbols, table_of, offsets, alphabet)
    ]
    data = model.encode(symbols)
    assert data == reference.encode(events)
    assert np.array_equal(model.decode(data, shape), symbols)
    ideal = sum(16 - np.log2(f) for _, f in events)
    assert model.bits(symbols) == pytest.approx(ideal, abs=1e-6)


@pytest.mark.parametrize("alphabet", [5, 256, 1024, 1500])
def test_kernels_agree(alphabet):
    rng = np.random.default_rng(alphabet)
    offsets = [ABOVE, LEFT] if alphabet == 5 else [ABOVE]
    _, _, model = random_model(rng, alphabet, 2, offsets, tables=40)
    shape = (150, 2, 16, 9)
    symbols = rng.integers(0, alphabet, shape)
    before, streams = _core.kernels(), set()
    try:
        for name in _core.available_kernels():
            _core.choose_kernels(name)
            data = model.encode(symbols)
            streams.add(data)
            assert np.array_equal(model.decode(data, shape), symbols)
    finally:
        _core.choose_kernels(before)
    assert len(streams) == 1
    for damaged in (data[:-1], data + b"\0", data[:50] + bytes([data[50] ^ 4]) + data[51:]):
        with pytest.raises(BitstreamError):
            model.decode(damaged, shape)


def test_io_and_errors():
    rng = np.random.default_rng(0)
    _, _, model = random_model(rng, 6, 2, [ABOVE, LEFT])
    symbols = rng.integers(0, 6, (1, 2, 9, 11))
    io, count = EncodeIO(), CountIO()
    for each in (io, count):
        each.states(model, symbols, symbols.shape)
        each.bits(8, [77], (1,))
    back = DecodeIO(io.finish())
    assert np.array_equal(back.states(model, None, symbols.shape), symbols)
    assert back.bits(8, None, (1,)) == 77
    back.finish()
    assert count.total == pytest.approx(model.bits(symbols) + 8)

    with pytest.raises(UnsupportedInputError, match="outside the state tables"):
        model.encode(symbols + 1)
    with pytest.raises(UnsupportedInputError, match="groups"):
        model.encode(symbols[:, :1])
    with pytest.raises(UnsupportedInputError, match="coded before"):
        StateTables(np.ones((7, 6), int), np.zeros((1, 7), int), [(0, 0, 1)])
    with pytest.raises(UnsupportedInputError, match="names no table"):
        StateTables(np.ones((7, 6), int), np.full((1, 7), 7), [ABOVE])
    with pytest.raises(UnsupportedInputError, match="entries a group"):
        StateTables(np.ones((7, 6), int), np.zeros((1, 6), int), [ABOVE])
