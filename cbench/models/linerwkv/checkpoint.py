"""Weights from and to files: ours (safetensors) and the published ones (`rwkv-final.pth`, or Lightning checkpoints).

The network's attributes have the published names, so reading the originals is a matter of the file format alone. Coding
needs nothing but the numbers: torch is imported for the original files, and for the network as a module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbench.errors import ConfigError
from cbench.models.linerwkv.config import LineRwkvConfig
from cbench.zoo.checkpoints import check_shapes, is_torch_file, load_torch_file
from cbench.zoo.weights import fingerprint, load_weights, save_weights

if TYPE_CHECKING:
    from torch import Tensor

    from cbench.models.linerwkv.network import LineRwkv


@dataclass(frozen=True)
class Weights:
    """The numbers of a network."""

    config: LineRwkvConfig
    state: dict[str, np.ndarray]
    """Every tensor as float32, under its published name."""

    @cached_property
    def network(self) -> LineRwkv:
        """The network in evaluation mode."""
        import torch

        from cbench.models.linerwkv.network import LineRwkv

        network = LineRwkv(self.config)
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.state.items()})
        return network.eval().requires_grad_(False)

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def config_of(state: Mapping[str, Any]) -> LineRwkvConfig:
    """Read the sizes off a state dict.

    Raises:
        ConfigError: it is not that of a LineRWKV network, or its channels differ between layers.
    """
    try:
        features = int(state["encoder.conv_in.weight"].shape[0])
    except (KeyError, AttributeError, IndexError):
        raise ConfigError("these are not the weights of a LineRWKV network: there is no line encoder") from None
    return LineRwkvConfig(
        features=features,
        encoder_layers=1 + _count(state, "encoder.convs."),
        line_blocks=_count(state, "blocks_lines."),
        band_blocks=_count(state, "blocks_bands."),
        decoder_layers=1 + _count(state, "decoder.convs."),
    )


def shapes(config: LineRwkvConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network."""
    n = config.features
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, weight: tuple[int, ...]) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, weight[:1]

    layer("encoder.conv_in", (n, 1, 3))
    layer("encoder.norm_in", (n,))
    for part, count, taps in (("encoder", config.encoder_layers, 3), ("decoder", config.decoder_layers, 1)):
        for k in range(count - 1):
            layer(f"{part}.convs.{k}", (n, n, taps))
            layer(f"{part}.norms.{k}", (n,))
    for part in ("decoder", "bandzerodec"):
        layer(f"{part}.conv_out", (1, n, 1))
    for stack, count in (("blocks_lines", config.line_blocks), ("blocks_bands", config.band_blocks)):
        for block in (f"{stack}.{index}" for index in range(count)):
            for norm in ("ln0", "ln1", "ln2") if block.endswith(".0") else ("ln1", "ln2"):
                layer(f"{block}.{norm}", (n,))
            found |= {f"{block}.att.{name}": (n,) for name in ("time_decay", "time_first")}
            mixes = ("att.time_mix_k", "att.time_mix_v", "att.time_mix_r", "ffn.time_mix_k", "ffn.time_mix_r")
            found |= {f"{block}.{mix}": (1, 1, n) for mix in mixes}
            squares = ("att.key", "att.value", "att.receptance", "att.output", "ffn.key", "ffn.receptance", "ffn.value")
            found |= {f"{block}.{square}.weight": (n, n) for square in squares}
    return found


def load(path: Path) -> Weights:
    """Read a weights file, ours or a published one; nothing in it is executed.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    if is_torch_file(path):
        return build(load_torch_file(path))
    return build(load_weights(path)[0])


def save(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write our weights file; `metadata` says how the weights came about."""
    save_weights(path, weights.state, metadata)


def build(state: Mapping[str, Tensor] | Mapping[str, np.ndarray]) -> Weights:
    """Weights from a state dict of tensors or arrays.

    Raises:
        ConfigError: tensors are missing, left over, of the wrong shape, or not finite.
    """
    config = config_of(state)
    check_shapes("a LineRWKV network", shapes(config), state)
    arrays = {name: _array(value) for name, value in state.items()}
    broken = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if broken:
        raise ConfigError(f"the weights hold values that are not finite: {broken[0]}")
    return Weights(config, arrays)


def _array(value: Any) -> np.ndarray:
    """A float32 copy of a tensor or an array."""
    value = value if isinstance(value, np.ndarray) else value.detach().float().cpu().numpy()
    return np.array(value, np.float32, order="C")


def _count(state: Mapping[str, Any], prefix: str) -> int:
    """Entries of a numbered list of layers."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
