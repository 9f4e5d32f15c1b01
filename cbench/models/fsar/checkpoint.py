"""Weights from and to files: ours (safetensors) and the original's (`last.ckpt` of Lightning, or a bare state dict).

Keys differ by prefixes and by one number: the original's residual blocks count the ReLU in front of them. The original
stores no tables; ours do, so that every machine decodes with the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cbench.errors import ConfigError
from cbench.models.fsar.config import NEIGHBOURS, FsarConfig
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.tables import PriorTables, has_tables, prior_tables, reaching
from cbench.zoo.checkpoints import CONFIG, check_shapes, is_torch_file, load_torch_file, pack_config, unpack_config
from cbench.zoo.weights import fingerprint, load_weights, save_weights

if TYPE_CHECKING:
    from cbench.nn.factorized import FactorizedTables  # brings CompressAI with it

COUNTS = "prior_counts"
"""Key of the symbols' frequencies in our files, beside the network's own keys."""
TABLES = ("prior_tables.weights", "prior_tables.table_of", "prior_tables.kept")
"""Keys of the integer prior of models with a context."""
FACTORIZED = "factorized_tables."
"""What the keys of the entropy bottleneck's integer prior begin with."""

_BACKBONE = re.compile(r"prior_model\.(encoder|decoder)\.\1\.(.+)")
_BLOCK = re.compile(r"\.block\.(\d+)\.")
_CODEBOOK = "prior_model.prior_coder.embedding"
_MASK = "prior_model.prior_coder.cat_reduce_logprob"
_MLP = re.compile(r"prior_model\.prior_coder\.fsar_mlp(?:s_per_channel\.(\d+))?\.(\d+\.(?:weight|bias))")
_CONV = re.compile(r"prior_model\.prior_coder\.ar_model\.0\.(weight|bias)")
_LINEAR = re.compile(r"entropy_coder\.ar_model\.(weight|bias)")
_CONV_MASK = "prior_model.prior_coder.ar_model.0.mask"
_IGNORED = tuple(
    f"prior_model.prior_coder.{name}"
    for name in (
        *("embedding_variance", "gs_temp", "relax_temp", "entropy_temp", "cat_reduce_temp", "var_scale"),
        *("input_ar_model.weight", "input_ar_model.bias", "input_ar_model.mask", "ema_count", "ema_weight"),
    )
)
_TRAINING = (
    *("quantizer", "gs_temp", "relax_temp", "entropy_temp", "annealed"),
    *("cont_weight", "edge_mass", "detach_context"),
)
"""Fields of the config that only training looks at."""
_USUAL_CONTEXT = ("none", "l", "lt", "ctx3")
"""What a checkpoint's context is taken for, by its number of neighbours: it does not say which they are."""
_STATISTICS = ("num_batches_tracked", "quantizer.count", "quantizer.total")
"""How the names of tensors end that only training needs; they are not stored with our weights."""
USUAL_ALPHA = 1.5
"""What a checkpoint's entmax exponent is taken for; the one published as "catreduce1.5" has 1.4 in truth."""


