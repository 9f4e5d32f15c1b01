"""Weights files of the pyramid: the network's tensors in half precision, and its sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cbench.errors import ConfigError
from cbench.models.arib_bps.pyramid import Pyramid
from cbench.models.arib_bps.pyramid_config import PyramidConfig
from cbench.zoo.weights import fingerprint, load_weights, save_weights

CONFIG = "config"
"""Key of the sizes as JSON (uint8)."""


@dataclass(frozen=True)
class Weights:
    """A network whose weights are numbers of half precision."""

    network: Pyramid

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        tensors = self.network.state_dict()
        state = {name: value.cpu().numpy().astype(np.float16) for name, value in tensors.items()}
        state[CONFIG] = np.frombuffer(json.dumps(asdict(self.network.config), sort_keys=True).encode(), np.uint8)
        return state

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def build(network: Pyramid) -> Weights:
    """Weights of a trained network, which is not changed: a copy of it with rounded weights.

    Raises:
        ConfigError: a weight that half precision does not hold.
    """
    copy = Pyramid(network.config)
    state = {name: value.detach().half().float() for name, value in network.state_dict().items()}
    if not all(value.isfinite().all() for value in state.values()):
        raise ConfigError("the network has weights that half precision does not hold")
    copy.load_state_dict(state)
    return Weights(copy.eval().requires_grad_(False))


def save(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write a weights file."""
    save_weights(path, weights.state, metadata)


def load(path: Path) -> Weights:
    """Read a weights file.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it holds something else.
    """
    state, _ = load_weights(path)
    try:
        config = PyramidConfig(**json.loads(state.pop(CONFIG).tobytes()))
        network = Pyramid(config)
        network.load_state_dict({name: torch.from_numpy(value).float() for name, value in state.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} holds no weights of a pyramid: {reason}") from None
    return build(network)
