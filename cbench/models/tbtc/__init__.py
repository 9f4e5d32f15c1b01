"""Transformer-based transform coding: lossy coding of RGB pictures. See README.md in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cbench.models.tbtc.config import TbtcConfig, TbtcTraining

if TYPE_CHECKING:
    from cbench.models.tbtc.codec import TbtcCodec
    from cbench.models.tbtc.train import TbtcModule

__all__ = ["TbtcConfig", "TbtcTraining", "build", "module"]


def build(name: str, weights: Path | None, device: str, threads: int, *, quality: int = 0) -> TbtcCodec:
    """The codec `name` with a weights file, for `CodecSpec.build`; torch is imported when it is called, not before."""
    from cbench.models.tbtc.codec import open_shipped

    return open_shipped(name, weights, device, threads).with_quality(quality)


def module(config: TbtcTraining) -> TbtcModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.tbtc.train import TbtcModule

    return TbtcModule(config)
