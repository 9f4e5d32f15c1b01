"""Where the time of `fsar.cifar10` goes: archives of 16 CIFAR-10 test pictures, one thread.

    python tools/profile_fsar.py [--pictures 320] [--batch 16] [--weights FILE]

Medians over the batches of thread CPU time in milliseconds a picture, after a warm-up; every picture is compared. Then
the sizes with the decoder network of each byte format.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cbench.data import cifar10
from cbench.models.fsar import codec as fsar

PARTS = {
    "encoder network": "_encoder.forward",
    "code search": "",
    "decoder network": "_fine_decoder.forward",
    "tables": "_rows",
    "coder": "_code_start _code_pixels",
}
"""What is measured; "tables" contains the decoder network, which is taken off."""


class Clock:
    """Adds up the time of wrapped functions."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Count the calls of a method or function."""
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.thread_time()
            result = inner(*arguments, **named)
            self.spent[label] += time.thread_time() - begin
            return result

        setattr(owner, name, timed)


def measure(codec: fsar.FsarCodec, pictures: list[np.ndarray], batch: int) -> dict[str, dict[str, float]]:
    """Direction -> part -> milliseconds a picture; "all" is the whole call."""
    clock = Clock()
    clock.wrap(fsar, "symbols_of", "code search")
    for label, names in PARTS.items():
        for name in names.split():
            owner, _, method = name.rpartition(".")
            target = getattr(codec, owner) if owner else codec
            if hasattr(target, method):
                clock.wrap(target, method, label)
    found: dict[str, list[Counter[str]]] = {"compress": [], "decompress": []}
    for start in range(0, len(pictures) - batch + 1, batch):
        part = pictures[start : start + batch]
        data, spent = _timed(clock, lambda part=part: codec.compress_many(part))
        back, spent_back = _timed(clock, lambda data=data: codec.decompress_many(data))
        if not all(map(np.array_equal, part, back)):
            raise SystemExit("a picture came back changed")
        found["compress"].append(spent)
        found["decompress"].append(spent_back)
    labels = [*PARTS, "all"]
    return {
        way: {label: 1e3 / batch * statistics.median(one[label] for one in batches[1:]) for label in labels}
        for way, batches in found.items()
    }


def _timed(clock: Clock, function: Callable[[], Any]) -> tuple[Any, Counter[str]]:
    clock.spent.clear()
    begin = time.thread_time()
    result = function()
    spent = Counter(clock.spent)
    spent["all"] = time.thread_time() - begin
    spent["tables"] -= spent["decoder network"]
    return result, spent


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    pictures = [sample.array for sample in cifar10.test()[: options.pictures]]
    codec = fsar.cifar10(options.weights, "cpu", 1)
    found = measure(codec, pictures, options.batch)
    print(f"{'ms a picture':20} {'compress':>10} {'decompress':>10}")
    for label in PARTS:
        print(f"{label:20} {found['compress'][label]:10.3f} {found['decompress'][label]:10.3f}")
    for way in found:
        found[way]["rest"] = found[way]["all"] - sum(found[way][label] for label in PARTS)
    print(f"{'rest':20} {found['compress']['rest']:10.3f} {found['decompress']['rest']:10.3f}")
    print(f"{'all':20} {found['compress']['all']:10.3f} {found['decompress']['all']:10.3f}")
    print(f"{'pictures a second':20} {1e3 / found['compress']['all']:10.0f} {1e3 / found['decompress']['all']:10.0f}")
    for version in (3, 2, 1):
        codec.format = version
        size = len(codec.compress_many(pictures)) * 8 / sum(picture.size for picture in pictures)
        print(f"byte format {version}: {size:.4f} bits a sample, one archive")
    return 0


if __name__ == "__main__":
    sys.exit(main())
