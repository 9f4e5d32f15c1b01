"""What happens besides the optimiser's steps: averaging, validation with real streams, checkpoints, logs, progress bar.

Validation and everything that writes run on the first process only; the others wait.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cbench.codec import Sample
from cbench.data.loaders import as_tensor
from cbench.errors import CbenchError
from cbench.files.atomic import atomic_write
from cbench.train.module import PaperModule  # runs the guard that Lightning needs

from pytorch_lightning import Callback, Trainer  # isort: skip

REAL_ITEMS = 4
"""Validation items that are compressed, decompressed and compared each time."""
SMOOTHING = 0.98
"""Of the losses in the progress bar."""


class Average(Callback):
    """Exponential moving average of the network, which is what gets validated and saved."""

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self.network: torch.nn.Module | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: PaperModule) -> None:
        """Start from the present weights, unless a checkpoint brought an average."""
        if self.decay is not None and self.network is None:
            self.network = copy.deepcopy(pl_module.network).requires_grad_(False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: PaperModule, *_: Any) -> None:
        """Move the average; early on faster, so that the start is forgotten."""
        if self.network is None:
            return
        decay = min(self.decay, (1 + pl_module.step) / (10 + pl_module.step))
        with torch.no_grad():
            for mean, now in zip(_tensors(self.network), _tensors(pl_module.network), strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - decay)
                else:
                    mean.copy_(now)

    @contextmanager
    def applied(self, module: PaperModule) -> Iterator[None]:
        """Inside, the module's network is the average, in evaluation mode."""
        own = module.network
        module.network = own if self.network is None else self.network
        training = module.network.training
        module.network.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            module.network.train(training)
            module.network = own


class Checkpoints(Callback):
    """`last.pt` to resume from, `best.pt` with the averaged weights that validated best; tensors and numbers only."""

    def __init__(self, folder: Path, average: Average) -> None:
        self.folder = folder
        self.average = average
        self.best = math.inf

    def restore(self, module: PaperModule) -> None:
        """Continue from `last.pt`, to be called before training starts; optimisers follow in `on_train_start`."""
        state = torch.load(self.folder / "last.pt", map_location="cpu", weights_only=True)
        try:
            module.network.load_state_dict(state["network"])
            if state["average"] is not None and self.average.decay is not None:
                self.average.network = copy.deepcopy(module.network).requires_grad_(False)
                self.average.network.load_state_dict(state["average"])
        except RuntimeError as error:
            raise CbenchError(
                f"{self.folder / 'last.pt'} is of another network: {str(error).splitlines()[0]}"
            ) from None
        module.step, self.best = state["step"], state["best"]
        self._optimizers = state["optimizers"]

    _optimizers: Sequence[dict[str, Any]] = ()

    def on_train_start(self, trainer: Trainer, pl_module: PaperModule) -> None:
        """Give the optimisers their moments back."""
        for optimizer, state in zip(trainer.optimizers, self._optimizers, strict=False):
            optimizer.load_state_dict(state)

    def save_last(self, trainer: Trainer, module: PaperModule) -> None:
        """Write `last.pt`."""
        average = self.average.network
        self._write(
            "last.pt",
            {
                "network": module.network.state_dict(),
                "average": None if average is None else average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
                "step": module.step,
                "best": self.best,
            },
        )

    def offer(self, module: PaperModule, bpd: float) -> None:
        """Write `best.pt` if `bpd` is the lowest so far; the module's network must be the averaged one."""
        if bpd < self.best:
            self.best = bpd
            self._write("best.pt", {"network": module.network.state_dict(), "step": module.step, "bpd": bpd})

    def on_exception(self, trainer: Trainer, pl_module: PaperModule, exception: BaseException) -> None:
        """An interrupted run can be resumed at the step it reached."""
        if trainer.is_global_zero and isinstance(exception, KeyboardInterrupt) and trainer.optimizers:
            self.save_last(trainer, pl_module)

    def _write(self, name: str, state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / name, force=True) as temporary:
            torch.save(state, temporary)


