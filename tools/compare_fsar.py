"""FSAR's priors beside each other, for `compare_coders.py --fsar`: time, tables, and rows that share.

The sizes are those of `V2DVQ-c2` for pictures of 32 x 32 (two groups of 16 x 16 symbols, K = 256), the weights and
symbols random: they do not matter for the time. Every picture has a stream of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from linear_reference import NumpyLinearCodec

from cbench.coding import DecodeIO, EncodeIO
from cbench.data import samples
from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import _Plan, nearest
from cbench.models.fsar.config import (
    FsarConfig,
    coder_ar,
    v2dvq_c2,
    v2dvq_c2_checkerboard,
    v2dvq_c2_maskconv,
    v2dvq_c2_o1s,
    v2dvq_c2_o2s,
)
from cbench.models.fsar.latents import ContextLatent, Latent, latent_of
from cbench.models.fsar.linear_codec import LinearCodec
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.tables import merged, prior_tables
from cbench.zoo.weights import shipped

PICTURES = 20
MODELS: dict[str, Callable[[], FsarConfig]] = {
    "static": v2dvq_c2,
    "FSAR-O1S": v2dvq_c2_o1s,
    "FSAR-O2S": v2dvq_c2_o2s,
    "checkerboard3x3": v2dvq_c2_checkerboard,
    "maskconv3x3": v2dvq_c2_maskconv,
}
BUDGETS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Bits a symbol, for the rows that share."""


@dataclass(frozen=True)
class Prior:
    """One context model; times in milliseconds a picture."""

    name: str
    encode_ms: float
    decode_ms: float
    build_s: float
    """From the network to the coder's tables."""
    megabytes: float
    """The coder's tables in memory."""


def latent_times() -> Iterator[Prior]:
    """Code `PICTURES` pictures' symbols with each context model."""
    for name, config in MODELS.items():
        torch.manual_seed(0)
        network = FsarNetwork(config()).eval().requires_grad_(False)
        counts = np.ones((2, 256), np.uint32)
        begin = time.thread_time()
        tables = prior_tables(network) if network.config.context else None
        latent = latent_of(checkpoint.Weights(network, counts, tables))
        build_s = time.thread_time() - begin
        size = latent.nbytes / 1e6 if isinstance(latent, ContextLatent) else float("nan")
        symbols = np.random.default_rng(0).integers(0, 256, (PICTURES, 2, 16, 16))
        encode_ms, decode_ms = _times(latent, symbols)
        yield Prior(name, encode_ms, decode_ms, build_s, size)


def _times(latent: Latent, symbols: np.ndarray) -> tuple[float, float]:
    """Median thread CPU time of a picture, both ways."""
    encode, decode = [], []
    for own in symbols:
        begin = time.thread_time()
        io = EncodeIO()
        latent.code(io, own, own.shape)
        data = io.finish()
        middle = time.thread_time()
        back = DecodeIO(data)
        found = latent.code(back, None, own.shape)
        back.finish()
        decode.append(time.thread_time() - middle)
        encode.append(middle - begin)
        if not np.array_equal(found, own):
            raise SystemExit("a context model did not return its symbols")
    return 1e3 * float(np.median(encode)), 1e3 * float(np.median(decode))


def pixel_loops() -> Iterator[tuple[str, str, float, float]]:
    """Pictures, "C++" or "numpy", and milliseconds a picture for the pixels of a `Coder-ar` model, both ways.

    Both have the same parameters and write the same bytes. The decoder network, which both share, is not counted.
    """
    torch.manual_seed(0)
    network = FsarNetwork(coder_ar()).eval().requires_grad_(False)
    network.head.weight.copy_(torch.tensor([[-0.5, 0.7, 0.7], [0.9, -0.8, 0.85], [0.9, -0.7, 0.75]])[:, None])
    network.head.bias.fill_(-0.45)
    network.decoder[-1].bias.copy_(torch.tensor([0.0, -3.0] * 3))
    weights = checkpoint.Weights(network, np.ones((1, 256), np.uint32))
    codecs = {"C++": LinearCodec("fsar.random", weights), "numpy": NumpyLinearCodec("fsar.random", weights)}
    small, large = (sample.array for sample in (samples.small_photos(32)[0], samples.photos()[0]))
    for x, repeats in ((small, 40), (large, 4)):
        plan = _Plan(x.shape)
        codecs["C++"]._analyse([(plan, x)])
        codecs["C++"]._predict([plan])
        found: dict[str, list[tuple[float, float, bytes]]] = {name: [] for name in codecs}
        for _ in range(repeats):
            for name, codec in codecs.items():
                found[name].append(_pixel_times(codec, plan, x))
        if len({data for times in found.values() for _, _, data in times}) != 1:
            raise SystemExit("the two loops over pixels write different bytes")
        for name, times in found.items():
            encode_ms, decode_ms = (1e3 * float(np.median([one[way] for one in times])) for way in (0, 1))
            yield f"{x.shape[2]} x {x.shape[1]}", name, encode_ms, decode_ms


