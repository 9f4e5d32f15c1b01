"""Weights from and to files: ours (safetensors) and the published ones (`rwkv-final.pth`, or Lightning checkpoints).

The network's attributes have the published names, so reading the originals is a matter of the file format alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cbench.errors import ConfigError, DataNotFoundError
from cbench.models.linerwkv.config import LineRwkvConfig
from cbench.models.linerwkv.network import LineRwkv
from cbench.zoo.weights import fingerprint, load_weights, save_weights


@dataclass(frozen=True)
class Weights:
    """A network in evaluation mode."""

    network: LineRwkv

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Every tensor as float32, under its published name."""
        return {name: value.float().cpu().numpy() for name, value in self.network.state_dict().items()}

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def config_of(state: Mapping[str, Any]) -> LineRwkvConfig:
    """Read the sizes off a state dict.

    Raises:
        ConfigError: it is not that of a LineRWKV network, or its channels differ between layers.
    """
    try:
        features = state["encoder.conv_in.weight"].shape[0]
    except (KeyError, AttributeError, IndexError):
        raise ConfigError("these are not the weights of a LineRWKV network: there is no line encoder") from None
    return LineRwkvConfig(
        features=features,
        encoder_layers=1 + _count(state, "encoder.convs."),
        line_blocks=_count(state, "blocks_lines."),
        band_blocks=_count(state, "blocks_bands."),
        decoder_layers=1 + _count(state, "decoder.convs."),
    )


def load(path: Path) -> Weights:
    """Read a weights file, ours or a published one; nothing in it is executed.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    if not path.is_file():
        raise DataNotFoundError(f"there is no weights file {path}")
    with path.open("rb") as file:
        start = file.read(2)
    if start in (b"PK", b"\x80\x02"):  # what torch.save writes: a zip archive, formerly a pickle
        return build(_load_published(path))
    arrays, _ = load_weights(path)
    return build({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def save(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write our weights file; `metadata` says how the weights came about."""
    save_weights(path, weights.state, metadata)


def build(state: Mapping[str, Tensor]) -> Weights:
    """A network from a state dict.

    Raises:
        ConfigError: tensors are missing, left over, of the wrong shape, or not finite.
    """
    network = LineRwkv(config_of(state))
    expected = network.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | state.keys()
        if name not in expected or name not in state or expected[name].shape != state[name].shape
    )
    if wrong:
        raise ConfigError(f"these weights do not fit a LineRWKV network: {', '.join(wrong[:3])}")
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ConfigError(f"the weights hold values that are not finite: {broken[0]}")
    network.load_state_dict(dict(state))
    return Weights(network.eval().requires_grad_(False))


def _count(state: Mapping[str, Any], prefix: str) -> int:
    """Entries of a numbered list of layers."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _load_published(path: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is not a checkpoint of plain tensors: {reason}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds no state dict")
    return state
