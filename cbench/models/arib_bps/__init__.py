"""Bit-plane slicing with autoregressive initial bits (ArIB-BPS): lossless coding of pictures. See README.md here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbench.models.arib_bps.config import AribConfig, AribTraining

if TYPE_CHECKING:
    from cbench.models.arib_bps.train import AribModule

__all__ = ["AribConfig", "AribTraining", "module"]


def module(config: AribTraining) -> AribModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.arib_bps.train import AribModule

    return AribModule(config)
