"""Measure BaSIC beyond what a benchmark shows: complexity levels, how well complexity is controlled, the search.

    python tools/measure_basic.py levels [CODEC ...]  # the table of the levels, from real files of Kodak; BD-rates
    python tools/measure_basic.py control [CODEC]     # KMAC asked for and counted, milliseconds predicted and measured
    python tools/measure_basic.py front IN OUT        # search a weights file's structures again, on validation pictures
    python tools/measure_basic.py search              # the factorised search beside the exhaustive one

Times are one thread's own (CPU) time, which other programs hardly change. CODEC is basic.photos-3 unless given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from cbench.bench.metrics import bd_rate, bpp, psnr
from cbench.bench.tables import Column, aligned, markdown
from cbench.data import kodak, photos
from cbench.errors import CbenchError, ConfigError
from cbench.models.basic import checkpoint, codec, config
from cbench.models.basic.codec import LEVELS, BasicCodec
from cbench.models.basic.network import LATENT_STRIDE, BasicNetwork, Structure
from cbench.models.basic.orders import compile_order
from cbench.models.basic.search import exhaustive_losses, losses, searched
from cbench.models.basic.timing import Timing, waves
from cbench.zoo.weights import load_weights

T = TypeVar("T")

CODEC = "basic.photos-3"
SIZE = (512, 768)
"""(H, W) for which steps are counted."""
ROUNDS = 4
SEARCHED = 8
"""Validation pictures of a search."""


@dataclass(frozen=True)
class Level:
    """One level of complexity on a set of pictures."""

    number: int
    codec: BasicCodec
    steps: int
    """Of the order of y, for 512 x 768."""
    encode: float
    decode: float
    """Median milliseconds."""
    bpp: float
    psnr: float
    """Means."""

    @property
    def widths(self) -> str:
        """Channels of the four edges and the order of y."""
        model, choices = self.codec.config, self.codec.structure.choices
        edges = self.codec.network.edges.values()
        widths = [edge.widths[-1 - choice] for edge, choice in zip(edges, choices, strict=False)]
        return " ".join([*map(str, widths), *(coder.order for coder in model.coders[choices[4] :][:1])])


LEVEL_COLUMNS = (
    Column("level", lambda v: v.number),
    Column("x_y y_z z_y y_x, order", lambda v: v.widths),
    Column("encoder KMAC", lambda v: v.codec.cost().encoder, "{:.2f}"),
    Column("decoder KMAC", lambda v: v.codec.cost().decoder, "{:.2f}"),
    Column("steps", lambda v: v.steps),
    Column("encode s", lambda v: v.encode / 1000, "{:.3f}"),
    Column("decode s", lambda v: v.decode / 1000, "{:.3f}"),
    Column("bpp", lambda v: v.bpp, "{:.4f}"),
    Column("PSNR dB", lambda v: v.psnr, "{:.2f}"),
)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        add = commands.add_parser(name).add_argument
        if name in ("levels", "control"):
            several = {"nargs": "*", "default": [CODEC]} if name == "levels" else {"nargs": "?", "default": CODEC}
            add("codec", **several, help=f"default: {CODEC}")
            add("--weights", type=Path, help="another weights file than the shipped one")
            add("--data", type=Path, help="folder that holds kodak/")
            add("--limit", type=int, default=24 if name == "levels" else 3, help="pictures")
        if name == "levels":
            add("--markdown", action="store_true", help="as a Markdown table")
        if name == "front":
            add("weights", type=Path, help="weights file with rd_lambda in its metadata")
            add("output", type=Path)
            add("--data", type=Path, help="folder that holds photos/")
            add("--limit", type=int, default=SEARCHED, help="pictures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        return COMMANDS[given.command](given)
    except CbenchError as error:
        print(f"measure_basic: {error}", file=sys.stderr)
        return 1


def show_levels(given: argparse.Namespace) -> int:
    """Print a table for each codec; for several, what a level costs beside the next one on the curves through them."""
    if given.weights and len(given.codec) > 1:
        raise ConfigError("--weights takes one codec")
    tables = []
    for name in given.codec:
        tables.append(levels(codec.open_codec(name, given.weights), _pictures(given)))
        print((markdown if given.markdown else aligned)(LEVEL_COLUMNS, tables[-1]) + "\n")
    if len(tables) > 1:
        found = [f"{number}: {rate:+.2f} %" for number, rate in enumerate(steps_up(tables))]
        print(f"BD-rate of each level against the next, less complex one: {', '.join(found)}")
    return 0


def steps_up(tables: list[list[Level]]) -> list[float]:
    """BD-rate in % of levels 0 to 6 against the next one, on curves of one point a table; nan where none overlap."""
    curves = [([v.bpp for v in points], [v.psnr for v in points]) for points in zip(*tables, strict=True)]
    rates = [bd_rate(*more, *less) for more, less in pairwise(curves)]
    return [float("nan") if rate is None else rate for rate in rates]


def levels(own: BasicCodec, pictures: list[np.ndarray]) -> list[Level]:
    """Every level on all pictures, from files that were decoded."""
    return [_level(number, own.with_complexity(number), pictures) for number in range(LEVELS)]


def _level(number: int, own: BasicCodec, pictures: list[np.ndarray]) -> Level:
    steps = 1
    if own.config.coders:
        coder = own.network.y_coders[own.structure.coder]
        steps = compile_order(coder.order(*(n // LATENT_STRIDE for n in SIZE)), coder.config.kernel).steps
    own.decompress(own.compress(pictures[0]))
    rows = []
    for x in pictures:
        encode, data = timed(lambda x=x: own.compress(x))
        decode, y = timed(lambda data=data: own.decompress(data))
        rows.append((encode, decode, bpp(len(data), x), psnr(x, y)))
    encode, decode, *_ = np.median(rows, 0)
    return Level(number, own, steps, encode, decode, *np.mean(rows, 0)[2:])


@dataclass(frozen=True)
class Control:
    """What was asked of a level and what came."""

    number: int
    structure: Structure
    asked: float
    """KMAC a pixel."""
    counted: float
    predicted: float
    """Milliseconds."""
    measured: float


CONTROL_COLUMNS = (
    Column("level", lambda v: v.number),
    Column("structure", lambda v: " ".join(map(str, v.structure.choices))),
    Column("KMAC asked", lambda v: v.asked, "{:.2f}"),
    Column("counted", lambda v: v.counted, "{:.2f}"),
    Column("difference", lambda v: v.counted / v.asked - 1, "{:+.1%}"),
    Column("ms predicted", lambda v: v.predicted, "{:.0f}"),
    Column("measured", lambda v: v.measured, "{:.0f}"),
    Column("difference", lambda v: v.measured / v.predicted - 1, "{:+.1%}"),
)


def show_control(given: argparse.Namespace) -> int:
    """Print how well complexity is controlled."""
    print(aligned(CONTROL_COLUMNS, control(codec.open_codec(given.codec, given.weights), _pictures(given))))
    return 0


def control(own: BasicCodec, pictures: list[np.ndarray]) -> list[Control]:
    """For every level: budgets that fall evenly in ratio beside what was counted, and predicted beside measured times.

    Times of encoder and decoder together: of each picture the fastest of some rounds through all levels, so that a slow
    moment hits all, then the median over pictures.
    """
    at = [own.with_complexity(number) for number in range(LEVELS)]
    most, least = at[0].cost().total, at[-1].cost().total
    timing = Timing.of(own, pictures[0].shape[1:])
    times = np.full((LEVELS, len(pictures), ROUNDS), np.inf)
    for turn, (column, x), (number, level) in product(range(ROUNDS), enumerate(pictures), enumerate(at)):
        encode, data = timed(lambda level=level, x=x: level.compress(x))
        decode, _ = timed(lambda data=data: own.decompress(data))
        times[number, column, turn] = encode + decode
    measured = np.median(times.min(2), 1)
    return [
        Control(
            number,
            level.structure,
            most * (least / most) ** (number / (LEVELS - 1)),
            level.cost().total,
            timing.predict(level.structure).total,
            float(measured[number]),
        )
        for number, level in enumerate(at)
    ]


def front(given: argparse.Namespace) -> int:
    """Write the weights file with the structures that no other one beats on validation pictures."""
    arrays, metadata = load_weights(given.weights)
    if "rd_lambda" not in metadata:
        raise ConfigError(f"{given.weights} does not say the rate it was trained for (rd_lambda)")
    samples = photos.validation(given.data and given.data / "photos")[: given.limit]
    found = searched(checkpoint.load(given.weights), [s.array for s in samples], float(metadata["rd_lambda"]))
    half = any(array.dtype == np.float16 for array in arrays.values())
    checkpoint.save(given.output, found, metadata, half=half)
    print(f"{given.output}: {len(found.front)} structures, from {found.front[0].choices} to {found.front[-1].choices}")
    return 0


def show_search(given: argparse.Namespace) -> int:
    """Print the time of both searches on a tiny model with five candidates an edge, and whether they agree."""
    fast, slow, same, count = search(replace(config.tiny(), widths=(4, 5, 6, 7, 8)), (64, 128))
    print(f"{count} structures: factorised {fast:.2f} s, exhaustive {slow:.2f} s, {slow / fast:.1f} times as long")
    print("same table" if same else "the tables differ")
    return int(not same)


def search(model: config.BasicConfig, size: tuple[int, int]) -> tuple[float, float, bool, int]:
    """Seconds of the factorised and of the exhaustive search, whether tables agree to 1e-5, and structures."""
    own = _random_network(model)
    x = [torch.from_numpy(waves(size))[None].float() / 255]
    fast, found = timed(lambda: losses(own, x, config.LAMBDAS[2]))
    slow, expected = timed(lambda: exhaustive_losses(own, x, config.LAMBDAS[2]))
    same = list(found) == list(expected) and np.allclose([*found.values()], [*expected.values()], rtol=1e-5)
    return fast / 1000, slow / 1000, same, len(found)


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds of this thread, and what the call returned."""
    start = time.thread_time()
    out = call()
    return 1000 * (time.thread_time() - start), out


def _random_network(model: config.BasicConfig) -> BasicNetwork:
    torch.manual_seed(0)
    network = BasicNetwork(model).eval().requires_grad_(False)
    # As large as trained latents are, or there would be nothing to code.
    network.edges["x_y"].layers[-1].weight.mul_(100)
    return network


def _pictures(given: argparse.Namespace) -> list[np.ndarray]:
    return [sample.array for sample in kodak(given.data and given.data / "kodak")[: given.limit]]


COMMANDS = {
    "levels": show_levels,
    "control": show_control,
    "front": front,
    "search": show_search,
}

if __name__ == "__main__":
    sys.exit(main())
