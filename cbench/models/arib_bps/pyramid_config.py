"""Sizes and training of the pyramid as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cbench.errors import ConfigError

if TYPE_CHECKING:
    from cbench.models.arib_bps.pyramid_train import PyramidModule

SMALL, PHOTOGRAPH = 0, 1
"""Kinds of pictures, each with biases of its own."""
THUMBNAIL = 64
"""Pictures with no longer side are taken for the small kind."""


@dataclass(frozen=True, kw_only=True)
class PyramidConfig:
    """Sizes of the network."""

    channels: int = 64
    """C: channels of the state."""
    blocks: int = 2
    """Residual blocks of each step."""
    hidden: int = 48
    """Hidden units of each colour's head."""
    mixtures: int = 4
    """Logistic distributions that are mixed."""
    levels: int = 6
    """Levels with a bias of their own, counted from the finest; coarser ones use the last."""
    kinds: int = 2
    """Kinds of pictures."""

    def __post_init__(self) -> None:
        """Check the ranges that the coder and the format have."""
        if min(self.channels, self.hidden, self.levels) < 1 or self.blocks < 0:
            raise ConfigError("a pyramid needs channels, hidden and levels >= 1 and blocks >= 0")
        if not 1 <= self.mixtures <= 64 or self.kinds != PHOTOGRAPH + 1:
            raise ConfigError(f"a pyramid mixes 1 to 64 distributions and knows {PHOTOGRAPH + 1} kinds of pictures")


@dataclass(frozen=True, kw_only=True)
class PyramidTraining:
    """Network and what its training pictures are."""

    model: PyramidConfig = field(default_factory=PyramidConfig)
    kind: int | None = SMALL
    """Which biases the training pictures train; None: it depends on their size, as in the codec."""
    muon: float = 6.0
    """Learning rate of the weights that Muon trains, relative to that of all others."""

    def kind_of(self, height: int, width: int) -> int:
        """Kind of pictures of that size."""
        by_size = SMALL if max(height, width) <= THUMBNAIL else PHOTOGRAPH
        return by_size if self.kind is None else self.kind


def module(config: PyramidTraining) -> PyramidModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.arib_bps.pyramid_train import PyramidModule

    return PyramidModule(config)
