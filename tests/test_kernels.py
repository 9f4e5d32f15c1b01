"""Every kernel set gives the same bytes, reads those of every other, and hands the process back as it was.

`python tests/test_kernels.py 10000` runs that many random cases (CI runs 400).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from cbench import _core
from cbench.coding import Tables, decode, decode_bits, decode_rows, encode, encode_bits, encode_rows
from cbench.errors import BitstreamError, UnsupportedInputError

KERNELS = _core.available_kernels()
LENGTHS = [0, 1, 7, 8, 63, 64, 65, 511, 512, 4095, 4096, 4097, 12345, 70000]


@contextmanager
def kernels(name: str) -> Iterator[None]:
    before = _core.kernels()
    _core.choose_kernels(name)
    try:
        yield
    finally:
        _core.choose_kernels(before)


def check(encoder: Callable[[], bytes], decoder: Callable[[bytes], np.ndarray], expected: np.ndarray) -> bytes:
    """Encode and decode with every set; all bytes and arrays must agree."""
    data = None
    for name in KERNELS:
        with kernels(name):
            coded = encoder()
            assert data is None or coded == data, f"{name} gives other bytes than {KERNELS[0]}"
            data = coded
    for name in KERNELS:
        with kernels(name):
            np.testing.assert_array_equal(decoder(data), expected, err_msg=name)
    return data


def random_table(rng: np.random.Generator, alphabet: int) -> np.ndarray:
    """Integer weights of one of the shapes that have different paths in the kernels."""
    shape = rng.integers(6)
    if shape == 0:
        return np.ones(alphabet, np.uint32)
    if shape == 1:  # one symbol of nearly all the weight: frequencies 1 and 65535
        weights = np.ones(alphabet, np.uint32)
        weights[rng.integers(alphabet)] = 1 << 31
        return weights
    if shape == 2:
        return rng.integers(1, 1 << 20, alphabet, dtype=np.uint32)
    if shape == 3:  # peaked, with many symbols of frequency 1
        distance = np.abs(np.arange(alphabet) - rng.integers(alphabet))
        return (np.exp(-distance / rng.uniform(0.3, 30)) * (1 << 24)).astype(np.uint32) + 1
    if shape == 4:
        return np.exp2(rng.uniform(0, 31, alphabet)).astype(np.uint32)
    return rng.integers(0, 2, alphabet, dtype=np.uint32) * 1000 + 1


def random_values(rng: np.random.Generator, tables: Tables, index: np.ndarray, outside: float) -> np.ndarray:
    """Symbols drawn from the tables; the fraction `outside` lies beyond them (escape tables only)."""
    slots = rng.integers(0, 1 << tables.precision, index.shape)
    k = np.zeros(index.shape, np.int64)
    for t in np.unique(index):
        used = index == t
        k[used] = np.searchsorted(tables.cdf[t, : tables.size[t] + 1 + tables.escape], slots[used], side="right") - 1
    values = k + tables.offset[index]
    if tables.escape:
        inside = np.minimum(k, tables.size[index] - 1)
        far = rng.integers(-(1 << rng.integers(1, 31)), 1 << rng.integers(1, 31), index.shape)
        values = np.where(rng.random(index.shape) < outside, far, inside + tables.offset[index])
    return values.astype(np.int32)


def symbols_case(rng: np.random.Generator, n: int) -> None:
    """One random set of tables, static or indexed, with or without escapes, any integer dtype."""
    count = int(rng.choice([1, 2, 5, 64, 65, 300]))
    top = int(rng.choice([1, 2, 3, 16, 255, 256, 257, 1000] if count < 300 else [1, 3, 40]))
    escape = bool(rng.integers(2))
    wide = rng.random() < 0.2  # offsets beyond the kernels' short form
    offset = rng.integers(-(1 << 30), 1 << 30, count) if wide else rng.integers(-300, 300, count)
    rows = [random_table(rng, int(rng.integers(1, top + 1)) + escape) for _ in range(count)]
    longest = max(map(len, rows))
    precision = int(rng.choice([16, 16, 14, max(1, (longest - 1).bit_length())]))
    tables = Tables.from_weights(rows, offset, precision=precision, escape=escape)
    index = rng.integers(0, count, n) if rng.integers(2) else None
    used = np.zeros(n, np.int64) if index is None else index
    values = random_values(rng, tables, used, outside=float(rng.choice([0, 0.001, 0.3])))
    given: np.ndarray = values
    for dtype in (np.uint8, np.int8, np.int16, np.uint16):
        if n and values.min() >= np.iinfo(dtype).min and values.max() <= np.iinfo(dtype).max:
            given = values.astype(dtype)
            break
    if index is not None:
        index = index.astype(np.uint8 if count <= 256 and rng.integers(2) else np.int32)
    check(lambda: encode(given, tables, index), lambda data: decode(data, tables, index), values)


def bits_case(rng: np.random.Generator, n: int) -> None:
    """Random probabilities, among them the extremes."""
    p1 = rng.integers(0, 65536, n).astype(np.uint16)
    p1[rng.random(n) < rng.uniform(0, 0.5)] = rng.choice([0, 1, 2, 32768, 65534, 65535])
    bits = (rng.integers(0, 65536, n) < p1).astype(np.uint8)
    check(lambda: encode_bits(bits, p1), lambda data: decode_bits(data, p1), bits)


def rows_case(rng: np.random.Generator, n: int) -> None:
    """Random rows, some with zero weights and some with a single heavy one."""
    n = min(n, 3000)
    alphabet = int(rng.choice([1, 2, 3, 31, 32, 33, 255, 256, 300]))
    rows = rng.integers(0, 65536, (n, alphabet)).astype(np.uint16)
    rows[rng.random((n, alphabet)) < rng.uniform(0, 0.9)] = 0
    rows[:, rng.integers(alphabet)] |= 1
    symbols = rng.integers(0, alphabet, n).astype(np.int32)
    check(lambda: encode_rows(symbols, rows), lambda data: decode_rows(data, rows), symbols)


CASES = (symbols_case, symbols_case, symbols_case, bits_case, rows_case)


def run_cases(seed: int, count: int) -> None:
    for case in range(count):
        rng = np.random.default_rng([seed, case])
        n = int(rng.choice(LENGTHS)) if rng.random() < 0.7 else int(rng.integers(0, 20000))
        try:
            CASES[case % len(CASES)](rng, n)
        except AssertionError as error:
            raise AssertionError(f"case {seed}, {case}: {error}") from error


@pytest.mark.parametrize("seed", range(4))
def test_random_cases(seed: int) -> None:
    run_cases(seed, 100)


@pytest.mark.parametrize("n", LENGTHS)
def test_lengths_static_and_indexed(n: int) -> None:
    rng = np.random.default_rng(n)
    tables = Tables.from_weights([random_table(rng, 200) for _ in range(40)], -100)
    index = rng.integers(0, 40, n).astype(np.int32)
    for used, chosen in ((np.zeros(n, np.int32), None), (index, index)):
        values = random_values(rng, tables, used, 0)
        check(lambda v=values, i=chosen: encode(v, tables, i), lambda data, i=chosen: decode(data, tables, i), values)


@pytest.mark.parametrize("heavy", [0, 1, 2])
def test_frequencies_1_and_65535(heavy: int) -> None:
    rng = np.random.default_rng(heavy)
    weights = np.zeros(2 + (heavy > 1), np.uint32) + 1
    weights[heavy] = 1 << 31
    tables = Tables.from_weights(weights)
    assert set(np.diff(tables.cdf[0])[: len(weights)]) <= {1, 65534, 65535}
    values = np.where(rng.random(200_000) < 0.5, heavy, rng.integers(0, len(weights), 200_000)).astype(np.int32)
    check(lambda: encode(values, tables), lambda data: decode(data, tables), values)


@pytest.mark.parametrize("escape", [False, True])
def test_tables_of_one_symbol_among_others(escape: bool) -> None:
    """A symbol that fills its table (frequency 2^16) costs nothing and must leave the state alone."""
    rng = np.random.default_rng(5)
    rows = [np.ones(1 + escape, np.uint32), np.ones(256, np.uint32), np.array([5] + [1] * escape, np.uint32)]
    tables = Tables.from_weights(rows, [7, 0, -3], escape=escape)
    index = rng.integers(0, 3, 50_000).astype(np.int32)
    values = random_values(rng, tables, index, outside=0.01)
    check(lambda: encode(values, tables, index), lambda data: decode(data, tables, index), values)
    lone = np.full(50_000, 7, np.int32)
    if not escape:
        check(lambda: encode(lone, tables), lambda data: decode(data, tables), lone)


@pytest.mark.parametrize("escape", [False, True])
def test_several_segments(escape: bool) -> None:
    """A static table's segments are decoded two at a time, the rest of the longer one alone."""
    rng = np.random.default_rng(6)
    weights = np.exp(-np.abs(np.arange(200) - 90) / 8)
    tables = Tables.from_pmf([np.append(weights, 1e-4) if escape else weights], [-90], escape=escape)
    values = rng.choice(200, (1 << 22) + 70_001, p=weights / weights.sum()).astype(np.int32) - 90
    if escape:
        values[rng.integers(0, len(values), 100)] = rng.integers(-(10**6), 10**6, 100)
    data = check(lambda: encode(values, tables), lambda d: decode(d, tables), values)
    assert encode(values, tables, threads=2) == data
    assert (decode(data, tables, threads=2) == values).all()
    for at in (len(data) // 2, len(data) - 3):
        broken = bytearray(data)
        broken[at] ^= 16
        with pytest.raises(BitstreamError):
            decode(bytes(broken), tables)


@pytest.mark.parametrize("name", KERNELS)
def test_arguments_are_checked_by_every_set(name: str) -> None:
    tables = Tables.from_weights([np.ones(10, np.uint32)] * 3)
    values, index = np.zeros(10_000, np.int32), np.zeros(10_000, np.int32)
    with kernels(name):
        for at in (0, 15, 4095, 4096, 9999):
            for bad in (-1, 10, 1 << 30, -(1 << 31)):
                wrong = values.copy()
                wrong[at] = bad
                with pytest.raises(UnsupportedInputError, match=str(bad)):
                    encode(wrong, tables)
                with pytest.raises(UnsupportedInputError, match=str(bad)):
                    encode(wrong, tables, index)
            for bad in (-1, 3, 1 << 30, -(1 << 31)):
                wrong = index.copy()
                wrong[at] = bad
                with pytest.raises(UnsupportedInputError, match="index"):
                    encode(values, tables, wrong)
                with pytest.raises(UnsupportedInputError, match="index"):
                    decode(encode(values, tables, index), tables, wrong)
        with pytest.raises(UnsupportedInputError, match="0 or 1"):
            encode_bits(np.full(100, 2, np.uint8), np.full(100, 32768, np.uint16))


@pytest.mark.parametrize("name", KERNELS)
def test_damage_is_refused_by_every_set(name: str) -> None:
    rng = np.random.default_rng(8)
    tables = Tables.from_weights([random_table(rng, 64) for _ in range(8)])
    index = rng.integers(0, 8, 60_000).astype(np.int32)
    values = random_values(rng, tables, index, 0)
    data = encode(values, tables, index)
    with kernels(name):
        for _ in range(60):
            broken = bytearray(data)
            broken[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            with pytest.raises(BitstreamError):
                decode(bytes(broken), tables, index)
            with pytest.raises(BitstreamError):
                decode(data[: rng.integers(len(data))], tables, index)


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for block in range(0, total, 100):
        run_cases(1000 + block // 100, min(100, total - block))
        sys.stdout.write(f"\r{min(block + 100, total)} cases agree on {', '.join(KERNELS)}")
        sys.stdout.flush()
    sys.stdout.write("\n")
