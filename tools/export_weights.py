"""Make a weights file of a training's checkpoint, for instance of a run that is still going on.

    python tools/export_weights.py CONFIG[:FUNCTION] CHECKPOINT OUTPUT [--note TEXT]

CONFIG is the experiment that was trained. CHECKPOINT is `checkpoints/last.pt` (the averaged network, where there is
one) or `best.pt`, or any file of `torch.save` with a state dict under --key. A codec's own weights belong under
cbench/zoo/weights, with an entry in `SHIPPED` of cbench/zoo/weights.py and in the tables of cbench/zoo/__init__.py.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cbench.bench.config import TrainSpec
from cbench.bench.loading import load
from cbench.data.loaders import Batches
from cbench.errors import CbenchError, ConfigError, DataNotFoundError
from cbench.train.fit import CALIBRATION_BATCHES, samples_of

KEYS = ("average", "network")
"""Where a checkpoint may hold the state dict, best first."""


def export(spec: TrainSpec, checkpoint: Path, output: Path, note: str, key: str | None = None) -> int:
    """Write the weights file; returns how many steps the checkpoint is from, 0 where it does not say.

    Raises:
        DataNotFoundError: there is no such checkpoint.
        ConfigError: it is no checkpoint, or one of another network.
    """
    content = _content(checkpoint)
    module = spec.module(spec.config)
    try:
        module.network.load_state_dict(_state(content, key, checkpoint))
    except RuntimeError as error:
        raise ConfigError(f"{checkpoint} is of another network: {str(error).splitlines()[0]}") from None
    module.network.eval()
    with torch.no_grad():
        module.calibrate(_batches(spec))
    steps = int(content.get("step", 0))
    trained = f"{spec.data.title}, {steps} steps of {spec.batch_size}"
    module.save(output, {"trained_on": trained} | ({"note": note} if note else {}))
    return steps


def _content(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise DataNotFoundError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a checkpoint of a training")
    return content


def _state(content: Mapping[str, Any], key: str | None, path: Path) -> Mapping[str, Tensor]:
    keys = KEYS if key is None else (key,)
    found = next((content[k] for k in keys if isinstance(content.get(k), dict)), None)
    if found is None:
        there = ", ".join(list(content)[:8])
        raise ConfigError(f"{path} holds no state dict under {' or '.join(keys)}; it has: {there}")
    return found


def _batches(spec: TrainSpec) -> Iterator[Tensor]:
    """What `cbench train` calibrates on; read only where a paper's calibration looks at pictures."""
    samples = samples_of(spec.data)
    batches = Batches(samples, spec.batch_size, crop=spec.crop, flip=False, seed=spec.seed)
    for index in range(min(CALIBRATION_BATCHES, -(-len(samples) // spec.batch_size))):
        yield batches[index]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG", help="file.py or file.py:function")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="a .safetensors file; replaced if it exists")
    parser.add_argument("--key", help="name of the state dict inside the checkpoint")
    parser.add_argument("--note", default="", help="stored in the file: how the weights came about")
    given = parser.parse_args()
    try:
        spec = load(given.config).experiment.train
        if spec is None:
            raise ConfigError(f"{given.config} trains nothing")
        steps = export(spec, given.checkpoint, given.output, given.note, given.key)
    except CbenchError as error:
        print(f"export_weights: {error}", file=sys.stderr)
        return 1
    print(f"{given.output}: {given.output.stat().st_size:,} bytes, {steps:,} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
