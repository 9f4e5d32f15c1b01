"""Weights files: safetensors with a description inside. Nothing here runs code from a file or loads torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from cbench.errors import ConfigError, DataNotFoundError
from cbench.files.atomic import atomic_write

FOLDER = Path(__file__).parent / "weights"
"""Where the weights lie that come with the package."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One weights file that comes with the package, and where it comes from."""

    codec: str
    """Name of the codec that uses it."""
    file: str
    """File name inside `FOLDER`."""
    paper: str
    """Identifier of the paper that the network is from."""
    trained_on: str
    """Data set and split; never the one that a table reports."""
    licence: str

    @property
    def path(self) -> Path:
        """Where the file is."""
        return FOLDER / self.file


SHIPPED: dict[str, Weights] = {
    "arib_bps.cifar10": Weights(
        codec="arib_bps.cifar10",
        file="arib_bps-cifar10.safetensors",
        paper="Learned Lossless Image Compression based on Bit Plane Slicing, CVPR 2024",
        trained_on="CIFAR-10, training split",
        licence="MIT",
    ),
    "arib_bps.pyramid": Weights(
        codec="arib_bps.pyramid",
        file="arib_bps-pyramid.safetensors",
        paper="beside: Learned Lossless Image Compression based on Bit Plane Slicing, CVPR 2024",
        trained_on="CIFAR-10, photographs, ImageNet photographs at 64x64; training splits",
        licence="MIT",
    ),
    "basic.photos-1": Weights(
        codec="basic.photos-1",
        file="basic-photos-1.safetensors",
        paper="BaSIC: BayesNet Structure Learning for Computational Scalable Neural Image Compression, ECCV 2024",
        trained_on="119 photographs, training split",
        licence="MIT",
    ),
    "basic.photos-3": Weights(
        codec="basic.photos-3",
        file="basic-photos-3.safetensors",
        paper="BaSIC: BayesNet Structure Learning for Computational Scalable Neural Image Compression, ECCV 2024",
        trained_on="119 photographs, training split",
        licence="MIT",
    ),
    "fsar.ar": Weights(
        codec="fsar.ar",
        file="fsar-ar.safetensors",
        paper="after: Finite-State Autoregressive Entropy Coding, ICLR 2024",
        trained_on="CIFAR-10, training split",
        licence="MIT",
    ),
    "fsar.cifar10": Weights(
        codec="fsar.cifar10",
        file="fsar-cifar10.safetensors",
        paper="Finite-State Autoregressive Entropy Coding, ICLR 2024",
        trained_on="CIFAR-10, training split",
        licence="MIT",
    ),
    "linerwkv.s": Weights(
        codec="linerwkv.s",
        file="linerwkv-s.safetensors",
        paper="Onboard deep lossless and near-lossless predictive coding of hyperspectral images, TGRS 2024",
        trained_on="three AVIRIS cubes and one EnMAP cube, training split",
        licence="MIT",
    ),
    "linerwkv.xs": Weights(
        codec="linerwkv.xs",
        file="linerwkv-xs.safetensors",
        paper="Onboard deep lossless and near-lossless predictive coding of hyperspectral images, TGRS 2024",
        trained_on="three AVIRIS cubes and one EnMAP cube, training split",
        licence="MIT",
    ),
    "tbtc.conv-xs-1": Weights(
        codec="tbtc.conv-xs-1",
        file="tbtc-conv-xs-1.safetensors",
        paper="Transformer-based Transform Coding, ICLR 2022",
        trained_on="photographs, training split",
        licence="MIT",
    ),
    "tbtc.conv-xs-2": Weights(
        codec="tbtc.conv-xs-2",
        file="tbtc-conv-xs-2.safetensors",
        paper="Transformer-based Transform Coding, ICLR 2022",
        trained_on="photographs, training split",
        licence="MIT",
    ),
    "tbtc.conv-xs-3": Weights(
        codec="tbtc.conv-xs-3",
        file="tbtc-conv-xs-3.safetensors",
        paper="Transformer-based Transform Coding, ICLR 2022",
        trained_on="photographs, training split",
        licence="MIT",
    ),
    "tbtc.swin-xs-1": Weights(
        codec="tbtc.swin-xs-1",
        file="tbtc-swin-xs-1.safetensors",
        paper="Transformer-based Transform Coding, ICLR 2022",
        trained_on="photographs, training split",
        licence="MIT",
    ),
}


def shipped(codec: str) -> Path:
    """Path of the weights that come with the package for `codec`.

    Raises:
        DataNotFoundError: there are none, or the file is not there.
    """
    entry = SHIPPED.get(codec)
    if entry is None:
        raise DataNotFoundError(f"no weights come with cbench for {codec}; give a weights file")
    if not entry.path.is_file():
        raise DataNotFoundError(f"the weights of {codec} are not installed: {entry.path} does not exist")
    return entry.path


def save_weights(path: Path | str, state_dict: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write tensors and a description to a safetensors file; an existing file is replaced in one step.

    Args:
        path: file to write, by custom `*.safetensors`.
        state_dict: name -> array or tensor on any device.
        metadata: how these weights came about; values are stored as text.

    Raises:
        ConfigError: a tensor has a dtype that numpy does not know.
    """
    arrays = {name: _array(name, state_dict[name]) for name in sorted(state_dict)}
    data = safetensors.numpy.save(arrays, {key: str(value) for key, value in sorted(metadata.items())})
    with atomic_write(Path(path), force=True) as temporary:
        temporary.write_bytes(data)


def load_weights(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file: (name -> array, description).

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is something else, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, dict(file.metadata() or {})
    except (SafetensorError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file: {error}") from None


def fingerprint(state_dict: Mapping[str, Any]) -> bytes:
    """Four bytes that tell weights apart: the start of SHA-256 over sorted names, dtypes, shapes and
    values.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        array = _array(name, state_dict[name])
        digest.update(f"{name}\n{array.dtype.name}\n{array.shape}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()[:4]


def _array(name: str, value: Any) -> np.ndarray:
    """A C-ordered array of an array or a torch tensor; tensors are known by their methods, as torch may be
    absent.
    """
    if not isinstance(value, np.ndarray) and callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except TypeError as error:
        raise ConfigError(f"tensor {name} cannot be saved: {error}") from None
    if array.dtype == object:
        raise ConfigError(f"tensor {name} is not an array of numbers")
    return array if array.flags.c_contiguous else array.copy()
