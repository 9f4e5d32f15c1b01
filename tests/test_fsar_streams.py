"""FSAR's files: those of every byte format never change, and those of every kind of model decode anywhere.

The golden ones hold fixed symbols and pictures from integer formulas, as the encoder runs in float32. `python
tests/test_fsar_streams.py` adds files that are missing from golden/fsar.json; it never changes one that is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench import _core
from cbench.coding.container import read_header
from cbench.data import samples
from cbench.models.fsar import checkpoint
from cbench.models.fsar import config as models
from cbench.models.fsar.codec import FsarCodec, open_codec
from cbench.models.fsar.network import FsarNetwork

GOLDEN = Path(__file__).parent / "golden"
FILE = GOLDEN / "fsar.json"
FORMATS = {
    "gaussian v1": ("gaussian", 1),
    "gaussian v2": ("gaussian", 2),
    "gaussian v3": ("gaussian", 3),
    "linear v1": ("linear", 1),
    "mixture v1": ("mixture", 1),
    "mixture-colour v1": ("mixture-colour", 1),
    "causal v1": ("causal", 1),
}
"""What codes the pixels, and the byte format."""


def numbers(n: int, below: int, seed: int) -> np.ndarray:
    """A fixed linear congruential sequence."""
    x, state = np.empty(n, np.int64), seed
    for i in range(n):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        x[i] = state >> 8
    return x % below


def fixed(shape: torch.Size, seed: int, unit: float) -> torch.Tensor:
    """Multiples of `unit`, from -16 to 16 of them."""
    return torch.from_numpy(numbers(shape.numel(), 33, seed) - 16).view(shape).float() * unit


@cache
def golden_codec(pixels: str) -> FsarCodec:
    """The trained tiny network, with numbers from formulas where it has none for these pixels."""
    trained = checkpoint.load(GOLDEN / "fsar-tiny.safetensors")
    network = FsarNetwork(replace(trained.network.config, pixels=pixels, hidden=16)).eval().requires_grad_(False)
    last = "decoder.6." if pixels in ("mixture", "mixture-colour", "causal") else "nothing"
    state = {name: value for name, value in trained.network.state_dict().items() if not name.startswith(last)}
    network.load_state_dict(state, strict=False)
    for seed, (name, value) in enumerate(network.named_parameters()):
        if name not in state:
            value.copy_(fixed(value.shape, seed, 2.0**-7))
    if pixels == "linear":
        lines = [[-0.5, 0.625, 0.75], [0.875, -0.75, 0.875], [0.875, -0.625, 0.75]]
        network.head.weight.add_(torch.tensor(lines)[:, None])
        network.head.bias.copy_(torch.tensor([-0.5, -0.5, -0.25]))
    made = open_codec("fsar.golden", checkpoint.Weights(network, trained.counts))
    symbols = numbers(2 * 15 * 23, 16, 3).reshape(1, 2, 15, 23)
    made._symbols = lambda x: np.repeat(symbols, len(x), 0)
    return made


def picture() -> np.ndarray:
    """(3, 29, 45): a slope with a little noise, whose last lines are cut off by the latents' grid."""
    c, y, x = np.indices((3, 29, 45))
    return (30 * c + 3 * y + 2 * x + numbers(c.size, 7, 5).reshape(c.shape)).astype(np.uint8)


def make(kind: str) -> bytes:
    """A whole file."""
    pixels, version = FORMATS[kind]
    made = golden_codec(pixels)
    newest, made.format = made.format, version
    try:
        return made.compress(picture())
    finally:
        made.format = newest


@pytest.mark.parametrize("kind", FORMATS)
def test_files_never_change(kind):
    kept, chosen = bytes.fromhex(json.loads(FILE.read_text(encoding="utf-8"))[kind]), _core.kernels()
    assert read_header(kept).format == FORMATS[kind][1]
    try:
        for kernels in _core.available_kernels():
            _core.choose_kernels(kernels)
            assert make(kind) == kept
            np.testing.assert_array_equal(golden_codec(FORMATS[kind][0]).decompress(kept), picture())
    finally:
        _core.choose_kernels(chosen)


