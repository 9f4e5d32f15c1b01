"""Weights from and to files: ours (safetensors) and the reproduction's (a Lightning checkpoint or bare state dict).

Our keys are the reproduction's, without its constants (bounds, position indices, tables) and with today's names inside
the entropy bottleneck. Ours add z's prior as integers, so that every machine decodes with the same tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cbench.errors import ConfigError
from cbench.models.tbtc.config import TbtcConfig
from cbench.models.tbtc.network import TbtcNetwork
from cbench.models.tbtc.swin import relative_index
from cbench.nn.factorized import FactorizedTables, modern_key, old_key
from cbench.zoo.checkpoints import CONFIG, check_shapes, is_torch_file, load_torch_file, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights

TABLES = "z_prior."
"""Prefix of the integer prior of z."""
BOTTLENECK = "entropy_bottleneck."

_CONSTANT = re.compile(
    r"gaussian_conditional\..*|.*\.relative_position_index|.*_reparam\..*"
    r"|entropy_bottleneck\.(_offset|_quantized_cdf|_cdf_length|target|likelihood_lower_bound\.bound)"
)
"""Entries that follow from the others, or that the reproduction fills when it first codes."""
_PEDESTAL = 2.0**-36
_BETA_BOUND, _GAMMA_BOUND = (1e-6 + _PEDESTAL) ** 0.5, 2.0**-18


@dataclass(frozen=True)
class Weights:
    """A network in evaluation mode and the integer prior of z."""

    network: TbtcNetwork
    tables: FactorizedTables

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds, in the network's precision."""
        state = {name: value.cpu().numpy() for name, value in parameters_of(self.network).items()}
        state[CONFIG] = pack_config(self.network.config)
        return state | self.tables.state(TABLES)

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def parameters_of(network: TbtcNetwork) -> dict[str, Tensor]:
    """The state dict without constants."""
    return {name: value for name, value in network.state_dict().items() if not _CONSTANT.fullmatch(name)}


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reproduction's state dict with our keys; whether they make a model is checked in `build`."""
    ours = {}
    for key, value in state.items():
        if not _CONSTANT.fullmatch(key):
            part, dot, rest = key.partition(".")
            ours[f"{part}.{modern_key(rest)}" if part + dot == BOTTLENECK else key] = value
    return ours


def to_original(state: Mapping[str, Tensor], config: TbtcConfig) -> dict[str, Tensor]:
    """Our parameters with the reproduction's keys and all its constants, as before its tables are made."""
    theirs = {}
    for key, value in state.items():
        part, dot, rest = key.partition(".")
        theirs[f"{part}.{old_key(rest)}" if part + dot == BOTTLENECK else key] = value
        if key.endswith(".relative_position_bias_table"):
            window = config.window if part.startswith("g_") else config.hyper_window
            theirs[key.replace("bias_table", "index")] = relative_index(window)
        elif key.endswith((".beta", ".gamma")):
            bound = _BETA_BOUND if key.endswith(".beta") else _GAMMA_BOUND
            theirs[f"{key}_reparam.pedestal"] = torch.tensor([_PEDESTAL])
            theirs[f"{key}_reparam.lower_bound.bound"] = torch.tensor([bound])
    target = float(np.log(2 / 1e-9 - 1))
    theirs[f"{BOTTLENECK}target"] = torch.tensor([-target, 0, target])
    for part in (BOTTLENECK, "gaussian_conditional."):
        theirs |= {f"{part}{name}": torch.IntTensor() for name in ("_offset", "_quantized_cdf", "_cdf_length")}
        theirs[f"{part}likelihood_lower_bound.bound"] = torch.tensor([1e-9])
    theirs["gaussian_conditional.scale_table"] = torch.Tensor()
    theirs["gaussian_conditional.scale_bound"] = torch.tensor([0.11])
    theirs["gaussian_conditional.lower_bound_scale.bound"] = torch.tensor([0.11])
    return theirs


