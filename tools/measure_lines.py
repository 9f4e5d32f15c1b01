"""Measure codecs that work line by line: memory over the lines of a stream, what threads gain, the engines of LineRWKV.

    python tools/measure_lines.py memory --codec linerwkv.xs --lines 2000 --plot memory.png
    python tools/measure_lines.py threads --codec linerwkv.xs --threads 2
    python tools/measure_lines.py engines --weights data/weights/linerwkv --data data/hyperspectral

`memory` streams a cube of 202 bands and 128 columns to a file and back, each way in a process of its own, compares
every line, and prints the resident memory of the whole process on the way. `threads` times both directions with one
thread and with several, alternating in one process; on a machine with other work its figures mean little. `engines`
codes cubes with the published weights of every size, by the float engine and by the integer engine in turn, and prints
rates of whole files and processor time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbench.bench.timing import resident, set_threads
from cbench.coding.lines import LineDecoder, LineEncoder, LinesCodec
from cbench.data import envi_folder, samples
from cbench.errors import CbenchError, ConfigError
from cbench.zoo import load_codec

SCENE = 64
"""Lines of the synthetic scene that a longer cube repeats, forwards and backwards."""
READ = 1 << 16
"""Bytes that the decoder is given at a time."""


@dataclass(frozen=True)
class Job:
    """What is streamed."""

    codec: str
    weights: Path | None
    lines: int
    bands: int
    columns: int

    def source(self) -> Iterator[np.ndarray]:
        """The lines (bands, columns)."""
        scene = np.ascontiguousarray(samples.make_cube(self.bands, SCENE, self.columns).transpose(1, 0, 2))
        for t in range(self.lines):
            place = t % (2 * SCENE)
            yield scene[min(place, 2 * SCENE - 1 - place)]

    def load(self) -> LinesCodec:
        """The codec, with one thread."""
        set_threads(1)
        codec = load_codec(self.codec, self.weights, threads=1)
        if not isinstance(codec, LinesCodec):
            raise ConfigError(f"{self.codec} does not code line by line")
        return codec

    def marks(self) -> set[int]:
        """Line counts at which memory is read: 1, 2, 5, 10, 20, 50 ... and the last."""
        steps = {factor * 10**power for power in range(8) for factor in (1, 2, 5)}
        return {step for step in steps if step < self.lines} | {self.lines}


Curve = list[tuple[int, float]]
"""(lines so far, resident MB of the process)."""


def write(job: Job, path: Path) -> Curve:
    """Encode all lines into a file."""
    encoder, marks, curve = LineEncoder(job.load(), job.bands, job.columns), job.marks(), []
    with path.open("wb") as file:
        for count, line in enumerate(job.source(), 1):
            file.write(encoder.push(line))
            if count in marks:
                curve.append((count, resident() / 1e6))
        file.write(encoder.finish())
    return curve


def read(job: Job, path: Path) -> Curve:
    """Decode the file and compare every line."""
    decoder, marks, curve = LineDecoder(job.load()), job.marks(), []
    source, count = job.source(), 0
    with path.open("rb") as file:
        while data := file.read(READ):
            for line in decoder.push(data):
                if not np.array_equal(line, next(source)):
                    raise CbenchError(f"line {count} came back changed")
                count += 1
                if count in marks:
                    curve.append((count, resident() / 1e6))
    decoder.finish()
    return curve


def memory(job: Job, plot: Path | None) -> None:
    """Print, and draw, the memory of both directions."""
    curves = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream"
        for name, work in (("encoding", write), ("decoding", read)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                curves[name] = pool.apply(work, (job, path))
        rate = 8 * path.stat().st_size / (job.lines * job.bands * job.columns)
    print(
        f"{job.codec}, {job.bands} bands, {job.columns} columns, {rate:.3f} bits a sample; resident MB of the process"
    )
    for name, curve in curves.items():
        print(f"{name}: " + ", ".join(f"line {line}: {mb:.0f}" for line, mb in curve))
    if plot is not None:
        draw(job, curves, plot)


def draw(job: Job, curves: dict[str, Curve], path: Path) -> None:
    """Memory over lines as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, curve in curves.items():
        panel.plot(*zip(*curve, strict=True), marker="o", markersize=4, label=name)
    panel.set_xscale("log")
    panel.set_ylim(0, 1.25 * max(mb for curve in curves.values() for _, mb in curve))
    panel.set_xlabel("lines")
    panel.set_ylabel("resident MB of the process")
    panel.set_title(f"{job.codec}, {job.bands} bands, {job.columns} columns", loc="left", fontsize=10)
    panel.grid(True, alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(path, dpi=150)


def threads(job: Job, count: int, repeats: int) -> None:
    """Print the fastest of several runs with one thread and with `count`."""
    x = np.stack(list(job.source()), axis=1)
    codecs = [load_codec(job.codec, job.weights, threads=n) for n in (1, count)]
    best = np.full((2, 2), np.inf)
    for _ in range(repeats):
        files = []
        for i, codec in enumerate(codecs):
            seconds, data = clock(lambda codec=codec: codec.compress(x))
            back, _ = clock(lambda codec=codec, data=data: codec.decompress(data))
            best[i] = np.minimum(best[i], (seconds, back))
            files.append(data)
        if files[0] != files[1]:
            raise CbenchError(f"{count} threads write other bytes than one")
    for way, (one, many) in zip(("compress", "decompress"), best.T, strict=True):
        each = 1e6 / x.size
        print(f"{job.codec} {way}: 1 thread {one * each:.2f}, {count} threads {many * each:.2f} us a sample, ", end="")
        print(f"factor {one / many:.2f}")


CUBES = ("enmap_potsdam_c", "enmap_potsdam_a", "abu_airport_4")


def engines(weights: Path, data: Path, sizes: list[str], names: list[str], bound: int, lines: int | None) -> None:
    """Print both engines side by side, each file decoded and compared."""
    set_threads(1)
    cubes = {sample.name: sample for sample in envi_folder.cubes(data) if sample.name in names}
    print(f"error {bound}: bits a sample; microseconds of one core a sample, compress / decompress")
    for size in sizes:
        codecs = [load_codec(f"linerwkv.{size}{kind}", weights / f"{size}.pth") for kind in ("", "-int8")]
        for name in names:
            x = np.ascontiguousarray(cubes[name].array[:, :lines])
            for codec in codecs:
                rate, times = cost(codec.with_max_error(bound), x)
                print(f"{codec.name:18} {name:16} {rate:.4f}; {times[0]:.2f} / {times[1]:.2f}", flush=True)


def cost(codec: LinesCodec, x: np.ndarray) -> tuple[float, list[float]]:
    """Bits a sample, and microseconds of processor time a sample of both directions."""
    start = time.process_time()
    data = codec.compress(x)
    middle = time.process_time()
    back = codec.decompress(data)
    end = time.process_time()
    if np.abs(back.astype(np.int64) - x).max() > codec.max_error:
        raise CbenchError(f"{codec.name} breaks its bound")
    return 8 * len(data) / x.size, [1e6 * seconds / x.size for seconds in (middle - start, end - middle)]


def clock(work: Callable[[], object]) -> tuple[float, object]:
    """Wall-clock seconds, and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "threads", "engines"))
    parser.add_argument("--codec", default="linerwkv.xs")
    parser.add_argument("--weights", type=Path, help="for engines, the folder of xs.pth, s.pth ...")
    parser.add_argument("--lines", type=int, help="default: 2000 for memory, 16 for threads, all for engines")
    parser.add_argument("--bands", type=int, help="default: 202 for memory, 100 for threads")
    parser.add_argument("--columns", type=int, help="default: 128 for memory, 64 for threads")
    parser.add_argument("--plot", type=Path, help="draw memory into this PNG file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--data", type=Path, default=Path("data/hyperspectral"), help="folder of the cubes")
    parser.add_argument("--cubes", nargs="+", default=list(CUBES))
    parser.add_argument("--sizes", nargs="+", default=["xs", "s", "l"])
    parser.add_argument("--delta", type=int, default=0)
    given = parser.parse_args()
    usual = (2000, 202, 128) if given.what == "memory" else (16, 100, 64)
    sizes = (a or b for a, b in zip((given.lines, given.bands, given.columns), usual, strict=True))
    job = Job(given.codec, given.weights, *sizes)
    try:
        if given.what == "memory":
            memory(job, given.plot)
        elif given.what == "engines":
            folder = given.weights or Path("data/weights/linerwkv")
            engines(folder, given.data, given.sizes, given.cubes, given.delta, given.lines)
        else:
            threads(job, given.threads, given.repeats)
    except CbenchError as error:
        print(f"measure_lines: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
