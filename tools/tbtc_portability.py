"""Count table rows that come out differently when TBTC files are decoded by other kernels.

    python tools/tbtc_portability.py [tbtc.conv-xs-2 | weights file | swin-charm-m] [--latents 24] [--quick]

Latents of pictures of Kodak's size, drawn at random (y N(0, 4), z N(0, 3)), are encoded once, with one thread and the
kernels that torch chooses. Then every one of {1, 2 threads} x {oneDNN on, off} x {ATEN_CPU_CAPABILITY default, avx2,
avx512} decodes them in a process of its own: hyper-decoder, ChARM, choice of the rows, coder. A row that differs is
counted and decoding goes on with the true symbols, so that one difference does not make others. A model without
weights, such as swin-charm-m (transform, prior, size), gets random ones. --quick leaves out all but the corners.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cbench.coding import DecodeIO, EncodeIO, Tables
from cbench.coding.container import Header
from cbench.errors import CbenchError, ConfigError
from cbench.models.tbtc import checkpoint
from cbench.models.tbtc.codec import Latents, TbtcCodec
from cbench.models.tbtc.config import extra_small, large, medium, small
from cbench.models.tbtc.network import TbtcNetwork
from cbench.nn.running import running
from cbench.zoo.weights import SHIPPED, shipped

HEAD = Header("tbtc.portability", (3, 512, 768), "uint8", TbtcCodec.format, params=b"\0")
SIZES = {"xs": extra_small, "s": small, "m": medium, "l": large}
WEIGHTS = "weights.safetensors"


class Recorder:
    """An encoder that remembers the rows and symbols of every block."""

    decoding = False

    def __init__(self) -> None:
        self.io = EncodeIO()
        self.blocks: list[np.ndarray] = []

    def code(self, tables: Tables, index: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """See `CodingIO.code`."""
        self.blocks += [np.asarray(index).ravel().copy(), self.io.code(tables, index, symbols).ravel()]
        return symbols

    def bits(self, width: int, values: int) -> np.ndarray:
        """See `CodingIO.bits`."""
        return self.io.bits(width, values)


class Checker:
    """A decoder that counts what differs from the encoder's record, and follows the record."""

    decoding = True

    def __init__(self, stream: bytes, blocks: list[np.ndarray]) -> None:
        self.io = DecodeIO(stream)
        self.blocks = iter(blocks)
        self.wrong_rows = self.wrong_symbols = 0

    def code(self, tables: Tables, index: np.ndarray, symbols: None = None) -> np.ndarray:
        """See `CodingIO.code`."""
        rows, kept = next(self.blocks), next(self.blocks)
        self.wrong_rows += int((np.asarray(index).ravel() != rows).sum())
        if not self.wrong_rows:
            self.wrong_symbols += int((self.io.code(tables, index).ravel() != kept).sum())
        return kept.reshape(np.shape(index))

    def bits(self, width: int, values: None = None) -> np.ndarray:
        """See `CodingIO.bits`."""
        return self.io.bits(width)


def random_weights(name: str) -> checkpoint.Weights:
    """A model by transform, prior and size, with weights that make y's scales vary over many rows."""
    try:
        transform, prior, size = name.split("-")
        config = SIZES[size](transform, prior)
    except (ValueError, KeyError):
        raise ConfigError(
            f"{name!r} is neither a codec, nor a file, nor a model such as swin-charm-m; sizes: {', '.join(SIZES)}"
        ) from None
    torch.manual_seed(0)
    network = TbtcNetwork(config)
    with torch.no_grad():
        for key, value in network.h_s.named_parameters():
            if key.endswith("weight") and value.ndim > 1:
                value.mul_(1.6)
        for kind, offset in (("charm_mean_transforms", 0.0), ("charm_scale_transforms", 0.8)):
            for tower in getattr(network, kind, []):
                tower.layers[4].weight.mul_(3)
                tower.layers[4].bias.add_(offset)
    return checkpoint.build(checkpoint.parameters_of(network), config)


def weights_of(name: str) -> checkpoint.Weights:
    """Of a codec's name, a file, or at random."""
    if name in SHIPPED:
        return checkpoint.load(shipped(name))
    return checkpoint.load(Path(name)) if Path(name).is_file() else random_weights(name)


