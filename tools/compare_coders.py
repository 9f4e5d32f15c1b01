"""Our coder beside the ones people use, on the same integers in one process and one thread.

    python tools/compare_coders.py [--json] [--case static|indexed64|indexed512|small|rows|parameters|bits|states]
    python tools/compare_coders.py --fsar    finite-state coding, then FSAR's context models and the sizes of its tables

Times are medians of thread CPU time after a warm-up. "over ideal" compares the bytes with the code length under the
distribution that the data was drawn from. Cycles a symbol are at the clock that /proc/cpuinfo gives. Slow coders get a
part of the data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from rival_coders import (
    Job,
    compressai_lists,
    compressai_tensors,
    constriction_bits,
    constriction_gaussian,
    constriction_rows,
    constriction_static,
    general_purpose,
    position_loop,
    torchac_rows,
)

from cbench import _core
from cbench.coding import (
    Mixture,
    StateTables,
    Tables,
    decode,
    decode_bits,
    decode_rows,
    encode,
    encode_bits,
    encode_rows,
)

REPEATS = 7


@dataclass(frozen=True)
class Row:
    """One coder on one case; speeds in million symbols a second."""

    case: str
    coder: str
    kernels: str
    encode_msym_s: float
    decode_msym_s: float
    bytes: int
    overhead_percent: float


def seconds(function: Callable[[], object]) -> float:
    """Median thread CPU time of a call; short calls are repeated within a measurement."""
    times = []
    begin = time.thread_time()
    function()
    calls = 1 + int(0.002 / max(time.thread_time() - begin, 1e-6))
    for _ in range(REPEATS):
        begin = time.thread_time()
        for _ in range(calls):
            function()
        times.append((time.thread_time() - begin) / calls)
    return statistics.median(times)


def measure(case: str, jobs: list[Job], symbols: np.ndarray, bits: np.ndarray) -> Iterator[Row]:
    """Run every coder, ours with every kernel set; checks that each returns what it was given."""
    for job in jobs:
        n = min(job.limit, len(symbols))
        ideal = bits[:n].sum() / 8
        chosen = _core.kernels()
        for kernels in _core.available_kernels() if job.ours else [""]:
            if kernels:
                _core.choose_kernels(kernels)
            data = job.encode(n)
            if not np.array_equal(np.asarray(job.decode(data, n)).reshape(-1), symbols[:n]):
                raise SystemExit(f"{job.coder} did not return the symbols of case {case}")
            encode_s = seconds(partial(job.encode, n))
            decode_s = seconds(partial(job.decode, data, n))
            size = job.size(data)
            yield Row(case, job.coder, kernels, n / encode_s / 1e6, n / decode_s / 1e6, size, 100 * (size / ideal - 1))
        _core.choose_kernels(chosen)


def _static(name: str, n: int) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    p = np.exp(-np.abs(np.arange(256) - 128) / 8.0)
    p /= p.sum()
    symbols = rng.choice(256, n, p=p).astype(np.int32)
    tables = Tables.from_pmf(p)
    index = np.zeros(len(symbols), np.int32)
    ours = Job("cbench", lambda n: encode(symbols[:n], tables), lambda d, n: decode(d, tables), len, n, True)
    others = [
        compressai_lists(symbols, index, tables, 1_000_000),
        *constriction_static(symbols, p, 1_000_000),
        *general_purpose(symbols, 1_000_000),
    ]
    yield from measure(name, [ours, *others], symbols, -np.log2(p)[symbols])


def case_static() -> Iterator[Row]:
    """8 million symbols of one 256-symbol Laplacian, 5.44 bits each."""
    yield from _static("static", 8_000_000)


def _indexed(name: str, n: int, count: int) -> Iterator[Row]:
    from scipy.special import ndtr

    rng = np.random.default_rng(1)
    scales = np.exp(np.linspace(np.log(0.11), np.log(256), count))
    half = np.maximum(1, np.ceil(6 * scales).astype(int))
    pmf = [np.diff(ndtr(np.arange(-h - 0.5, h + 1) / s)) for h, s in zip(half, scales, strict=True)]
    wanted = np.log(0.11) + np.arange(count) * (np.log(256) - np.log(0.11)) / (count - 1)
    index = np.clip(np.searchsorted(wanted, rng.normal(-0.9, 1.2, n)), 0, count - 1).astype(np.uint16)
    symbols = np.clip(np.rint(rng.normal(size=n) * scales[index]), -half[index], half[index]).astype(np.int32)
    bits = np.empty(n)
    for t, row in enumerate(pmf):
        at = index == t
        bits[at] = -np.log2(row[symbols[at] + half[t]])
    tables = Tables.from_pmf(pmf, offset=-half)
    if count <= 256:
        index = index.astype(np.uint8)
    ours = Job(
        "cbench",
        lambda n: encode(symbols[:n], tables, index[:n]),
        lambda d, n: decode(d, tables, index[:n]),
        len,
        n,
        True,
    )
    others = [
        compressai_lists(symbols, index, tables, 500_000),
        *compressai_tensors(symbols, index, scales, 500_000),
        *constriction_gaussian(symbols, scales[index], 500_000),
    ]
    yield from measure(name, [ours, *others], symbols, bits)


def case_indexed64() -> Iterator[Row]:
    """4 million symbols, each with one of 64 Gaussian tables, 1.2 bits each."""
    yield from _indexed("indexed64", 4_000_000, 64)


def case_indexed512() -> Iterator[Row]:
    """The same with 512 tables."""
    yield from _indexed("indexed512", 4_000_000, 512)


def case_small() -> Iterator[Row]:
    """512 symbols a stream: what the ends of a stream cost."""
    yield from _static("static, 512", 512)
    yield from _indexed("indexed64, 512", 512, 64)


def _mixtures(n: int, components: int) -> tuple[np.ndarray, ...]:
    from scipy.special import expit

    rng = np.random.default_rng(2)
    mean, log_scale = rng.uniform(20, 235, (components, n)), rng.uniform(0.5, 2.5, (components, n))
    logits = rng.normal(size=(components, n))
    share = np.exp(logits) / np.exp(logits).sum(0)
    pick = (rng.random(n) > np.cumsum(share, 0)[:-1]).sum(0), np.arange(n)
    symbols = np.clip(np.rint(rng.logistic(mean[pick], np.exp(log_scale[pick]))), 0, 255).astype(np.int32)

    def below(edge: np.ndarray) -> np.ndarray:
        return (share * expit((edge - mean) / np.exp(log_scale))).sum(0)

    high = np.where(symbols == 255, 1, below(symbols + 0.5))
    low = np.where(symbols == 0, 0, below(symbols - 0.5))
    return symbols, -np.log2(high - low), mean, log_scale, logits


def case_rows() -> Iterator[Row]:
    """A row of 256 weights for every symbol: 250,000 discretised logistics."""
    from scipy.special import expit

    symbols, bits, mean, log_scale, _ = _mixtures(250_000, 1)
    edges = expit((np.arange(-0.5, 256)[None] - mean[0][:, None]) / np.exp(log_scale[0])[:, None])
    edges[:, 0], edges[:, -1] = 0, 1
    rows = np.rint(np.diff(edges, axis=1) * 65535).astype(np.uint16)
    ours = Job(
        "cbench",
        lambda n: encode_rows(symbols[:n], rows[:n]),
        lambda d, n: decode_rows(d, rows[:n]),
        len,
        250_000,
        True,
    )
    others = [*constriction_rows(symbols, rows, 100_000), *torchac_rows(symbols, rows, 100_000)]
    yield from measure("rows", [ours, *others], symbols, bits)


def case_parameters() -> Iterator[Row]:
    """1 million symbols, each with its own mixture of three logistics, from the parameters to bytes."""
    symbols, bits, mean, log_scale, logits = _mixtures(1_000_000, 3)
    mixture = Mixture.from_floats(mean, log_scale, logits)
    ours = Job("cbench", lambda n: mixture.encode(symbols), lambda d, n: mixture.decode(d), len, 1_000_000, True)
    yield from measure("parameters", [ours], symbols, bits)


def case_bits() -> Iterator[Row]:
    """8 million bits, each with its own probability, 0.5 bits each."""
    rng = np.random.default_rng(3)
    p1 = np.clip(rng.beta(0.4, 0.4, 8_000_000) * 65536, 1, 65535).astype(np.uint16)
    bits = (rng.integers(0, 65536, len(p1)) < p1).astype(np.uint8)
    cost = -np.log2(np.where(bits, p1, 65536 - p1.astype(np.int64)) / 65536)
    ours = Job(
        "cbench", lambda n: encode_bits(bits[:n], p1[:n]), lambda d, n: decode_bits(d, p1[:n]), len, len(bits), True
    )
    yield from measure("bits", [ours, *constriction_bits(bits, p1, 1_000_000)], bits, cost)


def case_states() -> Iterator[Row]:
    """Finite-state coding of 1,000 pictures of 2 x 16 x 16 symbols: order 1 with 256 symbols, order 2 with 64.

    CompressAI's coder cannot look up contexts while it decodes; it is given those of all symbols.
    """
    for alphabet, offsets in ((256, [(0, -1, 0)]), (64, [(0, -1, 0), (0, 0, -1)])):
        yield from _states(alphabet, offsets)


def _states(alphabet: int, offsets: list[tuple[int, int, int]]) -> Iterator[Row]:
    rng = np.random.default_rng(4)
    shape, contexts = (1000, 2, 16, 16), (alphabet + 1) ** len(offsets)
    p = np.exp(rng.normal(0, 2.2, (2 * contexts, alphabet)))
    p /= p.sum(1, keepdims=True)
    tables = StateTables(np.rint(p * (1 << 24)).astype(np.int64), np.arange(2 * contexts).reshape(2, -1), offsets)
    cumulative = np.cumsum(p, 1)
    symbols, bits, rows = np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape, np.int32)
    for y, x, c in np.ndindex(shape[2], shape[3], shape[1]):
        row = np.full(shape[0], c)
        for dc, dy, dx in offsets:
            at = (c + dc, y + dy, x + dx)
            row = row * (alphabet + 1) + (symbols[:, at[0], at[1], at[2]] + 1 if min(at) >= 0 else 0)
        drawn = np.minimum((cumulative[row] < rng.random(shape[0])[:, None]).sum(1), alphabet - 1)
        symbols[:, c, y, x], bits[:, c, y, x], rows[:, c, y, x] = drawn, -np.log2(p[row, drawn]), row
    flat = symbols.reshape(-1)
    single = Tables.from_weights(np.rint(p * (1 << 24)).astype(np.uint32) + 1)
    ours = Job("cbench", lambda n: tables.encode(symbols), lambda d, n: tables.decode(d, shape), len, len(flat), True)
    others = [
        position_loop(symbols, rows, single, alphabet, offsets),
        compressai_lists(flat, rows.reshape(-1), single, 100_000, "compressai, contexts given"),
    ]
    yield from measure(f"states O{len(offsets)} K={alphabet}", [ours, *others], flat, bits.reshape(-1))


CASES = {name.removeprefix("case_"): case for name, case in globals().items() if name.startswith("case_")}


@cache
def gigahertz() -> float:
    """The processor's clock, or nan where the system does not say."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((float(line.split(":")[1]) / 1000 for line in lines if line.startswith("cpu MHz")), default=float("nan"))


