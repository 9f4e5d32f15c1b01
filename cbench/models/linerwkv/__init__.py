"""LineRWKV: line-by-line predictive coding of hyperspectral cubes. See README.md in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cbench.models.linerwkv.config import LineRwkvConfig, LineRwkvTraining

if TYPE_CHECKING:
    from cbench.models.linerwkv.codec import LineRwkvCodec
    from cbench.models.linerwkv.pipeline import PipelineCodec
    from cbench.models.linerwkv.train import LineRwkvModule

__all__ = ["LineRwkvConfig", "LineRwkvTraining", "build", "build_integers", "build_pipeline", "module"]


def build(size: str, weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """The codec of one size, for `CodecSpec.build`; torch is imported when it is called, not before."""
    from cbench.models.linerwkv import codec

    return codec.build(size, weights, threads)


def build_integers(size: str, weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """The codec of one size with integer products, for `CodecSpec.build`."""
    from cbench.models.linerwkv import codec

    return codec.build_integers(size, weights, threads)


def build_pipeline(size: str, weights: Path | None, device: str, threads: int) -> PipelineCodec:
    """The paper's pipeline of one size, for `CodecSpec.build`."""
    from cbench.models.linerwkv import codec

    return codec.build_pipeline(size, weights, threads)


def module(config: LineRwkvTraining) -> LineRwkvModule:
    """The training module, for `TrainSpec.module`; torch is imported when it is called, not before."""
    from cbench.models.linerwkv.train import LineRwkvModule

    return LineRwkvModule(config)
