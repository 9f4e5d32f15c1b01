"""The adaptive hyperspectral codec, byte format 1: `rls.fast`, `rls.e5`, `rls.slow`.

Nothing here but names: `cbench.coding.lines` codes blocks of lines with the experts of `config.py`.
"""

from __future__ import annotations

from pathlib import Path

from cbench.coding.lines import Experts, LinesCodec
from cbench.errors import ConfigError
from cbench.models.rls import config as configs


class RlsCodec(LinesCodec):
    """Adaptive experts and nothing else."""


def _build(name: str, experts: Experts, weights: Path | None, threads: int) -> RlsCodec:
    if weights is not None:
        raise ConfigError(f"{name} learns while it codes and takes no weights ({weights.name})")
    return RlsCodec(name, experts, threads=threads)


def fast(weights: Path | None, device: str, threads: int) -> RlsCodec:
    """`rls.fast`: two experts; the default for cubes."""
    return _build("rls.fast", configs.fast(), weights, threads)


def e5(weights: Path | None, device: str, threads: int) -> RlsCodec:
    """`rls.e5`: five experts."""
    return _build("rls.e5", configs.e5(), weights, threads)


def slow(weights: Path | None, device: str, threads: int) -> RlsCodec:
    """`rls.slow`: six experts."""
    return _build("rls.slow", configs.slow(), weights, threads)
