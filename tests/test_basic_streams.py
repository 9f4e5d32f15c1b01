"""BaSIC files made by the first version of the byte format: today's code reads them and writes the same bytes.

What is coded are latents from integer formulas, as x -> y runs in float32. `python tests/test_basic_streams.py` adds
the network and files that are missing from golden/; it never changes one that is there.
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
from cbench.coding.container import Header, pack
from cbench.coding.summed import SummedIO
from cbench.models.basic import checkpoint
from cbench.models.basic.codec import Analysis, BasicCodec
from cbench.models.basic.config import CoderConfig, tiny
from cbench.models.basic.network import BasicNetwork, Structure
from cbench.nn.running import running

GOLDEN = Path(__file__).parent / "golden"
FILE, WEIGHTS = GOLDEN / "basic.json", GOLDEN / "basic.safetensors"
ORDERS = (
    CoderConfig(),
    CoderConfig(order="checkerboard", variant="B"),
    CoderConfig(order="learned", groups=2, stages=3, logits="parameter"),
)
MODEL = replace(tiny(), coders=ORDERS)
SHAPE = (3, 70, 90)
STRUCTURES = {
    "raster": Structure(),
    "checkerboard": Structure(0, 0, 2, 1, 1),
    "learned": Structure(0, 0, 1, 2, 2),
}


def numbers(count: int, seed: int) -> np.ndarray:
    """Sums of a linear congruential sequence: about normal, between -512 and 512."""
    state, found = seed, np.empty(4 * count, np.int64)
    for k in range(4 * count):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        found[k] = (state >> 20) % 257 - 128
    return found.reshape(4, count).sum(0)


def write_weights() -> None:
    torch.manual_seed(1)
    network = BasicNetwork(MODEL)
    with torch.no_grad():
        for coder in network.y_coders:
            coder.model.mix[-1].weight.mul_(6)
            coder.model.mix[-1].bias[1::2].add_(1.5)
    network.y_coders[2].learned.settle()
    weights = checkpoint.build(checkpoint.halved(network.state_dict()), MODEL)
    checkpoint.save(WEIGHTS, weights, {"note": "random, for tests"}, half=True)


@cache
def codec() -> BasicCodec:
    return BasicCodec("basic.golden", checkpoint.load(WEIGHTS))


def make(name: str) -> bytes:
    """A whole file of fixed latents."""
    own = codec().with_structure(STRUCTURES[name])
    head = Header(own.name, SHAPE, "uint8", own.format, own.fingerprint, own.params())
    y = (numbers(8 * 8 * 8, 3).reshape(8, 8, 8) / 32).astype(np.float32)
    z = (numbers(8 * 2 * 2, 5) // 64).astype(np.float32).reshape(8, 2, 2)
    io = SummedIO(EncodeIO())
    with running(1):
        own.code(io, own.structure, SHAPE[1:], Analysis(y, z))
    return pack(replace(head, check=io.check), io.inner.finish())


@pytest.mark.parametrize("name", STRUCTURES)
def test_files_never_change(name):
    kept = bytes.fromhex(json.loads(FILE.read_text(encoding="utf-8"))[name])
    assert make(name) == kept
    # Compares the check of the symbols, and so proves that they are those of the day the file was made.
    assert codec().decompress(kept).shape == SHAPE


if __name__ == "__main__":
    if not WEIGHTS.exists():
        write_weights()
    there = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    there |= {name: make(name).hex() for name in STRUCTURES if name not in there}
    FILE.write_text(json.dumps(there, indent=0) + "\n", encoding="utf-8")
