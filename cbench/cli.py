"""The `cbench` command: compress, decompress, info, verify, list, bench, train.

Exit status: 0 all went well; 1 something failed, one sentence each on stderr; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbench._version import __version__
from cbench.errors import CbenchError, ConfigError, DataNotFoundError

BENCH = ("bench", "train")
"""Verbs that hand their arguments to the benchmark's own parser, shared with tools/run_benchmark.py."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in BENCH:
            return _bench(arguments)
        options = parser().parse_args(arguments)
        return options.run(options)
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; Python must not complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (CbenchError, OSError, MemoryError) as error:
        _complain(_sentence(error))
        return 1


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs but bench and train, which are listed for the help text only."""
    top = argparse.ArgumentParser(prog="cbench", description="Learned and classical compression of pictures.")
    top.add_argument("--version", action="version", version=f"cbench {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    verb = _verb(verbs, "compress", "code pictures and cubes, and check that they decode", _compress)
    verb.add_argument("inputs", metavar="IN", nargs="+", help="files, or folders of readable files")
    verb.add_argument("-o", "--output", metavar="OUT", help="file, or folder that mirrors the inputs")
    verb.add_argument("--codec", metavar="NAME", help="see `cbench list`; without it, one is chosen by the input")
    verb.add_argument("--delta", metavar="K", type=_natural, default=0, help="allow errors up to K (default 0)")
    scale = verb.add_mutually_exclusive_group()
    scale.add_argument("--complexity", metavar="L", type=_natural, help="level of a scalable codec, 0 (most) to 7")
    scale.add_argument("--max-kmac", metavar="N", type=float, help="its best structure within N KMAC a pixel")
    scale.add_argument("--max-ms", metavar="N", type=float, help="its best structure within N ms on this machine")
    aim = verb.add_mutually_exclusive_group()
    aim.add_argument("--quality", metavar="Q", type=int, help="of a lossy codec that has a dial; higher is better")
    aim.add_argument("--bpp", metavar="B", type=float, help="the best picture within B bits a pixel")
    aim.add_argument("--psnr", metavar="D", type=float, help="the smallest file with a PSNR of D dB")
    _coding_options(verb)

    verb = _verb(verbs, "decompress", "bring files back in the format they had", _decompress)
    verb.add_argument("inputs", metavar="IN", nargs="+", help="coded files, or folders of .cb files")
    verb.add_argument("-o", "--output", metavar="OUT", help="file, or folder that mirrors the inputs")
    _coding_options(verb)

    verb = _verb(verbs, "info", "say what a file holds, without decoding it where possible", _info)
    verb.add_argument("file", metavar="FILE")
    verb.add_argument("--json", action="store_true", help="for programs")

    verb = _verb(verbs, "verify", "compare an original with the decoded file", _verify)
    verb.add_argument("original", metavar="IN")
    verb.add_argument("file", metavar="FILE")
    _coding_options(verb, force=False)

    verb = _verb(verbs, "list", "name the codecs", _list)
    verb.add_argument("--json", action="store_true", help="for programs")

    verbs.add_parser("bench", help="run an experiment: cbench bench CONFIG", add_help=False)
    verbs.add_parser("train", help="only its training stage: cbench train CONFIG", add_help=False)
    return top


def _verb(verbs: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{name}: {text}.")
    verb.set_defaults(run=run)
    return verb


def _coding_options(verb: argparse.ArgumentParser, force: bool = True) -> None:
    verb.add_argument("--weights", metavar="FILE", type=Path, help="other weights than the package's")
    verb.add_argument("--threads", metavar="N", type=_positive, default=1, help="default 1")
    if force:
        verb.add_argument("--force", action="store_true", help="overwrite existing files")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _compress(options: argparse.Namespace) -> int:
    from cbench import files, transcode

    settings = transcode.Settings(
        options.codec,
        options.weights,
        options.delta,
        options.threads,
        options.force,
        options.complexity,
        options.max_kmac,
        options.max_ms,
        options.quality,
        options.bpp,
        options.psnr,
    )
    jobs = _jobs(options.inputs, options.output, files.find)
    short = [job.folder / (job.source.stem + transcode.SUFFIX) for job in jobs]

    def work(job: Job) -> str:
        # Two sources `a.png` and `a.tif` of one folder become `a.png.cb` and `a.tif.cb`.
        brief = job.folder / (job.source.stem + transcode.SUFFIX)
        long = job.folder / (job.source.name + transcode.SUFFIX)
        target = job.folder / job.name if job.name else brief if short.count(brief) == 1 else long
        done = transcode.compress_file(job.source, target, settings)
        return (
            f"{job.source} -> {target}: {done.codec}, {done.raw_bytes:,} -> {done.file_bytes:,} bytes, "
            f"{8 * done.file_bytes / done.samples:.3f} bpd, {done.file_bytes / done.raw_bytes:.1%}, "
            f"{done.encode_s:.2f} s + {done.decode_s:.2f} s check"
        )

    return _each(jobs, work, "compress")


def _decompress(options: argparse.Namespace) -> int:
    from cbench import transcode

    settings = transcode.Settings(weights=options.weights, threads=options.threads, force=options.force)
    jobs = _jobs(options.inputs, options.output, lambda folder: sorted(folder.rglob("*" + transcode.SUFFIX)))

    def work(job: Job) -> str:
        return f"{job.source} -> {transcode.decompress_file(job.source, job.folder, job.name, settings)}"

    return _each(jobs, work, "decompress")


def _info(options: argparse.Namespace) -> int:
    from cbench import transcode

    found = transcode.inspect(transcode.read_bytes(Path(options.file)))
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for key, value in found.items():
        if value is not None and value != "":
            print(f"{key.replace('_', ' '):14} {_plain(value)}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from cbench import transcode

    settings = transcode.Settings(weights=options.weights, threads=options.threads)
    found, bound = transcode.verify_files(Path(options.original), Path(options.file), settings)
    if found.max_error == 0:
        print(f"exact: {options.file} decodes to {options.original}")
    else:
        promise = "lossy" if bound is None else f"near-lossless, at most {bound} promised"
        print(f"max error {found.max_error}, PSNR {found.psnr:.2f} dB: {options.file} is {promise}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from cbench import zoo

    if options.json:
        print(json.dumps([{"name": name, "about": zoo.ABOUT[name]} for name in zoo.list_codecs()], indent=2))
        return 0
    for name in zoo.list_codecs():
        print(f"{name:16} {zoo.ABOUT[name]}")
    return 0


def _bench(arguments: list[str]) -> int:
    from cbench.bench.main import main as bench_main

    verb, rest = arguments[0], arguments[1:]
    return bench_main([*rest, "--only", "train"] if verb == "train" else rest, prog=f"cbench {verb}")


@dataclass(frozen=True)
class Job:
    """One file to work on."""

    source: Path
    folder: Path
    """Where the result goes."""
    name: str | None = None
    """File to write there, when the user named one."""


def _jobs(inputs: Sequence[str], output: str | None, find: Callable[[Path], Iterable[Path]]) -> list[Job]:
    """Every file to work on, with where it goes: beside itself, or below `output` as in its own folder.

    Raises:
        DataNotFoundError: a folder without a single file to work on.
        ConfigError: several inputs, but `output` is a file.
    """
    sources = [Path(text) for text in inputs]
    many = len(sources) > 1 or sources[0].is_dir()
    out = None if output is None else Path(output)
    if out is not None and many and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; several inputs need a folder")
    if out is not None and not (many or out.is_dir() or str(output).endswith(("/", os.sep))):
        return [Job(sources[0], out.parent, out.name)]
    jobs: list[Job] = []
    for source in sources:
        if not source.is_dir():
            jobs.append(Job(source, out or source.parent))
            continue
        inside = list(find(source))
        if not inside:
            raise DataNotFoundError(f"the folder {source} holds no file to work on")
        root = source if out is None else out / source.name if len(sources) > 1 else out
        jobs += [Job(path, (root / path.relative_to(source)).parent) for path in inside]
    return jobs


def _each(jobs: list[Job], work: Callable[[Job], str], verb: str) -> int:
    """Run `work` on every job, one line each; a failure is reported and does not stop the others."""
    from tqdm import tqdm

    failed = 0
    quiet = len(jobs) == 1 and not sys.stderr.isatty()
    for job in tqdm(jobs, desc=verb, unit="file", disable=quiet, file=sys.stderr, leave=False):
        try:
            if job.name is None:
                job.folder.mkdir(parents=True, exist_ok=True)
            tqdm.write(work(job), file=sys.stdout)
        except (CbenchError, OSError, MemoryError) as error:
            failed += 1
            text = _sentence(error)
            known = str(job.source) in text
            tqdm.write(f"cbench: {text if known else f'{job.source}: {text}'}", file=sys.stderr)
    if failed and len(jobs) > 1:
        _complain(f"{failed} of {len(jobs)} files failed")
    return int(failed > 0)


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def _complain(text: str) -> None:
    print(f"cbench: {text}", file=sys.stderr)


def _plain(value: Any) -> str:
    """A value as people write it: 3 x 512 x 768, 1,179,648, key=value."""
    if isinstance(value, list):
        return " x ".join(map(str, value)) if len(value) == 3 else ", ".join(map(str, value))
    if isinstance(value, dict):
        texts = (f"{key}={' '.join(str(item).split())[:40]}" for key, item in value.items())
        return ", ".join(texts)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
