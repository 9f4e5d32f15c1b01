"""What a paper says about its training: loss, groups of parameters, and how to make a codec of the network."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cbench.codec import Codec
from cbench.nn.torchvision_guard import guard
from cbench.train.schedule import rate

guard()

from pytorch_lightning import LightningModule  # noqa: E402  (needs the guard)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters with an optimiser of their own: the main ones, an auxiliary optimiser, or one stage of several."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr: float = 1.0
    """Factor of `TrainSpec.lr`."""
    schedule: str | None = None
    """None: `TrainSpec.schedule`, running over this group's share of the steps."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    """Decoupled (AdamW) if not zero."""
    clip: bool = True
    """Whether `TrainSpec.clip` bounds this group's gradient norm."""
    start: float = 0.0
    """Share of all steps before this group begins to learn."""
    stop: float = 1.0
    """Share of all steps after which it stays as it is."""

    def progress(self, done: float) -> float | None:
        """This group's own progress in 0..1 when `done` of all steps are over; None where it does not learn."""
        if not self.start <= done < self.stop:
            return None
        return (done - self.start) / (self.stop - self.start)


class PaperModule(LightningModule, abc.ABC):
    """Base of every paper's training module: write `loss`, `codec` and `save`; override the rest where needed.

    One backward pass serves all groups: an auxiliary loss is simply added to "loss", and must reach none but its own
    group's parameters.
    """

    network: nn.Module
    """What is trained, averaged (EMA) and saved."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        self.step = 0
        """Optimiser steps done."""
        self.total_steps = 1
        self.seed = 0
        self.peak_lr = 0.0
        self.clip: float | None = None
        self.schedule = "constant"

    @abc.abstractmethod
    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """Losses of a batch (B, C, H, W) of integers.

        Returns:
            Scalars; "loss" is minimised, "bpd" (bits a sample) is shown and decides which weights are best.
        """

    @abc.abstractmethod
    def codec(self) -> Codec:
        """A codec with the weights as they are now, for real streams in validation."""

    @abc.abstractmethod
    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the weights file that `cbench.load_codec(name, weights=path)` reads."""

    def groups(self) -> list[Group]:
        """The optimisers; the default is one Adam over everything."""
        return [Group(name="main", parameters=tuple(self.network.parameters()))]

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure what a codec needs beside the weights, such as symbol counts, on training batches.

        The network is in evaluation mode.
        """

    def after_step(self, batch: Tensor) -> None:
        """Called after every optimiser step, on every process."""

    def load(self, path: Path) -> None:
        """Start from a weights file (`TrainSpec.init`)."""
        raise NotImplementedError(f"{type(self).__name__} cannot start from a weights file")

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """Pictures (C, H, W) in [0, 1] for TensorBoard, made from a validation batch."""
        return {}

    @property
    def progress(self) -> float:
        """Share of the steps that are done."""
        return self.step / self.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimiser a group."""
        kinds = {True: torch.optim.AdamW, False: torch.optim.Adam}
        return [
            kinds[group.weight_decay > 0](
                group.parameters, lr=self.peak_lr * group.lr, betas=group.betas, weight_decay=group.weight_decay
            )
            for group in self.groups()
        ]

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """One step of every group that learns at present."""
        losses = self.loss(batch)
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.manual_backward(losses["loss"])
        for group, optimizer in zip(self.groups(), optimizers, strict=True):
            self._update(group, optimizer)
        self.step += 1
        self.after_step(batch)
        return {name: value.detach() for name, value in losses.items()}

    def _update(self, group: Group, optimizer: Any) -> None:
        at = group.progress(self.progress)
        if at is None:
            return
        for settings in optimizer.param_groups:
            settings["lr"] = self.peak_lr * group.lr * rate(group.schedule or self.schedule, at)
        if self.clip is not None and group.clip:
            nn.utils.clip_grad_norm_(group.parameters, self.clip)
        optimizer.step()