def config_of(state: Mapping[str, Any]) -> TbtcConfig:
    """Read the sizes off a state dict with our keys, or the stored description.

    Raises:
        ConfigError: it is not that of a TBTC model.
    """
    if CONFIG in state:
        return unpack_config(state, TbtcConfig)
    slices = len({key.split(".")[1] for key in state if key.startswith("charm_mean_transforms.")})
    prior = "charm" if slices else "hyperprior"
    try:
        if "g_a.0.weight" in state:
            channels = tuple(state[f"g_a.{i}.weight"].shape[0] for i in (0, 2, 4, 6))
            m, h = channels[-1], state["h_a.0.weight"].shape[0]
            sizes = {"transform": "conv", "channels": channels, "hyper": (h,) * 2}
            first = "charm_mean_transforms.0.layers.0.weight"
            paper = slices > 0 and state[first].shape[0] > m // slices
        else:
            g, h = _stages(state, "g_a"), _stages(state, "h_a")
            m = g[-1][0]
            paper = "g_s.layers.3.downsample.norm.weight" not in state
            sizes = {
                "transform": "swin",
                "channels": tuple(stage[0] for stage in g),
                "hyper": tuple(stage[0] for stage in h),
                "depths": tuple(stage[1] for stage in g),
                "hyper_depths": tuple(stage[1] for stage in h),
                "window": g[0][2],
                "hyper_window": h[0][2],
            }
            if paper:
                sizes["head"] = m // g[-1][3]
            elif m < 192:  # only the published sizes have heads of 32; a smaller model is one of the golden vectors'
                sizes["head"] = 4
    except (KeyError, IndexError, ValueError):
        raise ConfigError("these are not the weights of a TBTC model") from None
    if slices:
        sizes["slice"] = m // slices
    return TbtcConfig(prior=prior, variant="paper" if paper else "tbtc", **sizes)


def _stages(state: Mapping[str, Any], part: str) -> list[tuple[int, int, int, int]]:
    """Channels, depth, window and heads of each stage."""
    count = len({key.split(".")[2] for key in state if key.startswith(f"{part}.layers.")})
    found = []
    for s in range(count):
        prefix = f"{part}.layers.{s}.blocks."
        depth = len({key.split(".")[4] for key in state if key.startswith(prefix)})
        entries, heads = state[f"{prefix}0.attn.relative_position_bias_table"].shape
        found.append((state[f"{prefix}0.norm1.weight"].shape[0], depth, (int(entries**0.5) + 1) // 2, heads))
    return found


def load(path: Path) -> Weights:
    """Read a weights file, ours or the reproduction's; nothing in it is executed.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    if is_torch_file(path):
        return build(from_original(load_torch_file(path)))
    arrays, _ = load_weights(path)
    return build({name: torch.from_numpy(array.astype(_plain(array), copy=True)) for name, array in arrays.items()})


def save(path: Path, weights: Weights, metadata: Mapping[str, str], *, half: bool = False) -> None:
    """Write our weights file; `metadata` says how the weights came about.

    Args:
        path: the file.
        weights: what to write.
        metadata: as said.
        half: store matrices and kernels as float16; `load` gives the rounded network.
    """
    state = weights.state
    if half:
        small = {name: array.astype(np.float16) for name, array in state.items() if name.endswith(".weight")}
        state |= {name: array for name, array in small.items() if np.isfinite(array).all() and array.ndim > 1}
    save_weights(path, state, metadata)


def build(state: Mapping[str, Tensor], config: TbtcConfig | None = None) -> Weights:
    """A network from a state dict with our keys; without tables they are made here, from the quantiles as they are.

    Raises:
        ConfigError: tensors are missing, left over, or of the wrong shape.
    """
    config = config or config_of(state)
    network = TbtcNetwork(config)
    tensors = {key: value for key, value in state.items() if key != CONFIG and not key.startswith(TABLES)}
    expected = parameters_of(network)
    check_shapes("a TBTC model", expected, tensors)
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    network.eval().requires_grad_(False)
    stored = {name: value.numpy() for name, value in state.items() if name.startswith(TABLES)}
    tables = FactorizedTables.from_state(stored, TABLES) or network.entropy_bottleneck.integers()
    if len(tables.size) != config.hyper_latent:
        raise ConfigError(f"these weights do not fit a TBTC model: {TABLES}size")
    return Weights(network, tables)


def _plain(array: np.ndarray) -> np.dtype:
    """The dtype to read an array as: torch has hardly any unsigned types."""
    return {np.dtype(np.uint32): np.dtype(np.int64)}.get(array.dtype, array.dtype)