def encode(folder: Path, weights: checkpoint.Weights, count: int) -> tuple[int, int]:
    """Write weights, streams and records; returns how many rows were chosen, and bytes."""
    checkpoint.save(folder / WEIGHTS, weights, {})
    codec = TbtcCodec(HEAD.codec, checkpoint.load(folder / WEIGHTS))
    h, w = (side // 64 for side in HEAD.shape[1:])
    rows = size = 0
    for number in range(count):
        random = np.random.default_rng(number)
        y = random.normal(0, 4, (codec.config.latent, 4 * h, 4 * w)).astype(np.float32).astype(np.float64)
        z = np.rint(random.normal(0, 3, (codec.config.hyper_latent, h, w))).astype(np.int32)
        io = Recorder()
        with running(1):
            codec.code_latents(io, HEAD, Latents(y, z))
        stream = io.io.finish()
        (folder / f"{number}.stream").write_bytes(stream)
        np.savez(folder / f"{number}.npz", *io.blocks)
        rows, size = rows + y.size, size + len(stream)
    return rows, size


def check(folder: Path, threads: int, onednn: bool) -> dict[str, object]:
    """Decode everything in the folder with the kernels of this process."""
    torch.backends.mkldnn.enabled = onednn
    codec = TbtcCodec(HEAD.codec, checkpoint.load(folder / WEIGHTS), threads=threads)
    wrong_rows = wrong_symbols = 0
    seconds = 0.0
    for file in sorted(folder.glob("*.stream")):
        with np.load(file.with_suffix(".npz")) as record:
            io = Checker(file.read_bytes(), [record[key] for key in record.files])
        start = time.process_time()
        with running(threads):
            codec.code_latents(io, HEAD)
        seconds += time.process_time() - start
        wrong_rows, wrong_symbols = wrong_rows + io.wrong_rows, wrong_symbols + io.wrong_symbols
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"rows": wrong_rows, "symbols": wrong_symbols, "seconds": seconds, "kernels": kernels}


def run_matrix(folder: Path, count: int, quick: bool) -> int:
    """Decode in every environment, one line each; returns the number of differences."""
    settings = list(itertools.product((1, 2), (True, False), ("default", "avx2", "avx512")))
    if quick:
        settings = [settings[0], settings[7], settings[-1]]
    print(f"{'threads':>7} {'oneDNN':>6} {'requested':>9} {'kernels':>8} {'rows':>5} {'symbols':>7} {'s/latent':>9}")
    total = 0
    for threads, onednn, level in settings:
        command = [sys.executable, __file__, "--check", str(folder), "--threads", str(threads)]
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": level, "OMP_NUM_THREADS": str(threads)}
        environment |= {"MKL_CBWR": "COMPATIBLE"} if level == "avx2" else {}  # adds in another order
        run = subprocess.run(
            [*command, *([] if onednn else ["--no-onednn"])],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise CbenchError(
                f"decoding with {threads} threads and {level} failed ({run.returncode}): {run.stderr.strip()[-300:]}"
            )
        found = json.loads(run.stdout)
        total += found["rows"] + found["symbols"]
        print(
            f"{threads:7} {'on' if onednn else 'off':>6} {level:>9} {found['kernels']:>8} {found['rows']:5} "
            f"{found['symbols']:7} {found['seconds'] / count:9.3f}",
            flush=True,
        )
    return total


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tbtc.conv-xs-2")
    parser.add_argument("--latents", type=int, default=24)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--no-onednn", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        if given.check is not None:
            print(json.dumps(check(given.check, given.threads, not given.no_onednn)))
            return 0
        with tempfile.TemporaryDirectory() as name:
            rows, size = encode(Path(name), weights_of(given.model), given.latents)
            print(f"{given.model}: {given.latents} latents of 512 x 768, {rows:,} rows chosen, {size:,} bytes")
            total = run_matrix(Path(name), given.latents, given.quick)
    except CbenchError as error:
        print(f"tbtc_portability: {error}", file=sys.stderr)
        return 1
    print(f"{total} differences")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
