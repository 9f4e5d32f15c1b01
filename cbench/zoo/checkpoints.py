"""What every model's `checkpoint.py` needs: a configuration beside the tensors, files by torch, names."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cbench.errors import ConfigError, DataNotFoundError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import Tensor

T = TypeVar("T")

CONFIG = "config"
"""Key of a model's sizes as JSON (uint8) among its tensors."""
_LATER = "later"
_TORCH = (b"PK", b"\x80\x02")
"""What a file by `torch.save` starts with: a zip archive, formerly a pickle."""


def later(default: T) -> T:
    """A configuration's field that came after weights were published: at its default it is not stored, so that those
    weights keep their fingerprint.
    """
    return field(default=default, metadata={_LATER: True})


def pack_config(config: DataclassInstance) -> np.ndarray:
    """A configuration as JSON in an array of bytes, to be stored under `CONFIG`."""
    stored = asdict(config)
    for own in fields(config):
        if _LATER in own.metadata and stored[own.name] == own.default:
            del stored[own.name]
    return np.frombuffer(json.dumps(stored, sort_keys=True).encode(), np.uint8)


def unpack_config(state: Mapping[str, Any], build: Callable[..., T]) -> T:
    """The configuration stored under `CONFIG`.

    Args:
        state: tensors or arrays by name.
        build: the configuration's class, or a function of its fields; lists come as tuples.

    Raises:
        ConfigError: there is none, it cannot be read, or it is that of another kind of model.
    """
    if CONFIG not in state:
        raise ConfigError("these weights do not say what model they are of; give a weights file made by cbench")
    try:
        fields = json.loads(bytes(np.asarray(state[CONFIG], np.uint8)))
    except ValueError as error:
        raise ConfigError(f"the weights file describes its model in a way that cannot be read: {error}") from None
    try:
        return build(**{name: _tuples(value) for name, value in fields.items()})
    except (TypeError, AttributeError, KeyError):
        raise ConfigError(
            "these weights are of another kind of model, or of a newer cbench; give the weights file of this codec"
        ) from None
    except ValueError as error:
        raise ConfigError(f"the weights file describes its model in a way that cannot be read: {error}") from None


def is_torch_file(path: Path) -> bool:
    """Whether `torch.save` wrote a file.

    Raises:
        DataNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise DataNotFoundError(f"there is no weights file {path}")
    with path.open("rb") as file:
        return file.read(2) in _TORCH


def load_torch_file(path: Path) -> dict[str, Tensor]:
    """The state dict in a file by `torch.save`, bare or inside a checkpoint; nothing in it is executed.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it holds other objects than tensors, or no state dict.
    """
    import torch

    if not path.is_file():
        raise DataNotFoundError(f"there is no weights file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is not a checkpoint of plain tensors: {reason}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds no state dict")
    return state


def check_shapes(model: str, expected: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Compare names and shapes of two state dicts.

    Args:
        model: the model's name with its article, for the message.
        expected: tensors, arrays or shapes that the network has.
        given: tensors or arrays of a file.

    Raises:
        ConfigError: some are missing, left over, or of another shape; names the first three.
    """
    wrong = sorted(
        name
        for name in expected.keys() | given.keys()
        if name not in expected or name not in given or _shape(expected[name]) != _shape(given[name])
    )
    if wrong:
        raise ConfigError(f"these weights do not fit {model}: {', '.join(wrong[:3])}")


def _shape(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else tuple(value.shape)


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
