"""Weights from and to files: ours (safetensors), the original's checkpoints, and CompressAI's `mbt2018` and
`bmshj2018-hyperprior`.

The original's keys differ by prefixes and by a `conv` inside each slimmable layer. It keeps constants and unused
tensors, which are dropped. What coding needs besides the network belongs to our files: the integer tables of z and the
structures that a search found worth using.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cbench.errors import ConfigError
from cbench.models.basic.config import EDGES, BasicConfig, CoderConfig
from cbench.models.basic.network import BasicNetwork, Structure
from cbench.nn.factorized import FactorizedTables, modern_key
from cbench.zoo.checkpoints import CONFIG, check_shapes, is_torch_file, load_torch_file, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights

FRONT = "front"
"""Key of the structures worth using, (n, 5) uint8, the most complex first."""
_TABLES = "z_tables.{}."
_CONSTANT = re.compile(
    r"(_offset|_quantized_cdf|_cdf_length|target|likelihood_lower_bound\.bound|num_batches_tracked)$"
)
_ORIGINAL_EDGE = re.compile(r"latent_(?:inference|generative)_modules\.(\w_\w)\.(?:pgm_)?model\.(.+)")
_ORIGINAL_CODER = re.compile(r"latent_node_entropy_coders\.y\.(?:coders\.(\d+)\.)?(.+)")
_ORIGINAL_PRIOR = "latent_node_entropy_coders.z.entropy_bottleneck."
_CODER_NAMES = (
    ("topo_group_context_model.", ""),
    ("context_prediction", "model.context"),
    ("param_merger_in", "model.mix.0"),
    ("param_merger_out.1", "model.mix.1"),
    ("param_merger_out.3", "model.mix.2"),
    ("param_merger.0", "model.mix.0"),
    ("param_merger.2", "model.mix.1"),
    ("param_merger.4", "model.mix.2"),
    ("topo_group_predictor.mapping_stack.0.dense", "learned.generator.mapping.0"),
    ("topo_group_predictor.mapping_stack.1.dense", "learned.generator.mapping.1"),
    ("topo_group_predictor.dense", "learned.generator.dense"),
    ("topo_group_predictor.model.0", "learned.generator.norm"),
    ("topo_group_predictor.final", "learned.generator.final"),
)
_UNUSED = re.compile(
    r"reparam|default_\w+$|\.bound$|conv_kernel_|topo_group_predictor\.model\.2|training_iter_cnt|_complexity_"
)
_COMPRESSAI_PARTS = {"g_a": "x_y", "h_a": "y_z", "h_s": "z_y", "g_s": "y_x"}


@dataclass(frozen=True)
class Weights:
    """A network in evaluation mode and what coding needs besides."""

    network: BasicNetwork
    tables: tuple[FactorizedTables, ...]
    """Integer priors of z, one a width of z."""
    front: tuple[Structure, ...] = field(default=())
    """Structures worth using, the most complex first."""

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        tensors = self.network.state_dict()
        state = {name: tensors[name].cpu().numpy() for name in tensors if not _CONSTANT.search(name)}
        for number, tables in enumerate(self.tables):
            state |= tables.state(_TABLES.format(number))
        state[FRONT] = np.array([s.choices for s in self.front], np.uint8).reshape(-1, 5)
        state[CONFIG] = pack_config(self.network.config)
        return state

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def build(
    state: Mapping[str, Tensor], config: BasicConfig | None = None, front: tuple[Structure, ...] | None = None
) -> Weights:
    """A network from a state dict with our keys; tables of z that are not in it are made here.

    Raises:
        ConfigError: tensors are missing, left over, or of the wrong shape.
    """
    config = config or unpack_config(state, _config)
    network = BasicNetwork(config)
    own = network.state_dict()
    extra = (CONFIG, FRONT, *(name for name in state if name.startswith("z_tables.")))
    tensors = {name: value for name, value in state.items() if name not in extra and not _CONSTANT.search(name)}
    tensors |= {name: value for name, value in own.items() if _CONSTANT.search(name)}
    for number, coder in enumerate(config.coders):
        key = f"y_coders.{number}.learned.labels"
        if key in tensors and tensors[key].ndim == 4:
            # The original keeps logits; what coding uses of them are the likeliest labels.
            tensors[key] = tensors[key].reshape(coder.groups, -1, *tensors[key].shape[2:]).argmax(1)
    check_shapes("a BaSIC model", own, tensors)
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()})
    network.eval().requires_grad_(False)
    return Weights(network, _tables(network, state), _front(network, state) if front is None else front)


def load(path: Path, config: BasicConfig | None = None, codec: int = 0) -> Weights:
    """Read a weights file: ours, the original's, or CompressAI's; nothing in it is executed.

    Args:
        path: the file.
        config: the model; needed for the original's checkpoints, which do not say it.
        codec: which codec of an original's group (one a lambda).

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    if not is_torch_file(path):
        arrays, _ = load_weights(path)
        return build({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, config)
    state = load_torch_file(path)
    if any(key.startswith("g_a.") for key in state):
        ours, found = from_compressai(state)
        return build(ours, config or found)
    ours = from_original(state, codec)
    return build(ours, config)


def save(path: Path, weights: Weights, metadata: Mapping[str, str], *, half: bool = False) -> None:
    """Write our weights file; `metadata` says how the weights came about.

    Args:
        path: file to write.
        weights: what to write.
        metadata: description.
        half: store the network in 16 bits, half the size; the weights must have been rounded to them before.
    """
    state = weights.state
    if half:
        state = {
            name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in state.items()
        }
    save_weights(path, state, metadata)


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every float tensor rounded to what 16 bits hold."""
    return {name: v.half().float() if v.dtype == torch.float32 else v for name, v in state.items()}


def from_original(state: Mapping[str, Tensor], codec: int = 0) -> dict[str, Tensor]:
    """Rename the original's keys to ours.

    Args:
        state: a state dict; prefixes of Lightning and of a group of codecs are understood.
        codec: which codec of a group (one a lambda).

    Raises:
        ConfigError: a key that no BaSIC codec has.
    """
    prefix = f"codec_{codec}.entropy_coder."
    plain = {key.removeprefix("model."): value for key, value in state.items()}
    if any(key.startswith("codec_") for key in plain):
        plain = {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}
    ours: dict[str, Tensor] = {}
    for key, value in plain.items():
        if key.endswith(".default_pgm") and key.startswith("latent_") and value.numel() > 1:
            ours[f"edges.{key.split('.')[1]}.logits"] = value.flatten().flip(0)
        elif key.endswith("topo_group_predictor_cache"):
            number = _ORIGINAL_CODER.fullmatch(key)[1] or 0
            ours[f"y_coders.{number}.learned.labels"] = value
        elif key.startswith(_ORIGINAL_PRIOR):
            name = modern_key(key.removeprefix(_ORIGINAL_PRIOR))
            if not _CONSTANT.search(name):
                ours[f"z_coders.0.{name}"] = value
        elif _UNUSED.search(key):
            continue
        elif match := _ORIGINAL_EDGE.fullmatch(key):
            ours[f"edges.{match[1]}.layers.{_without_conv(match[2])}"] = value
        elif match := _ORIGINAL_CODER.fullmatch(key):
            name = match[2]
            for theirs, new in _CODER_NAMES:
                if name.startswith(theirs):
                    name = new + name[len(theirs) :]
            ours[f"y_coders.{match[1] or 0}.{name}"] = value
        else:
            raise ConfigError(f"the checkpoint's {key} is no part of a BaSIC codec")
    for edge in EDGES:
        if f"edges.{edge}.logits" not in ours:
            ours[f"edges.{edge}.logits"] = torch.zeros(0)
    return _complete(ours)


def from_compressai(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], BasicConfig]:
    """Rename the keys of CompressAI's `mbt2018` (joint) or `bmshj2018-hyperprior`; also gives the model's
    configuration.

    Raises:
        ConfigError: a model whose layers differ from ours, such as those with more latent than hidden channels.
    """
    width, latent = state["g_a.0.weight"].shape[0], state["g_a.6.weight"].shape[0]
    joint = any(key.startswith("context_prediction.") for key in state)
    if joint and width != latent:
        raise ConfigError(f"a joint model with {latent} latent channels beside {width} has no place here")
    base = BasicConfig(widths=(width,), latent=latent, hyper=width)
    config = (
        base if joint else replace(base, framework="hyperprior", coders=(), magnitudes=True, straight_through=False)
    )
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if _UNUSED.search(key) or part == "gaussian_conditional":
            continue
        if part in _COMPRESSAI_PARTS:
            ours[f"edges.{_COMPRESSAI_PARTS[part]}.layers.{rest}"] = value
        elif part == "entropy_bottleneck":
            name = modern_key(rest)
            if not _CONSTANT.search(name):
                ours[f"z_coders.0.{name}"] = value
        elif part == "context_prediction" and rest != "mask":
            ours[f"y_coders.0.model.context.{rest}"] = value
        elif part == "entropy_parameters":
            number, _, kind = rest.partition(".")
            ours[f"y_coders.0.model.mix.{int(number) // 2}.{kind}"] = value
        elif rest != "mask":
            raise ConfigError(f"the checkpoint's {key} is no part of a model that is known here")
    for edge in EDGES:
        ours[f"edges.{edge}.logits"] = torch.zeros(0)
    if joint:
        _interleave(ours, latent)
    return _complete(ours), config


def _interleave(ours: dict[str, Tensor], latent: int) -> None:
    """From CompressAI's layout (prior before context; all scales, then all means) to ours."""
    name = "y_coders.0.model.mix.{}.{}"
    first = ours[name.format(0, "weight")]
    ours[name.format(0, "weight")] = torch.cat([first[:, 2 * latent :], first[:, : 2 * latent]], 1)
    order = torch.stack([torch.arange(latent) + latent, torch.arange(latent)], 1).flatten()
    for kind in ("weight", "bias"):
        ours[name.format(2, kind)] = ours[name.format(2, kind)][order]


def _complete(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the empty per-level scalars of GDN layers that have one width."""
    for key in [key for key in ours if key.endswith(".gamma")]:
        for name in ("beta_scales", "beta_biases", "gamma_scales", "gamma_biases"):
            ours.setdefault(key.removesuffix("gamma") + name, torch.zeros(0))
    return ours


def _without_conv(name: str) -> str:
    """Key "1.conv2.conv.weight" -> "1.conv2.weight"."""
    return re.sub(r"\.conv\.(weight|bias)$", r".\1", name)


def _config(coders: tuple[dict[str, Any], ...], **fields: Any) -> BasicConfig:
    return BasicConfig(coders=tuple(CoderConfig(**coder) for coder in coders), **fields)


def _tables(network: BasicNetwork, state: Mapping[str, Tensor]) -> tuple[FactorizedTables, ...]:
    found = []
    for number, coder in enumerate(network.z_coders):
        tables = FactorizedTables.from_state(state, _TABLES.format(number)) or coder.integers()
        if len(tables.size) != coder.channels:
            raise ConfigError("these weights do not fit a BaSIC model: z_tables")
        found.append(tables)
    return tuple(found)


def _front(network: BasicNetwork, state: Mapping[str, Tensor]) -> tuple[Structure, ...]:
    """The stored structures; without, all edges at one width from the widest to the narrowest."""
    if FRONT in state and state[FRONT].numel():
        if state[FRONT].ndim != 2 or state[FRONT].shape[1] != len(network.config.choices):
            raise ConfigError(f"these weights do not fit a BaSIC model: {FRONT}")
        front = tuple(Structure(*(int(choice) for choice in row)) for row in state[FRONT])
    else:
        counts = network.config.choices[:4]
        front = tuple(Structure(*(min(k, count - 1) for count in counts)) for k in range(max(counts)))
    for structure in front:
        network.check(structure)
    return front
