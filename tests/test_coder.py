"""The C++ coder against the pure-Python reference, byte for byte, and against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbench import _core
from cbench.coding import (
    CountIO,
    DecodeIO,
    EncodeIO,
    StackIO,
    Tables,
    TraceIO,
    decode,
    decode_bits,
    decode_rows,
    encode,
    encode_bits,
    encode_rows,
    reference,
)
from cbench.errors import BitstreamError, UnsupportedInputError


def make_tables(rng: np.random.Generator, count: int, largest: int, precision: int, escape: bool) -> Tables:
    """Random tables, from flat to very skewed, with sizes 1..largest."""
    rows = []
    for _ in range(count):
        size = int(rng.integers(1 + escape, largest + 1 + escape))
        rows.append(np.floor(2.0 ** rng.uniform(0, rng.uniform(0.1, 31), size)).astype(np.int64))
    offset = rng.integers(-1000, 1000, count)
    return Tables.from_weights(rows, offset, precision=precision, escape=escape)


def draw(rng: np.random.Generator, tables: Tables, index: np.ndarray) -> np.ndarray:
    """Symbols that follow their tables; an escape slot becomes some value outside."""
    slots = rng.integers(0, 1 << tables.precision, index.shape)
    symbols = np.empty(index.shape, np.int32)
    for at, t in np.ndenumerate(index):
        size = int(tables.size[t])
        row = tables.cdf[t][: size + 1 + tables.escape]
        k = int(np.searchsorted(row, slots[at], side="right")) - 1
        if k == size:
            sign = rng.choice([-1, 1])
            far = int(2 ** rng.uniform(0, 30.9))
            symbols[at] = tables.offset[t] - far if sign < 0 else tables.offset[t] + size - 1 + far
        else:
            symbols[at] = tables.offset[t] + k
    return symbols


def reference_events(symbols: np.ndarray, index: np.ndarray, tables: Tables) -> list[reference.Event]:
    return reference.symbol_events(
        symbols.tolist(),
        index.tolist(),
        tables.cdf.tolist(),
        tables.size.tolist(),
        tables.offset.tolist(),
        tables.precision,
        tables.escape,
    )


@settings(max_examples=700, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.one_of(st.integers(0, 70), st.integers(71, 3000)),
    count=st.integers(1, 12),
    largest=st.sampled_from([1, 2, 3, 17, 100]),
    precision=st.sampled_from([8, 11, 16]),
    escape=st.booleans(),
)
def test_symbols_equal_reference(seed, n, count, largest, precision, escape):
    rng = np.random.default_rng(seed)
    tables = make_tables(rng, count, largest, precision, escape)
    index = rng.integers(0, count, n)
    symbols = draw(rng, tables, index)
    data = encode(symbols, tables, index)
    assert data == reference.encode(reference_events(symbols, index, tables))
    assert np.array_equal(decode(data, tables, index), symbols)

    static = draw(rng, tables, np.zeros(n, int))
    data = encode(static, tables)
    assert data == reference.encode(reference_events(static, np.zeros(n, int), tables), stored_count=n)
    assert np.array_equal(decode(data, tables), static)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 3000), skew=st.floats(0.02, 3))
def test_bits_rows_and_io_equal_reference(seed, n, skew):
    rng = np.random.default_rng(seed)
    p1 = (rng.beta(skew, skew, n) * 65535).astype(np.uint16)
    bits = (rng.integers(0, 65536, n) < p1).astype(np.uint8)
    events = [reference.bit_event(int(b), int(p)) for b, p in zip(bits, p1, strict=True)]
    data = encode_bits(bits, p1)
    assert data == reference.encode(events)
    assert np.array_equal(decode_bits(data, p1), bits)

    rows = rng.integers(0, 65536, (n % 50, 1 + n % 40)).astype(np.uint16)
    rows[:, 0] |= 1
    symbols = rng.integers(0, rows.shape[1], len(rows))
    row_events = [reference.row_event(int(s), row.tolist()) for s, row in zip(symbols, rows, strict=True)]
    data = encode_rows(symbols, rows)
    assert data == reference.encode(row_events)
    assert np.array_equal(decode_rows(data, rows), symbols)

    tables = make_tables(rng, 3, 20, 16, True)
    index = rng.integers(0, 3, (n % 30, 7))
    values = draw(rng, tables, index)
    raw = rng.integers(0, 1 << 21, 5)
    io = EncodeIO()
    io.code(tables, index, values)
    io.binary(p1, bits)
    io.bits(21, raw, (5,))
    data = io.finish()
    parts = reference_events(values.reshape(-1), index.reshape(-1), tables) + events
    assert data == reference.encode(parts + [e for v in raw for e in reference.raw_events(int(v), 21)])
    back = DecodeIO(data)
    assert np.array_equal(back.code(tables, index), values)
    assert np.array_equal(back.binary(p1), bits)
    assert np.array_equal(back.bits(21, None, (5,)), raw)
    back.finish()


@pytest.mark.parametrize("n", [30_000, 120_000, 300_000])
def test_many_lanes_equal_reference(n):
    """Sizes at which 8, 32 and 64 lanes are chosen; the reference decodes the C++ stream too."""
    rng = np.random.default_rng(n)
    tables = Tables.from_pmf(np.exp(-np.abs(np.arange(256) - 128) / 40.0))
    symbols = draw(rng, tables, np.zeros(n, int)) if n < 100_000 else rng.integers(0, 256, n).astype(np.int32)
    data = encode(symbols, tables)
    assert reference.LANES[data[0] & 3] == {30_000: 8, 120_000: 32, 300_000: 64}[n]
    events = reference_events(symbols, np.zeros(n, int), tables)
    assert data == reference.encode(events, stored_count=n)
    assert np.array_equal(decode(data, tables), symbols)
    decoder = reference.Decoder(data)
    assert decoder.count == n
    back = reference.decode_symbols(decoder, [0] * n, tables.cdf.tolist(), [256], [0])
    decoder.finish()
    assert back == symbols.tolist()


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=300).filter(any),
    precision=st.integers(9, 16),
)
def test_quantise_equals_reference(weights, precision):
    cdf = _core.cumulate(np.array([weights], np.uint32), np.array([len(weights)], np.int32), precision)
    frequencies = np.diff(cdf[0].astype(np.int64))
    assert frequencies.tolist() == reference.quantise(weights, precision)
    assert frequencies.min() >= 1
    assert frequencies.sum() == 1 << precision


def test_sizes_against_the_ideal():
    rng = np.random.default_rng(5)
    p = np.exp(-np.abs(np.arange(256) - 128) / 8.0)
    p /= p.sum()
    tables = Tables.from_pmf(p)
    for n, slack in ((10**6, 0.0005), (512, None)):
        symbols = rng.choice(256, n, p=p)
        ideal = -np.log2(p[symbols]).sum() / 8
        size = len(encode(symbols, tables))
        assert size <= (ideal * (1 + slack) if slack else ideal * 1.005 + 4), (n, size, ideal)


def test_threads_do_not_change_bytes():
    rng = np.random.default_rng(0)
    tables = Tables.from_pmf([0.9, 0.05, 0.05])
    symbols = rng.choice(3, (1 << 22) + 12345, p=[0.9, 0.05, 0.05]).astype(np.uint8)
    index = np.zeros(symbols.shape, np.uint8)
    one, two = (encode(symbols, tables, threads=k) for k in (1, 2))
    assert one == two
    assert np.array_equal(decode(one, tables, threads=2), symbols)
    indexed = encode(symbols, tables, index, threads=2)
    assert np.array_equal(decode(indexed, tables, index), symbols)
    with pytest.raises(BitstreamError):
        decode(indexed[:-5], tables, index)


def damage(rng: np.random.Generator, data: bytes, kind: int) -> bytes:
    if kind == 0:
        at = int(rng.integers(8 * len(data)))
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        return bytes(changed)
    if kind == 1:
        return data[: int(rng.integers(len(data)))]
    return data + rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()


@pytest.mark.parametrize("n", [40, 700, 30_000, 200_000])
def test_damage_is_refused(n):
    """10,000 flips, truncations and extensions over all sizes: nothing decodes to other symbols without an error."""
    rng = np.random.default_rng(n)
    tables = Tables.from_pmf([[0.5, 0.25, 0.125, 0.125], [0.1, 0.6, 0.2, 0.1]])
    index = rng.integers(0, 2, n).astype(np.uint8)
    symbols = draw(rng, tables, index) if n < 10_000 else rng.integers(0, 4, n).astype(np.int32)
    p1 = rng.integers(1, 65536, n).astype(np.uint16)
    bits = (rng.integers(0, 65536, n) < p1).astype(np.uint8)
    cases = [
        (encode(symbols, tables, index), lambda d: decode(d, tables, index)),
        (encode(symbols, tables), lambda d: decode(d, tables)),
        (encode_bits(bits, p1), lambda d: decode_bits(d, p1)),
    ]
    trials = {40: 1500, 700: 1400, 30_000: 300, 200_000: 150}[n]
    for data, decoder in cases:
        for trial in range(trials):
            with pytest.raises(BitstreamError):
                decoder(damage(rng, data, trial % 3))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), n=st.integers(0, 300))
def test_any_bytes_decode_or_raise(data, n):
    tables = Tables.from_pmf([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], escape=True)
    index = np.arange(n) % 2
    try:
        symbols = decode(data, tables, index)
    except BitstreamError:
        return
    assert encode(symbols, tables, index) == data


def test_wrong_arguments_have_clear_errors():
    tables = Tables.from_pmf([0.5, 0.5])
    with pytest.raises(UnsupportedInputError, match="outside its table"):
        encode([0, 2], tables)
    with pytest.raises(UnsupportedInputError, match="outside 0..0"):
        encode([0, 1], tables, [0, 1])
    with pytest.raises(UnsupportedInputError, match="outside 0..0"):
        encode([0, 1], tables, [0, -1])
    with pytest.raises(UnsupportedInputError, match="different lengths"):
        encode([0, 1], tables, [0])
    with pytest.raises(UnsupportedInputError, match="integers"):
        encode([0.5], tables)
    with pytest.raises(UnsupportedInputError, match="0 or 1"):
        encode_bits([2], np.array([5], np.uint16))
    with pytest.raises(UnsupportedInputError, match="frequency zero"):
        Tables(np.array([[0, 0, 65536]]), np.array([2]), np.array([0]))
    with pytest.raises(UnsupportedInputError, match="2\\^precision"):
        Tables(np.array([[0, 5, 65535]]), np.array([2]), np.array([0]))
    with pytest.raises(UnsupportedInputError, match="all zero"):
        Tables.from_pmf([0.0, 0.0])
    with pytest.raises(UnsupportedInputError, match="not negative"):
        Tables.from_pmf([0.5, -0.1])
    with pytest.raises(UnsupportedInputError):
        Tables.from_weights(np.ones(300, int), precision=8)
    with pytest.raises(BitstreamError, match="holds 3 symbols"):
        decode(encode([0, 1, 1], tables), tables, count=4)
    with pytest.raises(BitstreamError):
        decode(b"", tables)
    assert decode(encode([], tables), tables).size == 0
    assert decode(encode([1], tables), tables).tolist() == [1]


def test_memory_layouts_are_never_misread():
    rng = np.random.default_rng(1)
    tables = Tables.from_pmf(np.ones(200))
    symbols = rng.integers(0, 128, (40, 50))
    expected = decode(encode(symbols, tables, np.zeros((40, 50), int)), tables, np.zeros((40, 50), int))
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, ">i4"):
        for index_type in (np.uint8, np.int32, np.int64):
            index = np.zeros((40, 50), index_type)
            data = encode(symbols.astype(dtype), tables, index)
            assert np.array_equal(decode(data, tables, index), expected)
    turned = np.asfortranarray(symbols)
    assert encode(turned, tables) == encode(symbols, tables)
    assert encode(symbols[::-1, ::2], tables) == encode(symbols[::-1, ::2].copy(), tables)
    frozen = symbols.astype(np.int32)
    frozen.flags.writeable = False
    assert np.array_equal(decode(encode(frozen, tables), tables), frozen.reshape(-1))


def test_count_and_trace():
    rng = np.random.default_rng(2)
    tables = make_tables(rng, 4, 50, 16, False)
    index = rng.integers(0, 4, 20_000)
    symbols = draw(rng, tables, index)
    p1 = rng.integers(1, 65536, 1000).astype(np.uint16)
    bits = (rng.integers(0, 65536, 1000) < p1).astype(np.uint8)

    def script(io, x=None, b=None):
        return io.code(tables, index, x), io.binary(p1, b), io.bits(9, None if x is None else [[5]], (1, 1))

    count, write = CountIO(), TraceIO(EncodeIO())
    script(count, symbols, bits)
    script(write, symbols, bits)
    data = write.inner.finish()
    assert abs(8 * len(data) - count.total) < 64
    read = TraceIO(DecodeIO(data))
    script(read)
    read.inner.finish()
    assert write.first_difference(read) is None
    other = TraceIO(CountIO())
    other.code(tables, index[::-1], draw(rng, tables, index[::-1]))
    assert "probabilities differ" in write.first_difference(other)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 25))
def test_stack_gives_back_what_was_pushed(seed, steps):
    rng = np.random.default_rng(seed)
    tables = make_tables(rng, 3, 40, 16, False)
    stack, pushed = StackIO(), []
    start = stack.to_bytes()
    for _ in range(steps):
        kind, n = rng.integers(3), int(rng.integers(0, 40))
        if kind == 0:
            index = rng.integers(0, 3, n)
            symbols = draw(rng, tables, index)
            stack.push(tables, index, symbols)
            pushed.append((stack.pop, (tables, index), symbols))
        elif kind == 1:
            p1 = rng.integers(1, 65536, n).astype(np.uint16)
            bits = rng.integers(0, 2, n).astype(np.uint8)
            stack.push_binary(p1, bits)
            pushed.append((stack.pop_binary, (p1,), bits))
        else:
            values = rng.integers(0, 1 << 19, n)
            stack.push_bits(19, values)
            pushed.append((stack.pop_bits, (19, (n,)), values))
    stored = StackIO(stack.to_bytes())
    assert stored.size_bits == stack.size_bits
    for pop, arguments, values in reversed(pushed):
        assert np.array_equal(pop(*arguments), values)
    assert stack.to_bytes() == start


def test_bits_back_returns_its_bits_and_underrun_is_an_error():
    rng = np.random.default_rng(3)
    posterior = Tables.from_pmf([0.2, 0.3, 0.5])
    index = np.zeros(1000, int)
    empty = StackIO()
    before = empty.to_bytes()
    with pytest.raises(BitstreamError, match="empty"):
        empty.pop(posterior, index)
    assert empty.to_bytes() == before

    filled = StackIO()
    filled.push_bits(32, rng.integers(0, 2**32, 200))
    before = filled.to_bytes()
    latent = filled.pop(posterior, index)
    assert filled.size_bits < StackIO(before).size_bits - 1000
    filled.push(posterior, index, latent)
    assert filled.to_bytes() == before

    seeded = StackIO(clean_bits=True, seed=7)
    again = StackIO(clean_bits=True, seed=7)
    assert np.array_equal(seeded.pop(posterior, index), again.pop(posterior, index))
    assert seeded.clean_bits > 1000
    for bad in (b"", b"12345", bytes(6), bytes(7)):
        with pytest.raises(BitstreamError):
            StackIO(bad)
