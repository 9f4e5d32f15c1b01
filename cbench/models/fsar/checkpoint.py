"""Weights from and to files: ours (safetensors) and the original's (`last.ckpt` of Lightning, or a bare state dict).

Keys differ by prefixes and by one number: the original's residual blocks count the ReLU in front of them.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cbench.errors import ConfigError, DataNotFoundError
from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.network import FsarNetwork
from cbench.zoo.weights import fingerprint, load_weights, save_weights

COUNTS = "prior_counts"
"""Key of the symbols' frequencies in our files, beside the network's own keys."""

_BACKBONE = re.compile(r"prior_model\.(encoder|decoder)\.\1\.(.+)")
_BLOCK = re.compile(r"\.block\.(\d+)\.")
_CODEBOOK = "prior_model.prior_coder.embedding"
_IGNORED = ("prior_model.prior_coder.embedding_variance",)


@dataclass(frozen=True)
class Weights:
    """A network in evaluation mode and the integer prior of its symbols."""

    network: FsarNetwork
    counts: np.ndarray
    """(L, K) uint32, weights of the symbols of each group."""

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        tensors = self.network.state_dict()
        state = {name: tensors[name].cpu().numpy() for name in tensors if not name.endswith("num_batches_tracked")}
        del state["prior_logits"]
        return state | {COUNTS: self.counts}

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original's keys to ours; "model." in front (Lightning) is dropped.

    Raises:
        ConfigError: a key belongs to a model other than the `V2DVQ` baseline.
    """
    ours = {}
    for key, value in state.items():
        name = key.removeprefix("model.")
        if match := _BACKBONE.fullmatch(name):
            rest = _BLOCK.sub(lambda m: f".block.{int(m[1]) - 1}.", match[2])
            ours[f"{match[1]}.{rest}"] = value
        elif name == _CODEBOOK:
            ours["quantizer.codebook"] = value
        elif name not in _IGNORED:
            raise ConfigError(f"the checkpoint's {key} is no part of the V2DVQ baseline model")
    return ours


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our keys to the original's; what the original does not have (the static prior) is left out."""
    theirs = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part in ("encoder", "decoder"):
            rest = _BLOCK.sub(lambda m: f".block.{int(m[1]) + 1}.", rest)
            theirs[f"prior_model.{part}.{part}.{rest}"] = value
        elif key == "quantizer.codebook":
            theirs[_CODEBOOK] = value
    return theirs


def config_of(state: Mapping[str, Any]) -> FsarConfig:
    """Read the sizes off a state dict with our keys.

    Raises:
        ConfigError: it is not that of a V2DVQ model.
    """
    try:
        groups, codes, embedding = state["quantizer.codebook"].shape
    except (KeyError, ValueError):
        raise ConfigError("these are not the weights of an FSAR model: there is no codebook") from None
    layers = {key.split(".")[1] for key in state if key.startswith("decoder.") and state[key].ndim == 4}
    up = [i for i in layers if f"decoder.{i}.weight" in state and state[f"decoder.{i}.weight"].shape[-1] == 4]
    blocks = {key.split(".")[1] for key in state if key.startswith("decoder.") and ".block." in key}
    return FsarConfig(
        channels=groups * embedding, downsamples=len(up), residuals=len(blocks), groups=groups, codes=codes
    )


def load(path: Path) -> Weights:
    """Read a weights file, ours or the original's; nothing in it is executed.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    if not path.is_file():
        raise DataNotFoundError(f"there is no weights file {path}")
    with path.open("rb") as file:
        start = file.read(2)
    if start in (b"PK", b"\x80\x02"):  # what torch.save writes: a zip archive, formerly a pickle
        return build(from_original(_load_original(path)))
    arrays, _ = load_weights(path)
    return build({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def save(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write our weights file; `metadata` says how the weights came about."""
    save_weights(path, weights.state, metadata)


def build(state: Mapping[str, Tensor]) -> Weights:
    """A network from a state dict with our keys; without counts the prior is uniform, as in the original.

    Raises:
        ConfigError: tensors are missing, left over, or of the wrong shape.
    """
    config = config_of(state)
    network = FsarNetwork(config)
    tensors = {name: value for name, value in state.items() if name != COUNTS}
    tensors.setdefault("prior_logits", torch.zeros(config.groups, config.codes))
    expected = {name: value for name, value in network.state_dict().items()}
    for name in expected:
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, expected[name])
    wrong = sorted(
        name
        for name in expected.keys() | tensors.keys()
        if name not in expected or name not in tensors or expected[name].shape != tensors[name].shape
    )
    counts = state.get(COUNTS, torch.ones(config.groups, config.codes)).numpy().astype(np.uint32)
    if wrong or counts.shape != (config.groups, config.codes):
        raise ConfigError(f"these weights do not fit an FSAR model: {', '.join(wrong[:3]) or COUNTS}")
    network.load_state_dict(tensors)
    return Weights(network.eval().requires_grad_(False), counts)


def _load_original(path: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is not a checkpoint of plain tensors: {reason}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds no state dict")
    return state
