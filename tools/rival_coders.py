"""Other people's entropy coders behind one interface, for `compare_coders.py`."""

from __future__ import annotations

import importlib.util
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cbench.coding import DecodeIO, EncodeIO, Tables


@dataclass(frozen=True)
class Job:
    """How one coder does one case, on the first n symbols."""

    coder: str
    encode: Callable[[int], object]
    decode: Callable[[object, int], object]
    size: Callable[[object], int]
    limit: int
    ours: bool = False


def compressai_lists(
    symbols: np.ndarray, index: np.ndarray, tables: Tables, limit: int, name: str = "compressai"
) -> Job:
    """CompressAI's coder as its entropy models call it: lists of symbols, indices and tables."""
    from cbench.nn.torchvision_guard import guard

    guard()
    from compressai.ans import RansDecoder, RansEncoder

    # Their last symbol is the escape: give it one part of the last symbol's.
    cdf = [
        [*row[:size].tolist(), int(row[size]) - 1, int(row[size])]
        for row, size in zip(tables.cdf, tables.size, strict=True)
    ]
    lengths = [len(row) for row in cdf]
    offsets = tables.offset.tolist()

    def run(n: int) -> bytes:
        return RansEncoder().encode_with_indexes(symbols[:n].tolist(), index[:n].tolist(), cdf, lengths, offsets)

    def back(data: bytes, n: int) -> list[int]:
        return RansDecoder().decode_with_indexes(data, index[:n].tolist(), cdf, lengths, offsets)

    return Job(name, run, back, len, limit)


def compressai_tensors(symbols: np.ndarray, index: np.ndarray, scales: np.ndarray, limit: int) -> list[Job]:
    """CompressAI's GaussianConditional from tensors to bytes and back, with its coder and with ours under it."""
    import torch

    from cbench.plugins import compressai as plugin

    from compressai.entropy_models import GaussianConditional  # isort: skip - after the plugin's guard

    model = GaussianConditional(scales.tolist())
    model.update()
    y = torch.from_numpy(symbols.astype(np.float32))
    rows = torch.from_numpy(index.astype(np.int32))

    def jobs(name: str, before: Callable[[], None]) -> Job:
        def run(n: int) -> list[bytes]:
            before()
            return model.compress(y[None, :n], rows[None, :n])

        def back(data: list[bytes], n: int) -> np.ndarray:
            before()
            return model.decompress(data, rows[None, :n]).numpy().astype(np.int32)

        return Job(name, run, back, lambda data: len(data[0]), limit)

    return [
        jobs("compressai tensors", plugin.uninstall),
        jobs("compressai tensors, our coder", plugin.install),
    ]


def constriction_static(symbols: np.ndarray, p: np.ndarray, limit: int) -> list[Job]:
    """Its two coders with one categorical model."""
    import constriction

    stream = constriction.stream
    model = stream.model.Categorical(p.astype(np.float32), perfect=False)
    data = symbols.astype(np.int32)

    def ans(n: int) -> np.ndarray:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(data[:n], model)
        return coder.get_compressed()

    def range_coder(n: int) -> np.ndarray:
        coder = stream.queue.RangeEncoder()
        coder.encode(data[:n], model)
        return coder.get_compressed()

    return [
        Job("constriction ANS", ans, lambda d, n: stream.stack.AnsCoder(d).decode(model, n), _words, limit),
        Job(
            "constriction range", range_coder, lambda d, n: stream.queue.RangeDecoder(d).decode(model, n), _words, limit
        ),
    ]


def constriction_gaussian(symbols: np.ndarray, sigma: np.ndarray, limit: int) -> list[Job]:
    """Its Gaussian with a mean and a scale for every symbol."""
    import constriction

    stream = constriction.stream
    model = stream.model.QuantizedGaussian(-4096, 4096)
    data, scale, zero = symbols.astype(np.int32), sigma.astype(np.float64), np.zeros(len(symbols))

    def run(n: int) -> np.ndarray:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(data[:n], model, zero[:n], scale[:n])
        return coder.get_compressed()

    def back(words: np.ndarray, n: int) -> np.ndarray:
        return stream.stack.AnsCoder(words).decode(model, zero[:n], scale[:n])

    return [Job("constriction Gaussian", run, back, _words, limit)]


