"""Weights from and to files: ours (one safetensors file) and the original's (`sig.pth`, `ins.pth`: state dicts)."""

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
from cbench.models.arib_bps.config import AribConfig
from cbench.models.arib_bps.network import AribNetwork
from cbench.zoo.checkpoints import CONFIG, check_shapes, load_torch_file, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights

PARTS = ("sig", "ins")

_BLOCKS = (
    (r"\.first\.([02])\.", r".in_layers.\1."),
    (r"\.second\.([03])\.", r".out_layers.\1."),
    (r"\.time\.1\.", ".emb_layers.1."),
    (r"\.skip\.", ".skip_connection."),
)
"""The parts of residual blocks, ours and theirs."""
_LATENT = {
    "lvae.bottom_up.": "lvae.bottom_up_layer.2.net.",
    "lvae.mean.": "lvae.top_down_layer.stochastic.net.",
    "lvae.deterministic.": "lvae.top_down_layer.deterministic_block.net.0.net.",
    "lvae.grow.": "lvae.top_down_layer.deterministic_block.up.0.",
}
_PLANE_NET = {
    "embed.net.": "time_embed.",
    "first.": "input_blocks.0.0.",
    "before.": "middle_block.0.",
    "after.": "middle_block.2.",
    "attention.norm.": "middle_block.1.norm.",
    "attention.qkv.": "middle_block.1.qkv.",
    "attention.out.": "middle_block.1.proj_out.",
}


@dataclass(frozen=True)
class Weights:
    """A network in evaluation mode."""

    network: AribNetwork

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds: half-precision numbers where they are exact, else single precision."""
        state = {name: _compact(value) for name, value in self.network.state_dict().items()}
        return state | {CONFIG: pack_config(self.network.config)}

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def original_key(name: str, config: AribConfig, depth: int) -> str:
    """The original's name of a tensor of SIG or INS; `depth` is that of the model's U-Net."""
    for ours, theirs in _LATENT.items():
        if name.startswith(ours):
            rest = name.removeprefix(ours)
            layer = rf"\1res{config.latent_width}layer"
            found = re.fullmatch(r"(\d+)\.(\d+)\.(first|second)\.(\w+)", rest)
            if found is None:
                return theirs + rest
            which = 1 if found[3] == "first" else 2
            return f"{theirs}{found[1]}.{layer[2:]}{int(found[2]) + 1}.conv{which}.{found[4]}"
    if name.startswith("plane_context."):
        return "plane_context." + _plane_net_key(name.removeprefix("plane_context."), config.n_layers + 1, depth)
    return _blocks(name)


def _plane_net_key(name: str, levels: int, depth: int) -> str:
    found = re.fullmatch(r"(down|up|smaller|larger)\.(\d+)\.(?:(\d+)\.)?(.+)", name)
    if found is None:
        start = next(key for key in _PLANE_NET if name.startswith(key))
        return _blocks(_PLANE_NET[start] + name.removeprefix(start), start)
    kind, level, rest = found[1], int(found[2]), found[4]
    if kind == "smaller":
        return f"input_blocks.{(level + 1) * (depth + 1)}.0.op.{rest}"
    if kind == "larger":
        return f"output_blocks.{(levels - 1 - level) * (depth + 1) - 1}.1.conv.{rest}"
    number = int(found[3] or 0)
    if kind == "down":
        return _blocks(f"input_blocks.{1 + level * (depth + 1) + number}.0.{rest}")
    return _blocks(f"output_blocks.{(levels - 1 - level) * (depth + 1) + number}.0.{rest}")


def _blocks(name: str, start: str = "") -> str:
    if start == "first.":
        return name
    for ours, theirs in _BLOCKS:
        name = re.sub(ours, theirs, name)
    return name


def from_original(sig: Mapping[str, Tensor], ins: Mapping[str, Tensor]) -> Weights:
    """Both state dicts of the original -> our network.

    Raises:
        ConfigError: tensors are missing, left over, or of the wrong shape.
    """
    config = config_of(sig, ins)
    network = AribNetwork(config)
    state = {}
    for part, given in zip(PARTS, (sig, ins), strict=True):
        names = _names(network, part)
        wrong = sorted(set(names.values()) ^ set(given))
        if wrong:
            raise ConfigError(f"this is no {part}.pth of an ArIB-BPS model: {wrong[0]} is missing or left over")
        state |= {f"{part}.{ours}": given[theirs] for ours, theirs in names.items()}
    return _filled(network, state)


def to_original(weights: Weights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our network -> the original's two state dicts (SIG, INS)."""
    found = []
    for part in PARTS:
        state = getattr(weights.network, part).state_dict()
        found.append({theirs: state[ours] for ours, theirs in _names(weights.network, part).items()})
    return found[0], found[1]


