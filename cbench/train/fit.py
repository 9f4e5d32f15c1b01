"""The training stage of an experiment: from a `TrainSpec` to a weights file."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cbench.bench.config import DataSpec, TrainSpec
from cbench.codec import Sample
from cbench.data.loaders import Batches, loader
from cbench.errors import ConfigError, DataNotFoundError
from cbench.nn.batch_norm import globalise
from cbench.train.callbacks import Average, Checkpoints, Progress, Validate
from cbench.train.module import PaperModule  # runs the guard that Lightning needs
from cbench.train.spawn import SpawnStrategy

from pytorch_lightning import LightningDataModule, Trainer, seed_everything  # isort: skip
from pytorch_lightning.loggers import TensorBoardLogger  # isort: skip
from pytorch_lightning.strategies import DDPStrategy  # isort: skip

WEIGHTS_FILE = "weights.safetensors"
CALIBRATION_BATCHES = 64
"""Training batches that `PaperModule.calibrate` sees before validation and before saving."""


def fit(spec: TrainSpec, out: Path, *, resume: bool = False, progress: bool = True) -> Path:
    """Train, and write the weights that validated best.

    Writes `weights.safetensors`, `checkpoints/last.pt`, `checkpoints/best.pt` and TensorBoard events into `out`.

    Args:
        spec: module, data and schedule.
        out: run folder.
        resume: continue from `checkpoints/last.pt` if it is there.
        progress: show a progress bar on stderr.

    Returns:
        Path of the weights file; of `torchrun`'s processes only the first writes it.

    Raises:
        ConfigError: a spec that does not fit the launch, or a module without a network.
        DataNotFoundError: the training or validation data is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", spec.devices))
    if spec.devices not in (1, world) or spec.batch_size % world:
        raise ConfigError(
            f"{world} processes cannot train with train.devices (={spec.devices}) and "
            f"train.batch_size (={spec.batch_size})"
        )
    out.mkdir(parents=True, exist_ok=True)
    _quiet()
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.threads)
    try:
        best = _train(spec, out, world, resume, progress)
        return _finish(spec, out, best)
    finally:
        torch.set_num_threads(threads)


def samples_of(spec: DataSpec) -> Sequence[Sample]:
    """The samples that a `DataSpec` names.

    Raises:
        DataNotFoundError: there are none.
    """
    samples = spec.source() if spec.root is None else spec.source(spec.root)
    samples = samples if spec.limit is None else samples[: spec.limit]
    if not len(samples):
        raise DataNotFoundError(f"data set {spec.title!r} is empty")
    return samples


def _train(spec: TrainSpec, out: Path, world: int, resume: bool, progress: bool) -> Path:
    """Run the steps that are not done yet; path of the best checkpoint."""
    seed_everything(spec.seed, verbose=False)
    module = _module(spec, world)
    average = Average(spec.ema)
    checkpoints = Checkpoints(out / "checkpoints", average)
    if resume and (checkpoints.folder / "last.pt").is_file():
        checkpoints.restore(module)
    best = checkpoints.folder / "best.pt"
    if module.step >= spec.steps and best.is_file():
        return best
    data = _Data(spec, samples_of(spec.data), module.step)
    calibration = _Calibration(spec, data.samples)
    validate = Validate(samples_of(spec.validation), calibration, spec.validate_every, spec.batch_size, checkpoints)
    trainer = Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=_local_devices(world),
        num_nodes=world // _local_devices(world),
        strategy=_strategy(world),
        precision="bf16-mixed" if spec.precision == "bf16" else "32-true",
        max_epochs=1,
        logger=TensorBoardLogger(str(out), name="", version=""),
        callbacks=[average, validate, checkpoints, Progress(progress, validate)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    trainer.fit(module, datamodule=data)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return best


class _Data(LightningDataModule):
    """This process's batches; made late, when it knows which process it is."""

    def __init__(self, spec: TrainSpec, samples: Sequence[Sample], start: int) -> None:
        super().__init__()
        self.samples, self.start, self.steps = samples, start, spec.steps
        self.batch_size, self.crop, self.flip, self.seed = spec.batch_size, spec.crop, spec.flip, spec.seed

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches from the first step that is still to be done."""
        return loader(
            self.samples,
            self.batch_size,
            crop=self.crop,
            flip=self.flip,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            start=self.start,
            steps=self.steps,
        )


class _Calibration(Iterable[Tensor]):
    """The first training batches, without flips; decoded at first use, as most processes never need them."""

    def __init__(self, spec: TrainSpec, samples: Sequence[Sample]) -> None:
        self.samples, self.batch_size, self.crop, self.seed = samples, spec.batch_size, spec.crop, spec.seed
        self._batches: Batches | None = None

    def __iter__(self) -> Iterator[Tensor]:
        if self._batches is None:
            self._batches = Batches(self.samples, self.batch_size, crop=self.crop, flip=False, seed=self.seed)
        count = min(CALIBRATION_BATCHES, -(-len(self.samples) // self.batch_size))
        return (self._batches[index] for index in range(count))


def _module(spec: TrainSpec, world: int) -> PaperModule:
    module = spec.module(spec.config)
    if not isinstance(module, PaperModule):
        raise ConfigError(f"train.module gave a {type(module).__name__}, not a PaperModule")
    if spec.init is not None:
        module.load(spec.init)
    module.total_steps, module.seed, module.peak_lr = spec.steps, spec.seed, spec.lr
    module.clip, module.schedule = spec.clip, spec.schedule
    if world > 1:
        globalise(module.network)
    return module


def _local_devices(world: int) -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", world))


def _strategy(world: int) -> DDPStrategy | str:
    """One process: none. torchrun made the processes: DDP. Otherwise Lightning starts them."""
    if world == 1:
        return "auto"
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" in os.environ:
        return DDPStrategy(process_group_backend=backend, start_method="popen")
    return SpawnStrategy(process_group_backend=backend, start_method="spawn")


def _finish(spec: TrainSpec, out: Path, best: Path) -> Path:
    """The best averaged weights as a weights file; with what a codec needs measured on training batches."""
    path = out / WEIGHTS_FILE
    if int(os.environ.get("RANK", "0")) != 0:
        return path
    module = spec.module(spec.config)
    state = torch.load(best, map_location="cpu", weights_only=True)
    module.network.load_state_dict(state["network"])
    module.network.eval()
    with torch.no_grad():
        module.calibrate(_Calibration(spec, samples_of(spec.data)))
    module.save(
        path,
        {
            "trained_on": f"{spec.data.title}, {spec.steps} steps of {spec.batch_size}",
            "schedule": f"{spec.schedule}, peak {spec.lr:g}, seed {spec.seed}",
            "validation": f"{state['bpd']:.4f} bpd on {spec.validation.title} at step {state['step']}",
        },
    )
    return path


def _quiet() -> None:
    """Lightning's hints on worker counts and hardware are noise under our own progress bar."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
    warnings.filterwarnings("ignore", module="pytorch_lightning", message=".*lr_scheduler.*")
