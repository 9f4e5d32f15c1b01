"""TBTC files made by the first version of every byte format: today's code reads them and writes the same bytes.

What is coded are latents from integer formulas, as g_a and h_a run in float32. `python tests/test_tbtc_streams.py` adds
networks and files that are missing from golden/; it never changes one that is there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.coding import EncodeIO
from cbench.coding.container import Header, pack, read_header, unpack
from cbench.coding.summed import SummedIO
from cbench.data import samples
from cbench.errors import BitstreamError, ConfigError
from cbench.models.tbtc import TbtcConfig, checkpoint
from cbench.models.tbtc.codec import QUALITIES, Latents, TbtcCodec, step_of
from cbench.models.tbtc.exact import BITS
from cbench.models.tbtc.network import TbtcNetwork
from cbench.nn.running import running

GOLDEN = Path(__file__).parent / "golden"
FILE = GOLDEN / "tbtc.json"
SIZES = {"channels": (4, 8, 8, 8), "hyper": (4, 4), "head": 4, "slice": 4}
CONFIGS = {
    "conv": TbtcConfig(transform="conv", prior="charm", **SIZES),
    "swin": TbtcConfig(transform="swin", prior="charm", depths=(1,) * 4, hyper_depths=(1, 1), window=4, **SIZES),
}
SHAPE = (3, 70, 90)
FORMATS = {"v1": (1, 0), "v2": (2, 0), "v2 finer": (2, 6), "v2 coarser": (2, -9)}
"""Byte format and quality of each file."""


def numbers(count: int, seed: int) -> np.ndarray:
    """Sums of a linear congruential sequence: about normal, between -512 and 512."""
    state, found = seed, np.empty(4 * count, np.int64)
    for k in range(4 * count):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        found[k] = (state >> 20) % 257 - 128
    return found.reshape(4, count).sum(0)


def golden_weights(name: str) -> Path:
    return GOLDEN / f"tbtc-{name}.safetensors"


def write_weights(name: str) -> None:
    torch.manual_seed(1)
    network = TbtcNetwork(CONFIGS[name])
    with torch.no_grad():
        for tower in (*network.charm_mean_transforms, *network.charm_scale_transforms):
            tower.layers[4].weight.mul_(4)
        for tower in network.charm_scale_transforms:
            tower.layers[4].bias.add_(1)
    weights = checkpoint.build(checkpoint.parameters_of(network), CONFIGS[name])
    checkpoint.save(golden_weights(name), weights, {"note": "random, for tests"}, half=True)


@cache
def codec(name: str) -> TbtcCodec:
    return TbtcCodec("tbtc.golden", checkpoint.load(golden_weights(name)))


def make(name: str, kind: str) -> bytes:
    """A whole file of fixed latents."""
    own = codec(name)
    form, quality = FORMATS[kind]
    params = quality.to_bytes(1, "little", signed=True) if form > 1 else b""
    head = Header(own.name, SHAPE, "uint8", form, own.fingerprint, params)
    y = numbers(8 * 8 * 8, 3).reshape(8, 8, 8) / 32.0
    z = (numbers(4 * 2 * 2, 5) // 64).astype(np.int32).reshape(4, 2, 2)
    io = SummedIO(EncodeIO())
    with running(1):
        own.code_latents(io, head, Latents(y, z))
    return pack(replace(head, check=io.check), io.inner.finish())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", FORMATS)
def test_files_never_change(name, kind):
    kept = bytes.fromhex(json.loads(FILE.read_text(encoding="utf-8"))[f"{name} {kind}"])
    assert make(name, kind) == kept
    # Compares the check of the symbols, and so proves that they are those of the day the file was made.
    assert codec(name).decompress(kept).shape == SHAPE


def test_qualities():
    own = codec("conv")
    x = np.ascontiguousarray(samples.photos()[0].array[:, :100, :130])
    files = [own.with_quality(q).compress(x) for q in (-24, -8, 0, 8, 16)]
    assert sorted(files, key=len) == files
    assert files[2] == own.compress(x)
    for data in files:
        assert own.decompress(data).shape == x.shape
    assert [step_of(q) for q in (-24, -8, 0, 16)] == [8 << BITS, 2 << BITS, 1 << BITS, 1 << BITS >> 2]
    with pytest.raises(ConfigError, match="quality"):
        own.with_quality(QUALITIES[-1] + 1)


def test_impossible_parameters_are_refused():
    own = codec("conv")
    head, (stream,) = unpack(make("conv", "v2"))
    for params in (b"", b"\x00\x00", b"\x7f"):
        with pytest.raises(BitstreamError):
            own.decompress(pack(replace(head, params=params), stream))
    assert read_header(make("conv", "v1")).format == 1


if __name__ == "__main__":
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for model in CONFIGS:
        if not golden_weights(model).exists():
            write_weights(model)
        for which in FORMATS:
            known.setdefault(f"{model} {which}", make(model, which).hex())
    FILE.write_text(json.dumps(known, indent=0) + "\n", encoding="utf-8")
