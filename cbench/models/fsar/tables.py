"""From the prior's networks to integer tables: the networks are evaluated once for every context, then no more.

The table's rows are stored with the model, as integers: whoever decodes uses the very same ones, whatever his machine
makes of an exponential function. Categories that the mask switches off have no symbol; rows that no position of a
picture can ask for are not made, and equal rows are stored once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch.nn import functional

from cbench.coding import Tables
from cbench.coding.states import Offset, StateTables
from cbench.errors import ConfigError
from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.network import FsarNetwork

TOTAL = 1 << 16
"""Integer weights of a row add up to this."""
MOST_ROWS = 1 << 18
"""Above this number of contexts, only those that training pictures show get rows of their own."""
MOST_CONTEXTS = 1 << 27
"""More contexts than this have no tables, whose rows' numbers alone would take half a gigabyte."""
BLOCK = 1 << 14
"""Contexts evaluated at a time."""


@dataclass(frozen=True)
class PriorTables:
    """The prior as integers."""

    weights: np.ndarray
    """(T, R) uint16: rows over the R categories that are used."""
    table_of: np.ndarray
    """(L, (R + 1)^W) uint16 or uint32: the row of each context; see `cbench.coding.StateTables`."""
    kept: np.ndarray
    """(R,) uint16: the category of each symbol."""
    context: tuple[Offset, ...]

    def state_tables(self) -> StateTables:
        """The form that the coder takes."""
        return StateTables(self.weights, self.table_of, self.context)

    def reduce(self, symbols: np.ndarray) -> np.ndarray:
        """Categories 0..K-1 -> symbols 0..R-1, int32; the masked arg-max gives no others."""
        number = np.full(int(self.kept.max()) + 1, -1, np.int32)
        number[self.kept] = np.arange(len(self.kept))
        return number[symbols]

    def expand(self, symbols: np.ndarray) -> np.ndarray:
        """Inverse of `reduce`, int64."""
        return self.kept.astype(np.int64)[symbols]


def reaching(context: tuple[Offset, ...], groups: int) -> tuple[Offset, ...]:
    """The neighbours that lie inside a picture for some symbol of so many groups; at least one."""
    return tuple(offset for offset in context if -offset[0] < groups) or context[:1]


def has_tables(config: FsarConfig) -> bool:
    """Whether the contexts are few enough for tables, if all categories are used."""
    neighbours = len(reaching(config.context, config.groups))
    return config.groups * (config.codes + 1) ** neighbours <= MOST_CONTEXTS


def outside_patterns(context: tuple[Offset, ...], group: int) -> set[tuple[bool, ...]]:
    """Which neighbours can be outside the picture at the same time, for symbols of a group."""
    rows, columns = (range(1 - min(o[axis] for o in context)) for axis in (1, 2))
    return {
        tuple(group + dc < 0 or y + dy < 0 or x + dx < 0 for dc, dy, dx in context) for y, x in product(rows, columns)
    }


