"""What a training of BaSIC has reached: beside its start, and beside a model of a single width.

    python tools/basic_training.py start [CODEC]          # R + lambda D on validation pictures: linear start, trained
    python tools/basic_training.py fixed WEIGHTS [CODEC]  # the narrowest level of Kodak beside that width trained alone

WEIGHTS are those of configs/basic.py:photos_narrow, trained with the same budget. CODEC is basic.photos-3 unless given.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cbench.bench.metrics import bpp, mse, psnr
from cbench.bench.tables import Column, aligned
from cbench.data import kodak, photos
from cbench.errors import CbenchError
from cbench.models.basic import checkpoint, codec, config
from cbench.models.basic.codec import LEVELS, BasicCodec
from cbench.models.basic.network import STRIDE, BasicNetwork, Structure
from cbench.models.basic.start import start_linear
from cbench.nn.pictures import to_tensor
from cbench.zoo.weights import load_weights, shipped

CODEC = "basic.photos-3"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "fixed"):
        add = commands.add_parser(name).add_argument
        if name == "fixed":
            add("alone", type=Path, metavar="WEIGHTS")
            add("--limit", type=int, default=24, help="pictures")
        add("codec", nargs="?", default=CODEC, help=f"default: {CODEC}")
        add("--weights", type=Path, help="another weights file than the shipped one")
        add("--data", type=Path, help="folder that holds kodak/ and photos/")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        return (show_start if given.command == "start" else show_fixed)(given)
    except CbenchError as error:
        print(f"basic_training: {error}", file=sys.stderr)
        return 1


@dataclass(frozen=True)
class Estimate:
    """Means over pictures."""

    title: str
    structure: Structure
    bpp: float
    psnr: float
    loss: float
    """R + lambda D in bits a pixel."""


ESTIMATE_COLUMNS = (
    Column("weights", lambda v: v.title),
    Column("structure", lambda v: " ".join(map(str, v.structure.choices))),
    Column("bpp", lambda v: v.bpp, "{:.4f}"),
    Column("PSNR dB", lambda v: v.psnr, "{:.2f}"),
    Column("R + lambda D", lambda v: v.loss, "{:.4f}"),
)


def show_fixed(given: argparse.Namespace) -> int:
    """Print what slimming costs: the least complex level and a model that was never anything else, from real files."""
    rd_lambda = float(load_weights(given.weights or shipped(given.codec))[1].get("rd_lambda", config.LAMBDAS[2]))
    level = codec.open_codec(given.codec, given.weights).with_complexity(LEVELS - 1)
    pictures = [sample.array for sample in kodak(given.data and given.data / "kodak")[: given.limit]]
    named = ((f"{given.codec}, level {LEVELS - 1}", level), ("alone", codec.open_codec(given.codec, given.alone)))
    rows = [coded(name, own, pictures, rd_lambda) for name, own in named]
    print(aligned(ESTIMATE_COLUMNS, rows))
    print(f"slimming costs {slimming_cost(*rows):+.1%} of the bits at equal error")
    return 0


def coded(title: str, own: BasicCodec, pictures: list[np.ndarray], rd_lambda: float) -> Estimate:
    """Means over files that were decoded."""
    rows = []
    for x in pictures:
        data = own.compress(x)
        y = own.decompress(data)
        rows.append((bpp(len(data), x), psnr(x, y), bpp(len(data), x) + 3 * rd_lambda * mse(x, y) / 255**2))
    return Estimate(title, own.structure, *np.mean(rows, 0))


def slimming_cost(level: Estimate, alone: Estimate) -> float:
    """Difference of R + lambda D in bits of the model alone: near the best trade-off, the rate at equal error."""
    return (level.loss - alone.loss) / alone.bpp


def show_start(given: argparse.Namespace) -> int:
    """Print what a linear start has without a step of training, beside the trained weights."""
    path = given.weights or shipped(given.codec)
    rd_lambda = float(load_weights(path)[1].get("rd_lambda", config.LAMBDAS[2]))
    trained = checkpoint.load(path).network
    samples = photos.validation(given.data and given.data / "photos")[:20:4]
    pictures = [to_tensor([s.array[:, :320, :448]], STRIDE) for s in samples]
    torch.manual_seed(1)
    linear = BasicNetwork(trained.config).eval()
    start_linear(linear, rd_lambda)
    named = (("linear start", linear), (given.codec, trained))
    print(aligned(ESTIMATE_COLUMNS, [row for name, own in named for row in estimates(name, own, pictures, rd_lambda)]))
    return 0


@torch.inference_mode()
def estimates(title: str, own: BasicNetwork, pictures: list[torch.Tensor], rd_lambda: float) -> list[Estimate]:
    """The widest and the narrowest structure on pictures (1, 3, H, W) whose sides are multiples of 64."""
    found = []
    for structure in (Structure(), Structure(*(count - 1 for count in own.config.choices[:4]))):
        rows = []
        for x in pictures:
            parts = own(x, structure)
            error = float((parts.x_hat.clamp(0, 1) - x).square().mean())
            rate = float(parts.bits) / x[0, 0].numel()
            rows.append((rate, -10 * np.log10(error), rate + 3 * rd_lambda * error))
        found.append(Estimate(title, structure, *np.mean(rows, 0)))
    return found


if __name__ == "__main__":
    sys.exit(main())