def text(rows: list[Row]) -> str:
    """A table for the console; ratios are to our fastest kernels in the same case."""
    lines = [
        f"{'case':16} {'coder':30} {'kernels':9} {'encode':>8} {'decode':>8}  {'cycles':>13} {'ratio':>13} "
        f"{'bytes':>10} over ideal"
    ]
    for row in rows:
        best = [r for r in rows if r.case == row.case and r.coder == "cbench"][-1]
        ratio = f"{best.encode_msym_s / row.encode_msym_s:.1f} / {best.decode_msym_s / row.decode_msym_s:.1f}"
        speeds = f"{row.encode_msym_s:8.1f} {row.decode_msym_s:8.1f}"
        over = f"{row.overhead_percent:.4f} %"
        if row.bytes < 10_000:
            over = f"{row.bytes - row.bytes / (1 + row.overhead_percent / 100):.1f} bytes"
        cycles = f"{1e3 * gigahertz() / row.encode_msym_s:.1f} / {1e3 * gigahertz() / row.decode_msym_s:.1f}"
        lines.append(
            f"{row.case:16} {row.coder:30} {row.kernels:9} {speeds}  {cycles:>13} {ratio:>13} {row.bytes:10,} {over}"
        )
    return "\n".join(
        [
            *lines,
            "encode, decode: million symbols a second, one thread; ratio: our fastest to this one; "
            f"cycles a symbol at {gigahertz():.2f} GHz",
        ]
    )


def main() -> int:
    """Run the chosen cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="a list of rows instead of a table")
    parser.add_argument("--case", choices=CASES, action="append", help="only this case (repeatable)")
    parser.add_argument("--fsar", action="store_true", help="the case states, and what FSAR's priors cost")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in ["states"] if options.fsar else options.case or CASES:
        if sys.stderr.isatty():
            print(f"{name} ...", file=sys.stderr)
        rows += CASES[name]()
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else text(rows))
    if options.fsar and not options.json:
        import compare_fsar

        print(compare_fsar.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
