"""BaSIC's order engine: how fast the paper's main model is, and whether latents decode the same everywhere.

    python tools/basic_engine.py speed                # random weights, 512 x 768, raster and checkerboard, one thread
    python tools/basic_engine.py matrix               # 24 latents, six orders, decoded in 8 environments

Times are one thread's own (CPU) time. `matrix` codes latents once and decodes them with one and two threads, oneDNN on
and off, and a smaller instruction set; it fails if a single symbol differs. Networks whose output decides a table take
part: the factorised prior's values, hyper-synthesis, context model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from cbench.bench.tables import Column, aligned
from cbench.coding import DecodeIO, EncodeIO
from cbench.errors import BitstreamError, CbenchError
from cbench.models.basic import checkpoint, config
from cbench.models.basic.codec import Analysis, BasicCodec
from cbench.models.basic.config import BasicConfig, CoderConfig
from cbench.models.basic.network import STRIDE, BasicNetwork, Structure
from cbench.models.basic.orders import compile_order, label_schedule
from cbench.models.basic.timing import waves
from cbench.nn.running import running

T = TypeVar("T")

SIZE = (512, 768)
RASTER, CHECKERBOARD = CoderConfig(), CoderConfig(order="checkerboard")
ORDERS = (
    RASTER,
    CHECKERBOARD,
    CoderConfig(order="learned", groups=2, stages=3),
    CoderConfig(order="learned", groups=4, stages=6),
    CoderConfig(order="random"),
    CoderConfig(order="random", groups=4, stages=5),
)
"""Coders of y of the matrix: raster, checkerboard, learned and irregular orders."""
SIZES = ((64, 64), (128, 192), (320, 64), (192, 448))
"""Pictures of the matrix; with each order, 24 latents."""
MATRIX = BasicConfig(widths=(16, 32, 48), latent=48, hyper=48, coders=ORDERS)
ENVIRONMENTS = tuple(product((1, 2), ("on", "off"), ("avx2", "default")))
"""Threads, oneDNN, instruction set of torch."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--size", type=int, nargs=2, metavar=("H", "W"), default=SIZE)
    commands.add_parser("matrix")
    cell = commands.add_parser("cell", help="one environment of the matrix; used by it")
    cell.add_argument("folder", type=Path)
    cell.add_argument("threads", type=int)
    cell.add_argument("onednn", choices=("on", "off"))
    given = parser.parse_args()
    try:
        if given.command == "speed":
            print(aligned(COLUMNS, speed(config.joint(), tuple(given.size))))
            return 0
        if given.command == "cell":
            torch.backends.mkldnn.enabled = given.onednn == "on"
            print(mismatches(given.folder, MATRIX, given.threads))
            return 0
        return matrix()
    except CbenchError as error:
        print(f"basic_engine: {error}", file=sys.stderr)
        return 1


@dataclass(frozen=True)
class Speed:
    """Seconds for one picture."""

    order: str
    structure: Structure
    labels: int
    steps: int
    encode: float
    decode: float
    y_only: float
    """Of `decode`: the autoregressive part."""


COLUMNS = (
    Column("order", lambda v: v.order),
    Column("edges", lambda v: "widest" if not v.structure.y_x else "narrowest"),
    Column("labels", lambda v: v.labels),
    Column("steps", lambda v: v.steps),
    Column("encode s", lambda v: v.encode, "{:.2f}"),
    Column("decode s", lambda v: v.decode, "{:.2f}"),
    Column("autoregressive part", lambda v: v.y_only, "{:.2f}"),
)


