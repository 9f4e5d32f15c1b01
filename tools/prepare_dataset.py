"""Training pictures for lossy codecs: the largest of a collection, halved where they are large, as PNG in one folder.

    python tools/prepare_dataset.py /data/ILSVRC/train data/imagenet-8000             # the rule of BaSIC and SlimCAE
    python tools/prepare_dataset.py /data/clic/train data/clic-prepared --count 0     # all of them, such as CLIC 2020

The COUNT pictures with the most pixels are taken (0: all); those whose shorter side exceeds LIMIT are halved with
bicubic interpolation. Pictures already there are kept, so an interrupted run continues; a grey or transparent one
becomes RGB. The published preparation also adds noise before rounding down, which changes no sample and is left out.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from cbench.errors import CbenchError, ConfigError, DataNotFoundError

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".ppm", ".bmp"}
COUNT = 8000
LIMIT = 512


def pictures(source: Path) -> list[Path]:
    """Every picture below a folder, sorted.

    Raises:
        DataNotFoundError: no such folder, or no picture in it.
    """
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES) if source.is_dir() else []
    if not found:
        raise DataNotFoundError(f"there are no pictures in {source}")
    return found


def largest(paths: list[Path], count: int) -> list[Path]:
    """The `count` pictures with the most pixels, ties by path; 0: all. Reads only the headers."""
    if not count:
        return paths
    sized = ((_pixels(path), path) for path in tqdm(paths, desc="look", unit="file"))
    chosen = heapq.nsmallest(count, ((-pixels, path) for pixels, path in sized if pixels))
    return [path for _, path in chosen]


def prepared(picture: Image.Image, limit: int) -> Image.Image:
    """RGB, and half as large where the shorter side exceeds `limit`: every sample from a 4 x 4 window, no wider
    filter.
    """
    picture = picture.convert("RGB")
    width, height = picture.size
    if min(width, height) <= limit:
        return picture
    half = width // 2, height // 2
    # An affine map samples bicubically at the new centres, unlike `resize`, which widens its filter.
    return picture.transform(
        half, Image.Transform.AFFINE, (width / half[0], 0, 0, 0, height / half[1], 0), Image.Resampling.BICUBIC
    )


def prepare(source: Path, target: Path, count: int = COUNT, limit: int = LIMIT) -> int:
    """Write the pictures; returns how many there are now. Unreadable ones are named on stderr and left out."""
    chosen = largest(pictures(source), count)
    target.mkdir(parents=True, exist_ok=True)
    done = 0
    for path in tqdm(chosen, desc="prepare", unit="file"):
        out = target / ("_".join(path.relative_to(source).with_suffix("").parts) + ".png")
        if not out.exists():
            try:
                with Image.open(path) as picture:
                    made = prepared(picture, limit)
            except OSError as error:
                tqdm.write(f"{path} is left out: {error}", file=sys.stderr)
                continue
            temporary = out.with_name(out.name + ".part")
            made.save(temporary, format="PNG")
            temporary.replace(out)
        done += 1
    return done


def _pixels(path: Path) -> int:
    """Width times height; 0 where the file is no picture."""
    try:
        with Image.open(path) as picture:
            return picture.width * picture.height
    except OSError:
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and prepare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder that is searched with all its subfolders")
    parser.add_argument("target", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many of the largest; 0: all (default {COUNT})")
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"halve above this shorter side (default {LIMIT})")
    options = parser.parse_args(arguments)
    try:
        if options.count < 0 or options.limit < 1:
            raise ConfigError("count must be at least 0 and limit at least 1")
        print(f"{prepare(options.source, options.target, options.count, options.limit):,} pictures in {options.target}")
    except (CbenchError, OSError) as error:
        print(f"prepare_dataset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
