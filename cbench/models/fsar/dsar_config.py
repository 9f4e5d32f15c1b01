"""The sizes of the data-space models, and the published ones; see `dsar`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cbench.coding.states import Offset
from cbench.errors import ConfigError
from cbench.models.fsar.config import NEIGHBOURS
from cbench.zoo.checkpoints import later


@dataclass(frozen=True, kw_only=True)
class DsarConfig:
    """The sizes of a data-space model."""

    context: tuple[Offset, ...] = NEIGHBOURS["l"]
    """Neighbours as (colour, row, column)."""
    values: int = 256
    """Pixel values are below this."""
    expansion: int = 2
    """Factor of both hidden widths ("mlp")."""
    form: Literal["mlp", "table", "sum", "tucker", "masked"] = later("mlp")
    """What gives the distributions; see `dsar_networks`. "masked" takes no `context`, but a kernel."""
    rank: int = later(16)
    """Of each side of the core ("tucker")."""
    kernel: int = later(3)
    """Side of the convolution ("masked")."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 1 <= len(self.context) <= 3 or not 2 <= self.values <= 256:
            raise ConfigError("a data-space model has one to three neighbours and 2 to 256 values")
        if self.form == "table" and len(self.context) > 2:
            raise ConfigError("a data-space model with a free table has one or two neighbours")
        if self.rank < 1 or self.kernel not in (3, 5):
            raise ConfigError("a data-space model has a rank of at least 1 and a kernel of 3 or 5")


def dsar(order: int) -> DsarConfig:
    """`FSAR-O1S`, `-O2S` and `-O3S` of the paper's data-space experiment.

    Raises:
        ConfigError: another order than 1, 2 or 3.
    """
    names = {1: "l", 2: "lt", 3: "clt"}
    if order not in names:
        raise ConfigError(f"there are data-space models of order 1 to 3, not {order}")
    return DsarConfig(context=NEIGHBOURS[names[order]])


def dsar_form(order: int, form: Literal["table", "sum", "tucker"]) -> DsarConfig:
    """The same with free logits in place of networks, whole or decomposed."""
    return replace(dsar(order), form=form)


def dsar_maskconv(kernel: int) -> DsarConfig:
    """`maskconv3x3` and `maskconv5x5` on the pixels: every position before, up to kernel // 2 away."""
    return DsarConfig(form="masked", kernel=kernel)


@dataclass(frozen=True, kw_only=True)
class DsarTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: DsarConfig = DsarConfig()
    every: int = 1
    """Learn from every n-th pixel; 1: from all (the paper)."""