def speed(model: BasicConfig, size: tuple[int, int]) -> list[Speed]:
    """Files of one picture with raster and checkerboard, all edges at their widest and at their narrowest."""
    own = _random_codec(replace(model, coders=(RASTER, CHECKERBOARD)))
    x, last = waves(size), len(model.widths) - 1
    own.decompress(own.compress(waves((STRIDE, STRIDE))))
    found = []
    for width, coder in product((0, last), (0, 1)):
        structure = Structure(width, width, width, width, coder)
        at = own.with_structure(structure)
        order = own.network.y_coders[coder].order(*(-(-n // STRIDE) * STRIDE // 16 for n in size))
        at.compress(x)
        encode, data = _seconds(lambda at=at: at.compress(x))
        decode, _ = _seconds(lambda data=data: own.decompress(data))
        with running(1):
            latents = at.analyse(x)
            prior = at.prior(at.z_tables(structure).symbols(latents.z).astype(np.int64) << 16, width)
            io = EncodeIO()
            at.code_y(io, coder, prior, latents.y)
            stream = io.finish()
            y_only, _ = _seconds(lambda at=at, p=prior, s=stream, c=coder: at.code_y(DecodeIO(s), c, p, None))
        labels, steps = label_schedule(order).steps, compile_order(order).steps
        found.append(Speed(own.config.coders[coder].order, structure, labels, steps, encode, decode, y_only))
    return found


def matrix() -> int:
    """Code once, decode everywhere, print a line an environment; 1 if anything differed."""
    with tempfile.TemporaryDirectory() as name:
        folder, wrong = Path(name), 0
        write(folder, MATRIX)
        for threads, onednn, isa in ENVIRONMENTS:
            environment = os.environ | ({"ATEN_CPU_CAPABILITY": isa} if isa != "default" else {})
            environment |= {"MKL_CBWR": "COMPATIBLE"} if isa == "avx2" else {}  # adds in another order
            command = [sys.executable, __file__, "cell", name, str(threads), onednn]
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            if run.returncode:
                print(run.stderr, file=sys.stderr)
                return 1
            wrong += int(run.stdout)
            print(f"threads {threads}, oneDNN {onednn:3s}, {isa:7s}: {int(run.stdout)} mismatches in {len(_cases())}")
    return int(wrong > 0)


def write(folder: Path, model: BasicConfig) -> None:
    """The weights, and for every latent its stream and what the encoder knows of y."""
    own = _random_codec(model)
    checkpoint.save(folder / "weights.safetensors", checkpoint.build(own.network.state_dict(), model), {})
    for number, (structure, size, latents) in enumerate(_latents(model)):
        io = EncodeIO()
        with running(1):
            y_hat = own.code(io, structure, size, latents)
        np.savez(folder / f"{number}.npz", y_hat=y_hat, stream=np.frombuffer(io.finish(), np.uint8))


def mismatches(folder: Path, model: BasicConfig, threads: int) -> int:
    """How many latents decode to other values than the encoder had, or not at all."""
    own = BasicCodec("basic.matrix", checkpoint.load(folder / "weights.safetensors"), threads=threads)
    wrong = 0
    for number, (structure, size, _) in enumerate(_latents(model)):
        with np.load(folder / f"{number}.npz") as kept, running(threads):
            io = DecodeIO(kept["stream"].tobytes())
            try:
                wrong += not np.array_equal(own.code(io, structure, size, None), kept["y_hat"])
            except BitstreamError:
                wrong += 1
    return wrong


def _cases() -> list[tuple[int, tuple[int, int]]]:
    """Coder of y and size of the picture."""
    return list(product(range(len(ORDERS)), SIZES))


def _latents(model: BasicConfig) -> Iterator[tuple[Structure, tuple[int, int], Analysis]]:
    """Random latents of all cases, with the candidates of z -> y in turn."""
    for number, (coder, (height, width)) in enumerate(_cases()):
        chance = np.random.default_rng(number)
        y = chance.normal(0, 5, (model.latent, height // 16, width // 16)).astype(np.float32)
        z = chance.normal(0, 2, (model.hyper, height // STRIDE, width // STRIDE)).astype(np.float32)
        yield Structure(z_y=number % len(model.widths), coder=coder), (height, width), Analysis(y, z)


def _random_codec(model: BasicConfig) -> BasicCodec:
    torch.manual_seed(0)
    network = BasicNetwork(model)
    with torch.no_grad():
        # As large as trained latents are, or there would be nothing to code.
        network.edges["x_y"].layers[-1].weight.mul_(60)
    for coder in network.y_coders:
        if coder.learned is not None:
            coder.learned.settle()
    return BasicCodec("basic.matrix", checkpoint.build(network.state_dict(), model))


def _seconds(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds of this thread, and what the call returned."""
    start = time.thread_time()
    out = call()
    return time.thread_time() - start, out


if __name__ == "__main__":
    sys.exit(main())
