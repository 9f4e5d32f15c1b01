"""Finding the structures worth using: what each costs and loses, exactly, and the levels that follow.

With y rounded, the rate depends on (x_y, y_z, z_y, coder) and the distortion on (x_y, y_x). So a table of all
structures needs, for five candidates an edge, 5 + 25 + 125 + 25 evaluations of single edges instead of 625 of the whole
graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from cbench.errors import ConfigError
from cbench.models.basic.checkpoint import Weights
from cbench.models.basic.complexity import Complexity
from cbench.models.basic.network import STRIDE, BasicNetwork, Structure, item_bits
from cbench.nn.pictures import to_tensor

LARGEST = 256
"""Pictures are cut to their middle of at most that side before a search."""


@dataclass(frozen=True)
class Entry:
    """One structure and what it costs."""

    structure: Structure
    complexity: float
    """KMAC a pixel, milliseconds, or whatever the search is by."""
    loss: float
    """R + lambda D in bits a pixel."""


def all_structures(choices: Sequence[int]) -> list[Structure]:
    """Every combination in the published order of evaluation: the smallest, the largest, then by rising choices."""
    smallest, largest = Structure(*(count - 1 for count in choices)), Structure()
    rest = (Structure(*picked) for picked in product(*map(range, choices)))
    return [smallest, largest, *(s for s in rest if s not in (smallest, largest))]


@torch.inference_mode()
def losses(network: BasicNetwork, pictures: Iterable[Tensor], rd_lambda: float) -> dict[Structure, float]:
    """R + lambda D of every structure, in bits a pixel, mean over pictures.

    Args:
        network: in evaluation mode.
        pictures: each (1, 3, H, W) in [0, 1], sides multiples of 64; validation pictures, never those of a test.
        rd_lambda: weight of the squared error.
    """
    rates, distortions = [], []
    for x in pictures:
        rate, distortion = _tables(network, x)
        pixels = x.shape[2] * x.shape[3]
        rates.append(rate / pixels)
        distortions.append(distortion / pixels)
    rate, distortion = np.mean(rates, 0), np.mean(distortions, 0)
    found = {}
    for s in all_structures(network.config.choices):
        found[s] = float(rate[s.x_y, s.y_z, s.z_y, s.coder] + rd_lambda * distortion[s.x_y, s.y_x])
    return found


def _tables(network: BasicNetwork, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Bits by (x_y, y_z, z_y, coder) and squared error by (x_y, y_x) of one picture."""
    edges, (n_xy, n_yz, n_zy, n_yx, n_coder) = network.edges, network.config.choices
    rate, distortion = np.zeros((n_xy, n_yz, n_zy, n_coder)), np.zeros((n_xy, n_yx))
    for i in range(n_xy):
        y = edges["x_y"](x, i)
        for j in range(n_yx):
            distortion[i, j] = float((edges["y_x"](y.round(), j) - x).square().sum())
        for j in range(n_yz):
            z = edges["y_z"](y.abs() if network.config.magnitudes else y, j)
            z_hat, likelihood = network.code_z(z, Structure(y_z=j))
            z_bits = item_bits(likelihood)
            for k in range(n_zy):
                prior = edges["z_y"](z_hat, k)
                for coder in range(n_coder):
                    rate[i, j, k, coder] = float(z_bits + item_bits(network.code_y(y, prior, coder)[1]))
    return rate, distortion


@torch.inference_mode()
def exhaustive_losses(network: BasicNetwork, pictures: Sequence[Tensor], rd_lambda: float) -> dict[Structure, float]:
    """The same by evaluating the whole graph for every structure; for comparison."""
    found = {}
    for structure in all_structures(network.config.choices):
        values = []
        for x in pictures:
            parts = network(x, structure)
            squares = (parts.x_hat - x).square().sum()
            values.append(float(parts.bits + rd_lambda * squares) / (x.shape[2] * x.shape[3]))
        found[structure] = float(np.mean(values))
    return found


def table(losses_of: dict[Structure, float], complexity: Callable[[Structure], float]) -> list[Entry]:
    """Entries in the order of `losses_of`."""
    return [Entry(structure, complexity(structure), loss) for structure, loss in losses_of.items()]


def even_targets(most: float, least: float, count: int) -> list[float]:
    """Complexities of the levels between the largest and the smallest, evenly spaced."""
    return [most - k / (count - 1) * (most - least) for k in range(1, count - 1)]


