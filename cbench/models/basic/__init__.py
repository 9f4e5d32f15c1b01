"""BaSIC: one lossy picture codec that runs at many complexities. See README.md in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cbench.models.basic.config import BasicConfig, BasicTraining

if TYPE_CHECKING:
    from cbench.models.basic.codec import BasicCodec
    from cbench.models.basic.train import BasicModule

__all__ = ["BasicConfig", "BasicTraining", "at_level", "module"]


def at_level(weights: Path | None, device: str, threads: int, name: str = "", level: int = 0) -> BasicCodec:
    """The codec called `name` at a level of complexity, for `CodecSpec.build`."""
    from cbench.models.basic import codec

    return codec.open_codec(name, weights, device, threads).with_complexity(level)


def module(config: BasicTraining) -> BasicModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.basic.train import BasicModule

    return BasicModule(config)