def states_of(contexts: np.ndarray, states: int, neighbours: int) -> np.ndarray:
    """Context numbers (N,) -> the neighbours' states (N, W), 0 = outside."""
    digits = [contexts // states**power % states for power in range(neighbours - 1, -1, -1)]
    return np.stack(digits, -1)


def contexts_of(symbols: np.ndarray, context: tuple[Offset, ...], states: int) -> np.ndarray:
    """The context number of every symbol (B, L, h, w) of the reduced alphabet; int64, same shape."""
    number = np.zeros(symbols.shape, np.int64)
    shape = symbols.shape[1:]
    for offset in context:
        source = tuple(slice(0, max(n + d, 0)) for n, d in zip(shape, offset, strict=True))
        target = tuple(slice(-d, None) for d in offset)
        state = np.zeros(symbols.shape, np.int64)
        state[(slice(None), *target)] = symbols[(slice(None), *source)] + 1
        number = number * states + state
    return number


def kept_categories(network: FsarNetwork) -> np.ndarray:
    """(R,) the categories that the mask leaves, all without one."""
    mask = network.quantizer.mask
    if mask is None:
        return np.arange(network.config.codes)
    return np.flatnonzero(mask.shares().detach().cpu().numpy() > 0)


def log_probabilities(network: FsarNetwork, group: int, states: np.ndarray, kept: np.ndarray) -> torch.Tensor:
    """(N, R) log-probabilities of the kept categories for neighbours' states (N, W), in the network's own precision."""
    codebook = network.quantizer.codebook
    inputs = []
    for (dc, _, _), state in zip(network.config.context, torch.from_numpy(states).T, strict=True):
        # A neighbour in another group stands for a vector of that group's codebook, as in training.
        vectors = codebook[max(group + dc, 0), torch.from_numpy(kept)]
        inputs.append(functional.pad(vectors, (0, 0, 1, 0))[state])
    logits = network.prior.logits(torch.cat(inputs, -1), group)
    if network.quantizer.mask is not None:
        logits = network.quantizer.mask(logits)
    logits = functional.log_softmax(logits, -1)[:, torch.from_numpy(kept)]
    return functional.log_softmax(logits, -1)


@torch.no_grad()
def prior_tables(network: FsarNetwork, seen: np.ndarray | None = None) -> PriorTables:
    """Evaluate the prior's networks for every context and round the result to integers.

    Args:
        network: in evaluation mode, with a context.
        seen: as in `context_tables`.
    """
    config, kept = network.config, kept_categories(network)
    context = reaching(config.context, config.groups)
    columns = [config.context.index(offset) for offset in context]

    def evaluate(group: int, states: np.ndarray) -> torch.Tensor:
        every = np.zeros((len(states), len(config.context)), states.dtype)
        every[:, columns] = states
        return log_probabilities(network, group, every, kept)

    return context_tables(config.groups, context, kept, evaluate, seen)


def context_tables(
    groups: int,
    context: tuple[Offset, ...],
    kept: np.ndarray,
    evaluate: Callable[[int, np.ndarray], torch.Tensor],
    seen: np.ndarray | None = None,
) -> PriorTables:
    """Integer tables of a function of the neighbours' states.

    Args:
        groups: L.
        context: the W neighbours.
        kept: (R,) categories that are used.
        evaluate: a group and states (N, W) -> log-probabilities (N, R).
        seen: (B, L, h, w) symbols of training pictures, categories 0..K-1. Needed where there are so many contexts that
            only those with symbols seen get rows; the others use the row without the last neighbours.

    Raises:
        ConfigError: more contexts than `MOST_CONTEXTS`.
    """
    states, width = len(kept) + 1, len(context)
    if groups * states**width > MOST_CONTEXTS:
        raise ConfigError(
            f"a prior with {width} neighbours of {states - 1} symbols has {groups * states**width} contexts, and the "
            f"tables take {MOST_CONTEXTS} at most: use fewer neighbours, fewer codes, or a mask over them (alpha)"
        )
    tables = PriorTables(np.empty((0, 0)), np.empty((0, 0)), kept.astype(np.uint16), context)
    occurring = None
    if groups * states**width > MOST_ROWS:
        if seen is None:
            seen = np.empty((0, groups, 1, 1), np.int64)
        occurring = contexts_of(tables.reduce(seen), context, states)
    rows: list[np.ndarray] = []
    table_of = np.zeros((groups, states**width), np.int32)
    for group in range(groups):
        numbers, source = _contexts(context, groups, group, states, None if occurring is None else occurring[:, group])
        table_of[group] = source + sum(map(len, rows))
        for start in range(0, len(numbers), BLOCK):
            block = states_of(numbers[start : start + BLOCK], states, width)
            rows.append(integer_weights(evaluate(group, block).double().cpu().numpy()))
    weights, inverse = _unique(np.concatenate(rows))
    table_of = inverse[table_of]
    small = np.uint16 if len(weights) <= 1 << 16 else np.uint32
    return PriorTables(weights, table_of.astype(small), tables.kept, context)


def merged(tables: PriorTables, budget: float) -> PriorTables:
    """Contexts that differ in the last neighbour share a row where that costs little.

    Args:
        tables: of any order.
        budget: bits a symbol that a context may cost more on average if its own row is right, KL(own || shared).
            Among the contexts that differ in the last neighbour, the row that can stand for most others does so first.

    Raises:
        ConfigError: a negative budget.
    """
    if budget < 0:
        raise ConfigError(f"a budget of {budget} bits a symbol is negative")
    frequencies = Tables.from_weights(tables.weights).frequencies.astype(np.float32)
    share = frequencies / frequencies.sum(1, keepdims=True)
    logs = np.log2(np.maximum(share, np.finfo(np.float32).tiny))
    states = len(tables.kept) + 1
    table_of = tables.table_of.astype(np.int64).reshape(-1, states)
    for contexts in table_of:
        own = np.unique(contexts)
        cost = (share[own] * logs[own]).sum(1)[:, None] - share[own] @ logs[own].T
        covers = cost <= budget
        np.fill_diagonal(covers, True)
        standing = np.arange(len(own))
        left = np.ones(len(own), bool)
        while left.any():
            leader = int(np.argmax((covers & left[:, None]).sum(0)))
            followers = covers[:, leader] & left
            standing[followers] = leader
            left &= ~followers
        contexts[:] = own[standing][np.searchsorted(own, contexts)]
    used, inverse = np.unique(table_of, return_inverse=True)
    small = np.uint16 if len(used) <= 1 << 16 else np.uint32
    return PriorTables(
        tables.weights[used], inverse.reshape(tables.table_of.shape).astype(small), tables.kept, tables.context
    )


def integer_weights(log_probability: np.ndarray) -> np.ndarray:
    """(N, R) log-probabilities -> uint16 weights that add up to 65,536, so that the coder's table rule keeps them.

    Rounding to the nearest here, with the rest on the likeliest symbol, keeps the mean cost of rare symbols; the rule
    alone would round them down. Rows too flat for that are left to the rule.
    """
    weights = np.maximum(np.rint(np.exp(log_probability) * TOTAL), 1)
    rest = TOTAL - weights.sum(-1)
    rows, likeliest = np.arange(len(weights)), weights.argmax(-1)
    largest = weights[rows, likeliest]
    weights[rows, likeliest] += np.where(largest > 4 * np.abs(rest), rest, 0)
    return np.minimum(weights, TOTAL - 1).astype(np.uint16)


def _contexts(
    context: tuple[Offset, ...], groups: int, group: int, states: int, occurring: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The contexts of a group that get a row, and for every context the position of its row among them."""
    total = states ** len(context)
    if occurring is None:
        outside = states_of(np.arange(total), states, len(context)) == 0
        patterns = np.array(sorted(outside_patterns(context, group)))
        wanted = np.flatnonzero((outside[:, None] == patterns).all(-1).any(-1))
        source = np.zeros(total, np.int64)
    else:
        step = states  # contexts that differ in the last neighbour; in more of them where there are too many still
        while groups * total // step > MOST_ROWS and step < total:
            step *= states
        wanted = np.union1d(np.arange(0, total, step), occurring)
        source = np.searchsorted(wanted, np.arange(total) // step * step)
    source[wanted] = np.arange(len(wanted))
    return wanted, source


def _unique(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows, and the number of each row among them."""
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], inverse.reshape(-1)
