"""Weights files of the pyramid: the network's tensors in half precision, and its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cbench.errors import ConfigError
from cbench.models.arib_bps.pyramid import Pyramid
from cbench.models.arib_bps.pyramid_config import PyramidConfig
from cbench.zoo.checkpoints import CONFIG, check_shapes, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights


@dataclass(frozen=True)
class Weights:
    """A network whose weights are numbers of half precision."""

    network: Pyramid

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        tensors = self.network.state_dict()
        state = {name: value.cpu().numpy().astype(np.float16) for name, value in tensors.items()}
        state[CONFIG] = pack_config(self.network.config)
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
    network = Pyramid(unpack_config(state, PyramidConfig))
    del state[CONFIG]
    check_shapes("a pyramid", network.state_dict(), state)
    network.load_state_dict({name: torch.from_numpy(value).float() for name, value in state.items()})
    return build(network)