@dataclass(frozen=True)
class Weights:
    """A network in evaluation mode and the integer prior of its symbols."""

    network: FsarNetwork
    counts: np.ndarray
    """(L, K) uint32, weights of the symbols of each group; not used by models with a context."""
    tables: PriorTables | None = None
    """The prior of models with a context, unless it has too many for tables."""
    factorized: FactorizedTables | None = None
    """The prior of the entropy bottleneck."""

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What a file holds."""
        tensors = self.network.state_dict()
        state = {name: tensors[name].cpu().numpy() for name in tensors if not name.endswith(_STATISTICS)}
        if self.tables is not None:
            arrays = (self.tables.weights, self.tables.table_of, self.tables.kept)
            state |= dict(zip(TABLES, arrays, strict=True))
        elif self.factorized is not None:
            state |= self.factorized.state(FACTORIZED)
        elif self.network.config.has_codes:
            state.pop("prior_logits", None)
            state[COUNTS] = self.counts
        if (
            self.tables is not None
            or not self.network.config.has_codes
            or self.network.config.context
            or _shape(self.network.config) != _shape(config_of(state))
        ):
            state[CONFIG] = pack_config(self.network.config)
        return state

    def fingerprint(self) -> bytes:
        """Four bytes that every file made with these weights carries."""
        return fingerprint(self.state)


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original's keys to ours; "model." in front (Lightning) is dropped.

    Raises:
        ConfigError: a key belongs to a model outside the `V2DVQ` family.
    """
    ours = {}
    for key, value in state.items():
        name = key.removeprefix("model.")
        if match := _BACKBONE.fullmatch(name):
            rest = _BLOCK.sub(lambda m: f".block.{int(m[1]) - 1}.", match[2])
            ours[f"{match[1]}.{rest}"] = value
        elif match := _MLP.fullmatch(name):
            ours[f"prior.mlps.{match[1] or 0}.{match[2]}"] = value
        elif name == _CODEBOOK:
            ours["quantizer.codebook"] = value
        elif name == _MASK:
            ours["quantizer.mask.logits"] = value
        elif match := _CONV.fullmatch(name):
            ours[f"prior.conv.{match[1]}"] = value
        elif match := _LINEAR.fullmatch(name):
            ours[f"head.{match[1]}"] = value
        elif name == _CONV_MASK:
            ours["prior.mask"] = value[0, 0]
        elif name not in _IGNORED:
            raise ConfigError(f"the checkpoint's {key} is no part of a V2DVQ model")
    return ours


def to_original(state: Mapping[str, Tensor], *, shared_mlp: bool = False) -> dict[str, Tensor]:
    """Rename our keys to the original's; what the original does not have (the static prior) is left out."""
    theirs = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part in ("encoder", "decoder"):
            rest = _BLOCK.sub(lambda m: f".block.{int(m[1]) + 1}.", rest)
            theirs[f"prior_model.{part}.{part}.{rest}"] = value
        elif key == "quantizer.codebook":
            theirs[_CODEBOOK] = value
        elif key == "quantizer.mask.logits":
            theirs[_MASK] = value
        elif rest.startswith("conv."):
            theirs[f"prior_model.prior_coder.ar_model.0.{rest.removeprefix('conv.')}"] = value
        elif part == "head" and rest in ("weight", "bias"):
            theirs[f"entropy_coder.ar_model.{rest}"] = value
        elif key == "prior.mask":
            theirs[_CONV_MASK] = value.expand_as(state["prior.conv.weight"]).clone()
        elif part == "prior":
            place = rest.removeprefix("mlps.0.") if shared_mlp else rest.removeprefix("mlps.")
            theirs[f"prior_model.prior_coder.fsar_mlp{'' if shared_mlp else 's_per_channel'}.{place}"] = value
    return theirs


def config_of(state: Mapping[str, Any]) -> FsarConfig:
    """Read the sizes off a state dict with our keys.

    Raises:
        ConfigError: it is not that of a V2DVQ model.
    """
    if CONFIG in state:
        return unpack_config(state, FsarConfig)
    try:
        groups, codes, embedding = state["quantizer.codebook"].shape
    except (KeyError, ValueError):
        raise ConfigError("these are not the weights of an FSAR model: there is no codebook") from None
    layers = {key.split(".")[1] for key in state if key.startswith("decoder.") and state[key].ndim == 4}
    up = [i for i in layers if f"decoder.{i}.weight" in state and state[f"decoder.{i}.weight"].shape[-1] == 4]
    blocks = {key.split(".")[1] for key in state if key.startswith("decoder.") and ".block." in key}
    mlps = {key.split(".")[2] for key in state if key.startswith("prior.mlps.")}
    neighbours = state["prior.mlps.0.0.weight"].shape[1] // embedding if mlps else 0
    if neighbours >= len(_USUAL_CONTEXT):
        raise ConfigError(f"a prior with {neighbours} neighbours needs its config: a state dict does not name them")
    return FsarConfig(
        channels=groups * embedding,
        downsamples=len(up),
        residuals=len(blocks),
        groups=groups,
        codes=codes,
        pixels="linear" if "head.weight" in state else "gaussian",
        quantizer="sqvae" if "quantizer.log_variance" in state else "sthq",
        context=NEIGHBOURS[_USUAL_CONTEXT[neighbours]],
        convolution=_convolution(state),
        kernel=state["prior.mask"].shape[-1] if "prior.mask" in state else 3,
        shared_mlp=bool(mlps) and len(mlps) < groups,
        alpha=USUAL_ALPHA if "quantizer.mask.logits" in state else None,
    )