def _names(network: AribNetwork, part: str) -> dict[str, str]:
    config = network.config
    depth = config.sig_plane_depth if part == "sig" else config.ins_plane_depth
    return {name: original_key(name, config, depth) for name in getattr(network, part).state_dict()}


def config_of(sig: Mapping[str, Any], ins: Mapping[str, Any]) -> AribConfig:
    """Read the sizes off the original's state dicts.

    Raises:
        ConfigError: these are not those of SIG and INS.
    """
    try:
        spaces, nets = _count(sig, "space_contexts"), _count(sig, "entropys")
        share = spaces == nets
        step, step_ins = _step(sig), _step(ins)
        layers = sum(".op.weight" in key for key in sig)
        head = sig["lvae.head.weight"].shape
        own = (None, None, None) if step == step_ins else step_ins
        return AribConfig(
            share=share,
            sig_num=nets // (1 if share else 4),
            n_layers=layers,
            sig_plane_width=sig["plane_context.input_blocks.0.0.weight"].shape[0],
            sig_plane_depth=(_count(sig, "plane_context.input_blocks") - 1 - layers) // (layers + 1),
            ins_plane_width=ins["plane_context.input_blocks.0.0.weight"].shape[0],
            ins_plane_depth=(_count(ins, "plane_context.input_blocks") - 1 - layers) // (layers + 1),
            latent_width=head[0],
            latent_depth=sum(re.search(r"stochastic\.net\.0\..*conv1\.v$", key) is not None for key in sig),
            latent_channels=sig["lvae.top_down_layer.stochastic.net.2.v"].shape[0],
            space_width=step[0],
            entropy_width=step[1],
            entropy_depth=step[2],
            space_width_ins=own[0],
            entropy_width_ins=own[1],
            entropy_depth_ins=own[2],
        )
    except (KeyError, AttributeError, IndexError, ZeroDivisionError):
        raise ConfigError("these are not the weights of an ArIB-BPS model (sig.pth and ins.pth)") from None


def _count(state: Mapping[str, Any], prefix: str) -> int:
    depth = prefix.count(".") + 1
    return len({key.split(".")[depth] for key in state if key.startswith(prefix + ".")})


def _step(state: Mapping[str, Any]) -> tuple[int, int, int]:
    space, net = state["space_contexts.0.0.weight"].shape[0], state["entropys.0.1.weight"].shape[0]
    return space, net, sum(re.match(r"entropys\.0\.\d+\.in_layers\.0\.weight", key) is not None for key in state)


def load(path: Path) -> Weights:
    """Read weights: our file, or a folder (or one file of it) with the original's `sig.pth` and `ins.pth`.

    Nothing in a file is executed.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or path.suffix == ".pth":
        return from_original(*(load_torch_file(folder / f"{part}.pth") for part in PARTS))
    arrays, _ = load_weights(path)
    config = unpack_config(arrays, AribConfig)
    del arrays[CONFIG]
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    return _filled(AribNetwork(config), state)


def save(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write our weights file; `metadata` says how the weights came about."""
    save_weights(path, weights.state, metadata)


def rounded(network: AribNetwork) -> AribNetwork:
    """Round all weights to half precision, in place: what a file of two bytes a weight holds."""
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(value.half().float())
    return network


def _filled(network: AribNetwork, state: Mapping[str, Tensor]) -> Weights:
    expected = network.state_dict()
    check_shapes("an ArIB-BPS model", expected, state)
    if not all(value.isfinite().all() for value in state.values()):
        raise ConfigError("the weights are not all finite numbers")
    network.load_state_dict({name: value.float() for name, value in state.items()})
    return Weights(network.eval().requires_grad_(False))


def _compact(value: Tensor) -> np.ndarray:
    array = value.detach().cpu().float().numpy()
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if (half.astype(np.float32) == array).all() else array
