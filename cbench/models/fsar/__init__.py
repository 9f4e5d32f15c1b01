"""Finite-State Autoregressive entropy coding: lossless coding of RGB pictures. See README.md in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cbench.models.fsar.config import FsarConfig, FsarTraining
from cbench.models.fsar.dsar_config import DsarTraining

if TYPE_CHECKING:
    from cbench.models.fsar.dsar_train import DsarModule
    from cbench.models.fsar.original_grid import OriginalGrid
    from cbench.models.fsar.train import FsarModule

__all__ = ["DsarTraining", "FsarConfig", "FsarTraining", "build_original_grid", "dsar_module", "module"]


def module(config: FsarTraining) -> FsarModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.fsar.train import FsarModule

    return FsarModule(config)


def dsar_module(config: DsarTraining) -> DsarModule:
    """The training module of the data-space models, likewise."""
    from cbench.models.fsar.dsar_train import DsarModule

    return DsarModule(config)


def build_original_grid(weights: Path, device: str, threads: int) -> OriginalGrid:
    """For `CodecSpec.build`: a model's pixels by the original's tables; `weights`: of one with plain Gaussians."""
    from cbench.models.fsar import checkpoint
    from cbench.models.fsar.original_grid import OriginalGrid

    return OriginalGrid("fsar.original-grid", checkpoint.load(weights), device, threads)