def _convolution(state: Mapping[str, Any]) -> Literal["none", "masked", "checkerboard", "volume"]:
    """The convolution of the prior, by its dimensions and by whether it sees the position below."""
    if "prior.mask" not in state:
        return "none"
    if state["prior.mask"].ndim == 3:
        return "volume"
    middle = state["prior.mask"].shape[-1] // 2
    return "checkerboard" if state["prior.mask"][middle + 1, middle] else "masked"


def _shape(config: FsarConfig) -> FsarConfig:
    """The config without what only training looks at."""
    usual = FsarConfig()
    return replace(config, **{name: getattr(usual, name) for name in _TRAINING})


def load(path: Path, config: FsarConfig | None = None) -> Weights:
    """Read a weights file, ours or the original's; nothing in it is executed.

    Args:
        path: the file.
        config: the model, for the original's checkpoints whose context or entmax exponent is not the usual one.

    Raises:
        DataNotFoundError: there is no such file.
        ConfigError: it is no weights file of this model.
    """
    if is_torch_file(path):
        return build(from_original(load_torch_file(path)), config)
    arrays, _ = load_weights(path)
    return build({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, config)


def save(path: Path, weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write our weights file; `metadata` says how the weights came about."""
    save_weights(path, weights.state, metadata)


def build(state: Mapping[str, Tensor], config: FsarConfig | None = None, seen: np.ndarray | None = None) -> Weights:
    """A network from a state dict with our keys.

    Without counts a static prior is uniform, as in the original; without tables those of a context are made here, with
    `seen` as in `prior_tables`.

    Raises:
        ConfigError: tensors are missing, left over, or of the wrong shape.
    """
    config = config or config_of(state)
    network = FsarNetwork(config)
    ours = (COUNTS, CONFIG, *TABLES)
    tensors = {name: value for name, value in state.items() if name not in ours and not name.startswith(FACTORIZED)}
    expected = network.state_dict()
    if config.has_codes and config.static_prior:
        tensors.setdefault("prior_logits", torch.zeros(config.groups, config.codes))
    for name in expected:
        if name.endswith(_STATISTICS):
            # Averages of a codebook begin at the codebook.
            start = tensors.get("quantizer.codebook") if name.endswith("total") else None
            tensors.setdefault(name, expected[name] if start is None else start)
    check_shapes("an FSAR model", expected, tensors)
    counts = state.get(COUNTS, torch.ones(config.groups, config.codes)).numpy().astype(np.uint32)
    if counts.shape != (config.groups, config.codes):
        raise ConfigError(f"these weights do not fit an FSAR model: {COUNTS}")
    network.load_state_dict(tensors)
    network.eval().requires_grad_(False)
    if config.quantizer == "bottleneck":
        return Weights(network, counts, factorized=_factorized(network, state))
    return Weights(network, counts, _tables(network, state, seen) if config.context else None)


def _factorized(network: FsarNetwork, state: Mapping[str, Tensor]) -> FactorizedTables:
    """The stored tables; without, those of the learned distributions."""
    from cbench.nn.factorized import FactorizedTables

    stored = FactorizedTables.from_state({name: np.asarray(state[name]) for name in state}, FACTORIZED)
    if stored is None:
        network.quantizer.settle()
        return network.quantizer.prior.integers()
    return stored


def _tables(network: FsarNetwork, state: Mapping[str, Tensor], seen: np.ndarray | None) -> PriorTables | None:
    """The stored tables, checked by `StateTables` when the codec is built; without, those of the networks.

    None: there are too many contexts, so that the networks themselves code.
    """
    if not all(name in state for name in TABLES):
        return prior_tables(network, seen) if network.config.alpha or has_tables(network.config) else None
    weights, table_of, kept = (state[name].numpy() for name in TABLES)
    if (
        kept.ndim != 1
        or not len(kept)
        or (kept >= network.config.codes).any()
        or (np.diff(kept.astype(int)) <= 0).any()
    ):
        raise ConfigError(f"these weights do not fit an FSAR model: {TABLES[2]}")
    return PriorTables(weights, table_of, kept, reaching(network.config.context, network.config.groups))