def constriction_rows(symbols: np.ndarray, rows: np.ndarray, limit: int) -> list[Job]:
    """Its categorical model with a row of probabilities for every symbol."""
    import constriction

    stream = constriction.stream
    model = stream.model.Categorical(perfect=False)
    data, p = symbols.astype(np.int32), (rows / rows.sum(1, keepdims=True)).astype(np.float32)

    def run(n: int) -> np.ndarray:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(data[:n], model, p[:n])
        return coder.get_compressed()

    def back(words: np.ndarray, n: int) -> np.ndarray:
        return stream.stack.AnsCoder(words).decode(model, p[:n])

    return [Job("constriction rows", run, back, _words, limit)]


def constriction_bits(bits: np.ndarray, p1: np.ndarray, limit: int) -> list[Job]:
    """Its Bernoulli model with a probability for every bit."""
    import constriction

    stream = constriction.stream
    model = stream.model.Bernoulli(perfect=False)
    data, p = bits.astype(np.int32), (p1 / 65536).astype(np.float32)

    def run(n: int) -> np.ndarray:
        coder = stream.queue.RangeEncoder()
        coder.encode(data[:n], model, p[:n])
        return coder.get_compressed()

    def back(words: np.ndarray, n: int) -> np.ndarray:
        return stream.queue.RangeDecoder(words).decode(model, p[:n])

    return [Job("constriction Bernoulli", run, back, _words, limit)]


def general_purpose(symbols: np.ndarray, limit: int) -> list[Job]:
    """Order-0 Huffman coders on bytes: zlib without matches, and zstd, which finds none in independent symbols."""
    import imagecodecs

    data = symbols.astype(np.uint8)

    def huffman(n: int) -> bytes:
        coder = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        return coder.compress(data[:n]) + coder.flush()

    return [
        Job("zlib, Huffman only", huffman, lambda d, n: np.frombuffer(zlib.decompress(d, -15), np.uint8), len, limit),
        Job(
            "zstd, level 1",
            lambda n: imagecodecs.zstd_encode(data[:n], level=1),
            lambda d, n: np.frombuffer(imagecodecs.zstd_decode(d), np.uint8),
            len,
            limit,
        ),
    ]


def torchac_rows(symbols: np.ndarray, rows: np.ndarray, limit: int) -> list[Job]:
    """Torchac, an arithmetic coder with a row of cumulative frequencies for every symbol; none if not installed."""
    if importlib.util.find_spec("torchac") is None:
        return []
    import torch

    kept = os.dup(1)
    os.dup2(2, 1)  # its first import compiles, and says so on stdout
    try:
        import torchac
    finally:
        os.dup2(kept, 1)
        os.close(kept)

    p = np.maximum(rows, 1).astype(np.float64)
    cdf = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p / p.sum(1, keepdims=True), 1)], axis=1)
    steps = np.arange(cdf.shape[1])
    whole = np.rint(cdf * (65536 - cdf.shape[1])).astype(np.int64) + steps
    whole[:, -1] = 0  # stands for 65536
    normalised = torch.from_numpy(whole.astype(np.uint16).view(np.int16))
    data = torch.from_numpy(symbols.astype(np.int16))
    return [
        Job(
            "torchac",
            lambda n: torchac.encode_int16_normalized_cdf(normalised[:n], data[:n]),
            lambda d, n: torchac.decode_int16_normalized_cdf(normalised[:n], d).numpy(),
            len,
            limit,
        )
    ]


def position_loop(
    symbols: np.ndarray, rows: np.ndarray, tables: Tables, alphabet: int, offsets: list[tuple[int, int, int]]
) -> Job:
    """Our own coder in a Python loop over positions, all pictures at once: what finite-state coding does without C++.

    Symbols and rows of tables are (B, C, H, W).
    """
    b, c, h, w = symbols.shape
    contexts = (alphabet + 1) ** len(offsets)
    positions = [(z, y, x) for y in range(h) for x in range(w) for z in range(c)]

    def run(_: int) -> bytes:
        io = EncodeIO()
        for z, y, x in positions:
            io.code(tables, rows[:, z, y, x], symbols[:, z, y, x])
        return io.finish()

    def back(data: bytes, _: int) -> np.ndarray:
        io, out = DecodeIO(data), np.zeros(symbols.shape, np.int32)
        for z, y, x in positions:
            row = np.zeros(b, np.int32)
            for dz, dy, dx in offsets:
                at = (z + dz, y + dy, x + dx)
                row = row * (alphabet + 1) + (out[:, at[0], at[1], at[2]] + 1 if min(at) >= 0 else 0)
            out[:, z, y, x] = io.code(tables, row + z * contexts)
        io.finish()
        return out.reshape(-1)

    return Job("cbench, Python loop", run, back, len, symbols.size)


def _words(data: np.ndarray) -> int:
    return 4 * len(data)
