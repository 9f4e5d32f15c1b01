"""The benchmark's command line, shared by tools/run_benchmark.py, `cbench bench` and `cbench train`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cbench.bench.config import RUN_WEIGHTS, Experiment
from cbench.bench.loading import Loaded, load
from cbench.errors import CbenchError

RUNS = Path("experiments")
"""Where run folders go unless told otherwise."""


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; new choices belong into experiments, not here."""
    top = argparse.ArgumentParser(
        prog=prog, description="Train, validate and test what an experiment describes, and write a report."
    )
    top.add_argument("config", metavar="CONFIG", help="file.py, file.py:function, or a run folder to test again")
    top.add_argument(
        "--set",
        metavar="A.B=C",
        action="append",
        default=[],
        dest="overrides",
        help="replace a field of the experiment, such as train.lr=2e-4 or data.0.limit=4 (repeatable)",
    )
    top.add_argument("--out", metavar="DIR", type=Path, help=f"run folder (default: {RUNS}/NAME)")
    top.add_argument("--only", choices=("train", "test"), help="one stage alone")
    top.add_argument("--resume", action="store_true", help="continue an interrupted run")
    return top


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line; returns 0; 1 when an item failed or there was an error; 130 when interrupted."""
    options = parser(prog).parse_args(argv)
    try:
        loaded = load(options.config, options.overrides)
        out = options.out or default_folder(loaded, options.only, options.resume)
        return _run(loaded, out, options.only, options.resume)
    except CbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command with --resume continues", file=sys.stderr)
        return 130


def default_folder(loaded: Loaded, only: str | None, resume: bool) -> Path:
    """experiments/NAME, with a number where that exists and nothing in it is to be continued.

    A run folder that is tested again gets a sibling NAME-again. Processes of a distributed training must
    agree: under torchrun the folder has no number; a process that the first one started takes the newest.
    """
    if loaded.folder is not None:
        if resume:
            return loaded.folder
        return _free(loaded.folder.with_name(loaded.folder.name.removesuffix("-again") + "-again"))
    base = RUNS / loaded.experiment.name
    launched, follower = "WORLD_SIZE" in os.environ, int(os.environ.get("LOCAL_RANK", "0")) > 0
    if launched and not follower:
        return base
    if resume or follower or (only == "test" and _tests_own_weights(loaded.experiment)):
        return _newest(base)
    return _free(base)


def _run(loaded: Loaded, out: Path, only: str | None, resume: bool) -> int:
    from cbench.bench.run import process_rank, run

    report = run(loaded.experiment, out, only=only, resume=resume, origin=loaded)
    if process_rank() > 0:
        return 0
    print(report.text())
    print(f"report: {out / 'report.md'}")
    return 1 if report.failures else 0


def _tests_own_weights(experiment: Experiment) -> bool:
    return any(spec.weights == RUN_WEIGHTS for spec in experiment.codecs)


def _numbered(base: Path) -> list[Path]:
    """The folders NAME, NAME-2, NAME-3, ... as far as they exist."""
    found, number = [], 1
    while (place := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        found.append(place)
        number += 1
    return found


def _newest(base: Path) -> Path:
    there = _numbered(base)
    return there[-1] if there else base


def _free(base: Path) -> Path:
    count = len(_numbered(base))
    return base.with_name(f"{base.name}-{count + 1}") if count else base