def find_levels(entries: Sequence[Entry], count: int = 8, targets: Sequence[float] | None = None) -> list[Entry]:
    """The published rule: for each target the structure of least loss that costs no more; the first is the most
    complex.

    Args:
        entries: beginning with the smallest and the largest structure (`all_structures`).
        count: levels; the first and the last are the largest and the smallest structure.
        targets: complexities of all levels instead.

    Raises:
        ConfigError: the largest structure is not both more complex and better than the smallest, or a target that no
            structure meets.
    """
    smallest, largest = entries[0], entries[1]
    if not (smallest.complexity < largest.complexity and largest.loss < smallest.loss):
        raise ConfigError("the largest structure must cost more and lose less than the smallest")
    if targets is not None:
        return [_best_within(entries, target, smallest) for target in targets]
    between = even_targets(largest.complexity, smallest.complexity, count)
    return [largest, *(_best_within(entries, target, smallest) for target in between), smallest]


def _best_within(entries: Sequence[Entry], target: float, start: Entry) -> Entry:
    """Of equally good ones the last."""
    if start.complexity > target:
        raise ConfigError(f"no structure costs less than {start.complexity:g}; the target is {target:g}")
    best = start
    for entry in entries:
        if entry.complexity <= target and entry.loss <= best.loss:
            best = entry
    return best


def iterative_levels(entries: Sequence[Entry], count: int = 8) -> list[Entry]:
    """A search without a full table's products: from the largest, the step down that loses least for what it saves."""
    known = {entry.structure: entry for entry in entries}
    smallest, at = entries[0], entries[1]
    path = [at]
    while at.structure != smallest.structure:
        below = [known[s] for s in _narrower(at.structure) if s in known]
        at = min(below, key=lambda e: (e.loss - at.loss) / max(at.complexity - e.complexity, 1e-12))
        path.append(at)
    targets = even_targets(entries[1].complexity, smallest.complexity, count)
    between = [next(entry for entry in path if entry.complexity <= target) for target in targets]
    return [entries[1], *between, smallest]


def _narrower(s: Structure) -> list[Structure]:
    """Structures with one choice one step further."""
    choices = s.choices
    return [Structure(*(c + (i == at) for i, c in enumerate(choices))) for at in range(len(choices))]


def pareto_front(entries: Iterable[Entry]) -> list[Entry]:
    """Entries that no other one beats in both respects, the most complex first."""
    front: list[Entry] = []
    for entry in sorted(entries, key=lambda e: (e.complexity, e.loss)):
        if not front or entry.loss < front[-1].loss:
            front.append(entry)
    return front[::-1]


def spread(costs: Sequence[float], count: int) -> list[int]:
    """Places of `count` costs, from the first to the last, whose ratios are as even as can be; equal ones only where
    there are fewer than `count`.

    Args:
        costs: falling, all above 0.
        count: 2 or more.
    """
    logs = np.log(costs)
    # loss[j]: the least sum of squared steps that ends at cost j; steps go to the same cost or a later one.
    squares = np.triu((logs[:, None] - logs) ** 2) + np.tril(np.full((len(logs),) * 2, np.inf), -1)
    loss, came = squares[0], []
    for _ in range(count - 2):
        every = loss[:, None] + squares
        came.append(every.argmin(0))
        loss = every.min(0)
    places = [len(logs) - 1]
    for before in reversed(came):
        places.append(int(before[places[-1]]))
    return [0, *reversed(places)]


def searched(weights: Weights, pictures: Sequence[np.ndarray], rd_lambda: float) -> Weights:
    """The same weights with the structures that no other one beats in complexity and loss on these pictures.

    Args:
        weights: the model.
        pictures: (C, H, W) uint8; only the middle of at most 256 x 256 is looked at.
        rd_lambda: weight of the squared error that the model was trained with.
    """
    middles = (to_tensor([_middle(picture)], STRIDE) for picture in pictures)
    costs = Complexity(weights.network)
    entries = table(losses(weights.network, middles, rd_lambda), lambda s: costs.cost(s).total)
    return replace(weights, front=tuple(entry.structure for entry in pareto_front(entries)))


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = (max(0, n - LARGEST) // 2 for n in picture.shape[1:])
    return picture[:, top : top + LARGEST, left : left + LARGEST]
