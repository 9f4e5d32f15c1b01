"""Finite-State Autoregressive entropy coding: lossless coding of RGB pictures. See README.md in this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbench.models.fsar.config import FsarConfig, FsarTraining

if TYPE_CHECKING:
    from cbench.models.fsar.train import FsarModule

__all__ = ["FsarConfig", "FsarTraining", "module"]


def module(config: FsarTraining) -> FsarModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.fsar.train import FsarModule

    return FsarModule(config)
