"""Streams made by the first version of every format: today's code reads them and writes the same bytes.

The inputs come from integer formulas, so that no library decides them. `python tests/test_golden_streams.py` adds
streams that are missing from golden/streams.json; it never changes one that is there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cbench.coding import (
    EncodeIO,
    Mixture,
    StackIO,
    StateTables,
    Tables,
    decode,
    decode_adaptive,
    decode_bits,
    decode_rows,
    encode,
    encode_adaptive,
    encode_bits,
    encode_rows,
)
from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import Header, pack, unpack

FILE = Path(__file__).parent / "golden" / "streams.json"


def numbers(n: int, below: int, seed: int = 1) -> np.ndarray:
    """A fixed linear congruential sequence."""
    x = np.empty(n, np.int64)
    state = seed
    for i in range(n):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        x[i] = state >> 8
    return x % below


def tables(escape: bool = False) -> Tables:
    return Tables.from_weights(1 + numbers(5 * 12, 1000).reshape(5, 12), [-6, -3, 0, 1, 7], escape=escape)


def symbols(n: int, index: np.ndarray) -> np.ndarray:
    return np.array([-6, -3, 0, 1, 7])[index] + numbers(n, 11, 2)


def static(n):
    model = Tables.from_weights(1 + numbers(64, 5000))
    values = numbers(n, 64, 3)
    return encode(values, model), lambda data: decode(data, model), values


def indexed(n):
    index = numbers(n, 5, 4)
    return encode(symbols(n, index), tables(), index), lambda data: decode(data, tables(), index), symbols(n, index)


def escapes(n):
    index, model = numbers(n, 5, 4), tables(escape=True)
    values = symbols(n, index) + np.where(numbers(n, 9, 5) == 0, numbers(n, 1 << 24, 6) * 100 - (1 << 29), 0)
    return encode(values, model, index), lambda data: decode(data, model, index), values


def bits(n):
    p1 = (1 + numbers(n, 65535, 7)).astype(np.uint16)
    values = (numbers(n, 65536, 8) < p1).astype(np.uint8)
    return encode_bits(values, p1), lambda data: decode_bits(data, p1), values


def rows(n):
    weights = (1 + numbers(20 * n, 9000, 9)).reshape(n, 20).astype(np.uint16)
    values = numbers(n, 20, 10)
    return encode_rows(values, weights), lambda data: decode_rows(data, weights), values


def mixture(n):
    mean = numbers(3 * n, 70000, 11).reshape(3, n).astype(np.int32)
    scale = numbers(3 * n, 200, 12).reshape(3, n).astype(np.uint8)
    weight = (1 + numbers(3 * n, 60000, 13)).reshape(3, n).astype(np.uint16)
    model = Mixture(mean, scale, weight, family="gaussian")
    values = numbers(n, 256, 14)
    return model.encode(values), model.decode, values


def states(n):
    shape = (n // 24, 2, 4, 3)
    model = StateTables(
        1 + numbers(60 * 6, 4000, 15).reshape(60, 6), numbers(2 * 49, 60, 16).reshape(2, 49), [(0, -1, 0), (0, 0, -1)]
    )
    values = numbers(n // 24 * 24, 6, 17).reshape(shape)
    return model.encode(values), lambda data: model.decode(data, shape), values


def adaptive(n):
    shape = (3, n // 60, 20)
    values = (numbers(n // 60 * 60, 2001, 18) - 1000).reshape(shape) // np.array([1, 16, 200])[:, None, None]
    return encode_adaptive(values), lambda data: decode_adaptive(data, shape), values


def stack(n):
    index, io = numbers(n, 5, 4), StackIO()
    io.push(tables(), index, symbols(n, index))
    return io.to_bytes(), lambda data: StackIO(data).pop(tables(), index), symbols(n, index)


def container(n):
    io, values = EncodeIO(), numbers(n, 1 << 12, 19)
    io.bits(12, values, (n,))
    head = Header("golden", (1, 1, n), "uint16", 1, b"abcd", b"\x05", check=123456789)
    packed = pack(head, io.finish(), b"second")

    def back(data):
        from cbench.coding import DecodeIO

        read, sections = unpack(data)
        assert (read, sections[1]) == (head, b"second")
        return DecodeIO(sections[0]).bits(12, None, (n,))

    return packed, back, values


def archive(n):
    head = Header("golden", (1, 1, 4), "uint8", 2, b"abcd")
    items = [bytes(numbers(4 + k, 256, k).tolist()) for k in range(n % 7 + 1)]

    def back(data):
        opened = unpack_archive(data)
        return np.array([len(opened.item(k)) for k in range(len(opened))])

    return pack_archive(head, items, checks=list(range(len(items)))), back, np.array([4 + k for k in range(len(items))])


CASES = [static, indexed, escapes, bits, rows, mixture, states, adaptive, stack, container, archive]
SIZES = {case.__name__: (1, 120, 40_000) for case in CASES} | {
    "rows": (1, 120),
    "archive": (3,),
    "adaptive": (60, 9000),
}


def stored(data: bytes) -> str:
    """Short streams as they are, long ones as length and hash."""
    return data.hex() if len(data) <= 200 else f"{len(data)}:{hashlib.sha256(data).hexdigest()[:32]}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_streams_never_change(case):
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    for n in SIZES[case.__name__]:
        data, back, values = case(n)
        kept = golden[f"{case.__name__}-{n}"]
        assert stored(data) == kept, n
        read = back(bytes.fromhex(kept) if ":" not in kept else data)
        assert np.array_equal(read, values), n


if __name__ == "__main__":
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for make in CASES:
        for size in SIZES[make.__name__]:
            known.setdefault(f"{make.__name__}-{size}", stored(make(size)[0]))
    FILE.write_text(json.dumps(known, indent=0) + "\n", encoding="utf-8")