def _pixel_times(codec: LinearCodec, plan: _Plan, x: np.ndarray) -> tuple[float, float, bytes]:
    """Thread CPU seconds both ways, and the stream."""
    begin = time.thread_time()
    io = EncodeIO()
    codec._code_pixels(io, plan, x)
    data = io.finish()
    middle = time.thread_time()
    back = DecodeIO(data)
    found = codec._code_pixels(back, plan, None)
    back.finish()
    end = time.thread_time()
    if not np.array_equal(found, x):
        raise SystemExit("a loop over pixels did not return the picture")
    return middle - begin, end - middle, data


def sharing() -> Iterator[tuple[float, int, float, float]]:
    """Rows that share in the prior of `fsar.ar`, on symbols of bundled photographs in tiles.

    Gives the budget in bits a symbol, rows, megabytes of rows and map in a weights file, and real bits a symbol.
    """
    weights = checkpoint.load(shipped("fsar.ar"))
    network = weights.network
    x = torch.from_numpy(np.stack([sample.array for sample in samples.small_photos(32)])).float() / 255
    with torch.inference_mode():
        z = network.encoder(x)
    b, _, h, w = z.shape
    symbols = nearest(network.quantizer, network.quantizer.split(z)).reshape(b, h, w, -1).transpose(0, 3, 1, 2)
    for budget in BUDGETS:
        tables = merged(weights.tables, budget) if budget else weights.tables
        found = replace(weights, tables=tables)
        data = found.tables.state_tables().encode(tables.reduce(symbols))
        size = (tables.weights.nbytes + tables.table_of.nbytes) / 1e6
        yield budget, len(tables.weights), size, 8 * len(data) / symbols.size


def text() -> str:
    """All tables for the console."""
    lines = ["", f"{'prior (random weights)':24} {'encode':>9} {'decode':>9}   tables"]
    for prior in latent_times():
        made = f"{prior.megabytes:.1f} MB, built in {prior.build_s:.2f} s" if prior.megabytes > 0 else ""
        lines.append(f"{prior.name:24} {prior.encode_ms:6.3f} ms {prior.decode_ms:6.3f} ms   {made}")
    lines += ["milliseconds a picture of 2 x 16 x 16 symbols, K = 256, one thread", ""]
    lines.append(f"{'pixels of Coder-ar':24} {'encode':>12} {'decode':>12}")
    loops = list(pixel_loops())
    for (size, name, *ours), (_, rival, *theirs) in zip(loops[::2], loops[1::2], strict=True):
        for label, times in ((name, ours), (rival, theirs)):
            lines.append(f"{size + ', ' + label:24} {times[0]:9.3f} ms {times[1]:9.3f} ms")
        lines.append(f"{'ratio':24} {theirs[0] / ours[0]:12.1f} {theirs[1] / ours[1]:12.1f}")
    lines += ["the same bytes; milliseconds a picture, the networks not counted, one thread", ""]
    lines.append(f"{'budget (bits a symbol)':24} {'rows':>9} {'MB':>9} {'bits a symbol':>15}")
    for budget, rows, size, bits in sharing():
        lines.append(f"{budget:<24} {rows:9,} {size:9.3f} {bits:15.4f}")
    return "\n".join([*lines, "rows of the prior of fsar.ar that may stand for others; tiles of bundled photographs"])