class Validate(Callback):
    """Every so many steps: losses on the validation set, real streams of a few items, pictures, checkpoints."""

    def __init__(
        self,
        samples: Sequence[Sample],
        training: Iterable[Tensor],
        every: int,
        batch_size: int,
        checkpoints: Checkpoints,
    ) -> None:
        self.samples = samples
        self.training = training
        """Batches for `PaperModule.calibrate`."""
        self.every = every
        self.batch_size = batch_size
        self.checkpoints = checkpoints
        self.last: dict[str, float] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: PaperModule, *_: Any) -> None:
        """Validate when it is time, and after the last step."""
        if pl_module.step % self.every and pl_module.step != pl_module.total_steps:
            return
        if trainer.is_global_zero:
            with self.checkpoints.average.applied(pl_module):
                self.last = self.measure(pl_module)
                self.checkpoints.offer(pl_module, self.last["bpd"])
                self._log(trainer, pl_module)
            self.checkpoints.save_last(trainer, pl_module)
        trainer.strategy.barrier()

    def measure(self, module: PaperModule) -> dict[str, float]:
        """Mean losses over the validation set, and "real_bpd" of streams that were decoded and compared."""
        sums: dict[str, float] = {}
        for batch in self._batches():
            for name, value in module.loss(batch.to(module.device)).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
        means = {name: value / len(self.samples) for name, value in sums.items()}
        if not math.isfinite(means["bpd"]):
            raise CbenchError(f"training has diverged: the validation loss at step {module.step} is not a number")
        module.calibrate(batch.to(module.device) for batch in self.training)
        return means | {"real_bpd": self._real(module)}

    def _real(self, module: PaperModule) -> float:
        codec, size, count = module.codec(), 0, 0
        for sample in self.samples[:REAL_ITEMS]:
            data = codec.compress(sample.array)
            back = codec.decompress(data)
            if codec.max_error is not None:
                error = np.abs(back.astype(np.int64) - sample.array.astype(np.int64)).max()
                if error > codec.max_error:
                    raise CbenchError(f"{codec.name} decoded {sample.name} with an error of {error} during validation")
            size, count = size + 8 * len(data), count + sample.array.size
        return size / count

    def _batches(self) -> Iterator[Tensor]:
        """The validation set; neighbours of equal shape together."""
        batch: list[np.ndarray] = []
        for sample in self.samples:
            if batch and (len(batch) == self.batch_size or batch[0].shape != sample.array.shape):
                yield as_tensor(np.stack(batch))
                batch = []
            batch.append(sample.array)
        if batch:
            yield as_tensor(np.stack(batch))

    def _log(self, trainer: Trainer, module: PaperModule) -> None:
        if trainer.logger is None:
            return
        board = trainer.logger.experiment
        for name, value in self.last.items():
            board.add_scalar(f"validation/{name}", value, module.step)
        first = as_tensor(np.array(self.samples[0].array))[None].to(module.device)
        for name, picture in module.pictures(first).items():
            board.add_image(f"validation/{name}", picture.float().clamp(0, 1).cpu(), module.step)


class Progress(Callback):
    """A bar with bits a sample, and the training scalars for TensorBoard."""

    def __init__(self, show: bool, validation: Validate, log_every: int = 50) -> None:
        self.show = show
        self.validation = validation
        self.log_every = log_every
        self.smooth: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: PaperModule) -> None:
        """Open the bar."""
        from tqdm import tqdm

        self.bar = tqdm(
            total=pl_module.total_steps,
            initial=pl_module.step,
            disable=None if self.show and trainer.is_global_zero else True,
            unit="step",
            desc="train",
            dynamic_ncols=True,
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: PaperModule, outputs: Any, *_: Any) -> None:
        """Move the bar."""
        self.bar.update()
        if pl_module.step % self.log_every and pl_module.step != pl_module.total_steps:
            return
        for name, value in outputs.items():
            self.smooth[name] = SMOOTHING * self.smooth.get(name, float(value)) + (1 - SMOOTHING) * float(value)
        if trainer.logger is not None and trainer.is_global_zero:
            for name, value in outputs.items():
                trainer.logger.experiment.add_scalar(f"train/{name}", float(value), pl_module.step)
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            trainer.logger.experiment.add_scalar("train/lr", lr, pl_module.step)
        shown = {"bpd": f"{self.smooth['bpd']:.3f}"}
        if self.validation.last:
            shown["validation"] = f"{self.validation.last['bpd']:.3f}"
        self.bar.set_postfix(shown)

    def on_train_end(self, trainer: Trainer, pl_module: PaperModule) -> None:
        """Close the bar."""
        self.bar.close()


def _tensors(network: torch.nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())
