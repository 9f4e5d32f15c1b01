"""Predicting how long a structure takes on this machine, from files made and read with one choice changed at a time.

Whole files are timed, not networks alone, which find their data in the caches and look faster than they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from cbench.models.basic.complexity import Cost
from cbench.models.basic.network import Structure

if TYPE_CHECKING:
    from cbench.models.basic.codec import BasicCodec

ROUNDS = 3, 9
"""Fewest and most times that everything is measured."""
ENOUGH = 12.0
"""Seconds after which no further round begins."""
CONTROLLERS = tuple(field.name for field in fields(Structure))
WAYS = {"encoder": ("x_y", "y_z", "z_y", "coder"), "decoder": ("z_y", "y_x", "coder")}
"""What compressing and decompressing depend on."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every choice for pictures of one size."""

    least: Cost
    """Of the structure whose choices are all the last ones."""
    more: tuple[tuple[Cost, ...], ...]
    """For each controller, what each of its choices takes more than the last one."""

    def predict(self, structure: Structure) -> Cost:
        """Milliseconds to compress and to decompress with a structure."""
        chosen = [table[choice] for table, choice in zip(self.more, structure.choices, strict=True)]
        return Cost(*(sum(getattr(cost, way) for cost in (self.least, *chosen)) for way in WAYS))

    @classmethod
    def of(cls, codec: BasicCodec, shape: tuple[int, int] = (512, 768)) -> Timing:
        """Measured once for each model, size and number of threads in a process."""
        key = shape, codec.threads
        kept = _measured.setdefault(codec.network, {})
        if key not in kept:
            kept[key] = _measure(codec, waves(shape))
        return kept[key]


_measured: WeakKeyDictionary[torch.nn.Module, dict[tuple[tuple[int, int], int], Timing]] = WeakKeyDictionary()


def _measure(codec: BasicCodec, picture: np.ndarray) -> Timing:
    """The last choices everywhere, then each controller's other ones."""
    counts, slim_latents = codec.config.choices, codec.config.slim_latents
    last = tuple(count - 1 for count in counts)

    def variant(at: int, choice: int) -> Structure:
        if slim_latents:
            # All edges run at one width: the first controller stands for all.
            return Structure(*((choice,) * 4 if at == 0 else last[:4]))
        return Structure(*last[:at], choice, *last[at + 1 :])

    jobs: dict[tuple[Structure, str], Callable[[], object]] = {}
    for at, controller in enumerate(CONTROLLERS):
        for structure in (variant(at, choice) for choice in range(counts[at])):
            own = codec.with_structure(structure)
            if controller in WAYS["encoder"]:
                jobs[structure, "encoder"] = lambda own=own: own.compress(picture)
            if controller in WAYS["decoder"] or slim_latents:
                data = own.compress(picture)
                jobs[structure, "decoder"] = lambda own=own, data=data: own.decompress(data)
    times = dict(zip(jobs, fastest(list(jobs.values()), codec.threads), strict=True))
    least = Structure(*last)

    def extra(structure: Structure) -> Cost:
        return Cost(*(times.get((structure, way), times[least, way]) - times[least, way] for way in WAYS))

    more = tuple(tuple(extra(variant(at, c)) for c in range(count)) for at, count in enumerate(counts))
    return Timing(Cost(*(times[least, way] for way in WAYS)), more)


def waves(shape: tuple[int, int]) -> np.ndarray:
    """A picture (3, H, W) uint8 of waves and noise, about as hard to code as a photograph."""
    rows, columns = np.indices(shape)
    waves = 128 + 50 * np.sin(rows / 9) + 40 * np.cos(columns / 7)
    noise = np.random.default_rng(0).normal(0, 8, (3, *shape))
    return (waves + noise).clip(0, 255).astype(np.uint8)


def fastest(calls: Sequence[Callable[[], object]], threads: int) -> list[float]:
    """Milliseconds of each call, the least of some rounds through all: what the machine does undisturbed.

    With one thread its own time is taken, which other programs hardly change.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    least, begin = np.full(len(calls), np.inf), clock()
    for turn in range(ROUNDS[1]):
        if turn >= ROUNDS[0] and clock() - begin > ENOUGH:
            break
        for number, call in enumerate(calls):
            start = clock()
            call()
            least[number] = min(least[number], clock() - start)
    return [1000 * float(seconds) for seconds in least]