KINDS = {
    "static": models.tiny(),
    "O1S": replace(models.tiny(), context=models.NEIGHBOURS["l"]),
    "O2S": replace(models.tiny(), context=models.NEIGHBOURS["lt"]),
    "O2S catreduce": replace(models.tiny(), context=models.NEIGHBOURS["lt"], alpha=1.5),
    "O3S": replace(models.tiny(), codes=8, context=models.NEIGHBOURS["ctx3"]),
    "maskconv": replace(models.tiny(), convolution="masked"),
    "checkerboard": replace(models.tiny(), convolution="checkerboard"),
    "vqvae": replace(models.tiny(), quantizer="vqvae"),
    "sqvae": replace(models.tiny(), quantizer="sqvae"),
    "bottleneck": replace(models.tiny(), quantizer="bottleneck"),
    "bits-back": replace(models.tiny(), quantizer="vae"),
    "linear": replace(models.tiny(), pixels="linear"),
    "mixture": replace(models.tiny(), pixels="mixture"),
    "mixture-colour": replace(models.tiny(), pixels="mixture-colour"),
    "causal": models.tiny_ar(),
}
DECODE = """
import sys
from pathlib import Path
import numpy as np
import test_fsar_streams as t
from cbench.zoo import load_codec
folder = Path(sys.argv[1])
x = np.load(folder / "x.npy")
for number, name in enumerate(t.KINDS):
    codec = load_codec("fsar.cifar10", weights=folder / f"{number}.safetensors", threads=2)
    found = np.stack(codec.decompress_many((folder / f"{number}.archive").read_bytes()))
    alone = codec.decompress((folder / f"{number}.single").read_bytes())
    print(name, (found == x).all() and (alone == x[0]).all())
for kind, kept in t.json.loads(t.FILE.read_text()).items():
    print(kind, (t.golden_codec(t.FORMATS[kind][0]).decompress(bytes.fromhex(kept)) == t.picture()).all())
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An archive of five pictures and a single file of the first, with random weights of every kind."""
    folder = tmp_path_factory.mktemp("fsar")
    pictures = [sample.array for sample in samples.small_photos(32)[:5]]
    np.save(folder / "x.npy", np.stack(pictures))
    for number, model in enumerate(KINDS.values()):
        torch.manual_seed(0)
        network = FsarNetwork(model).eval().requires_grad_(False)
        if model.outputs == 6:
            network.decoder[-1].bias.copy_(torch.tensor([0.5, -1.5] * 3))
        checkpoint.save(folder / f"{number}.safetensors", checkpoint.build(network.state_dict(), model), {})
        made = open_codec("fsar.cifar10", checkpoint.load(folder / f"{number}.safetensors"))
        (folder / f"{number}.archive").write_bytes(made.compress_many(pictures))
        (folder / f"{number}.single").write_bytes(made.compress(pictures[0]))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"ATEN_CPU_CAPABILITY": "default", "CBENCH_SIMD": "portable", "MKL_CBWR": "COMPATIBLE"},
        {"ATEN_CPU_CAPABILITY": "avx2", "CBENCH_SIMD": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    ],
    ids=["least", "avx2"],
)
def test_files_decode_elsewhere(files, settings):
    """A process with other kernels of torch, MKL, oneDNN and ours, with two threads; other batches, too."""
    root = Path(__file__).parents[1]
    out = subprocess.run(
        [sys.executable, "-c", DECODE, str(files)],
        env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stdout.split("\n")[:-1] == [f"{name} True" for name in (*KINDS, *FORMATS)], out.stderr


if __name__ == "__main__":
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for which in FORMATS:
        known.setdefault(which, make(which).hex())
    FILE.write_text(json.dumps(known, indent=0) + "\n", encoding="utf-8")
