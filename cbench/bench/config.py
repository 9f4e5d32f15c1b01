"""An experiment as typed, frozen data. Configs are plain functions that return an `Experiment`; variants call
another function and `dataclasses.replace` fields.

Nothing here imports torch: a config file must load offline in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbench.codec import Codec, Sample
from cbench.errors import ConfigError

RUN_WEIGHTS = "run"
"""As `CodecSpec.weights`: the weights that this experiment's own training stage wrote."""


@dataclass(frozen=True, kw_only=True)
class CodecSpec:
    """One row group of the result table: a codec and the weights it uses."""

    codec: str
    """A name of `cbench.list_codecs()`."""
    label: str = ""
    """Name in tables and plots; empty: the codec's name."""
    weights: str | None = None
    """None: the shipped weights; a path; or "run": what this experiment trained."""
    max_error: int | None = None
    """Near-lossless bound for codecs that take one (`NearLossless`)."""
    build: Callable[[Path | None, str, int], Codec] | None = None
    """Builder `(weights, device, threads) -> Codec` of a codec without a name or with other settings than its
    name's; `functools.partial` binds settings. None: the builder that `codec` names."""
    series: str = ""
    """Rate-distortion curve that this codec is a point of, such as "JPEG"; empty: none."""

    @property
    def title(self) -> str:
        """The label, or the codec's name."""
        return self.label or self.codec


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """A data set: a function that returns samples, where it lies, and how much of it to use."""

    source: Callable[..., Sequence[Sample]]
    """Called as `source(root)`, or `source()` when `root` is None."""
    root: Path | None = None
    """Folder of the data set; None: the source's own rule (environment variable, then ./data)."""
    limit: int | None = None
    """Use only the first items."""
    name: str = ""
    """Name in tables; empty: the function's name."""

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit (={self.limit}) of data set {self.title!r} must be at least 1")

    @property
    def title(self) -> str:
        """The name, or the source function's."""
        return self.name or getattr(self.source, "__name__", "data")


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """The training stage. Steps are optimiser steps; the batch size is that of all processes together."""

    module: Callable[[Any], Any]
    """Builds the `PaperModule` from `config`."""
    config: Any = None
    """The paper's frozen Config dataclass."""
    data: DataSpec
    validation: DataSpec
    """Never the test set."""
    steps: int
    """Optimiser steps in total (not epochs)."""
    batch_size: int
    """Items a step over all processes together."""
    lr: float
    """Peak learning rate of the main group."""
    schedule: str = "constant"
    """"constant" or "one-cycle"."""
    crop: int | None = None
    """Side of random square crops in pixels; None: whole items."""
    flip: bool = True
    """Random horizontal flips."""
    precision: str = "32"
    """"32" or "bf16" (autocast of the networks)."""
    clip: float | None = 1.0
    """Gradient-norm clipping; None: off."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights that is validated and saved; None: off."""
    validate_every: int = 1000
    """Steps between validations, each with real streams of a few items."""
    devices: int = 1
    """Processes (CPU, gloo) or GPUs."""
    threads: int = 1
    """Torch threads a process."""
    seed: int = 0
    init: Path | None = None
    """Weights to start from (fine-tuning)."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.steps < 1:
            raise ConfigError(f"train.steps (={self.steps}) must be at least 1")
        if self.batch_size % self.devices:
            raise ConfigError(
                f"train.batch_size (={self.batch_size}) must be a multiple of train.devices (={self.devices})"
            )
        if self.schedule not in ("constant", "one-cycle"):
            raise ConfigError(f'train.schedule (={self.schedule!r}) must be "constant" or "one-cycle"')
        if self.precision not in ("32", "bf16"):
            raise ConfigError(f'train.precision (={self.precision!r}) must be "32" or "bf16"')


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is measured on every item, and how."""

    repeats: int = 1
    """Timed repetitions; the median is reported."""
    warmup: int = 1
    """Items coded once before timing starts."""
    threads: int = 1
    """Thread count given to every codec, recorded in every row."""
    device: str = "cpu"
    """Where networks run."""
    archive: bool = False
    """Code small pictures in archives of up to 1000 where the codec can; else one file an item."""
    psnr: bool = False
    """Peak signal-to-noise ratio of lossy codecs; the peak is the largest value of the dtype."""
    band_rates: bool = False
    """What each band of a cube costs, for the first items of a data set and codecs that can say (coded once more)."""
    ms_ssim: bool = False
    """Multi-scale structural similarity of lossy codecs (8-bit pictures of at least 161 x 161)."""

    def __post_init__(self) -> None:
        """Check the counts."""
        if self.repeats < 1 or self.warmup < 0 or self.threads < 1:
            raise ConfigError(
                f"measure.repeats (={self.repeats}) and measure.threads (={self.threads}) must be at least 1 "
                f"and measure.warmup (={self.warmup}) at least 0"
            )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A rate-distortion curve that others published: drawn beside ours, and never mistaken for a measurement."""

    label: str
    dataset: str
    """Name of the data set that it is of (`DataSpec.title`)."""
    items: int
    """How many items its means are over; it is shown where a run coded just as many."""
    points: tuple[tuple[float, float, float | None], ...]
    """Bits a pixel, PSNR in dB, MS-SSIM."""
    source: str
    """Where the figures are from, and what they leave out."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything one run does: train (optional), then code the data set with every codec and compare."""

    name: str
    """Short human name; names the run folder."""
    codecs: tuple[CodecSpec, ...]
    data: tuple[DataSpec, ...]
    measure: Measure = Measure()
    train: TrainSpec | None = None
    references: tuple[Reference, ...] = ()
    """Published curves for the plots and the BD-rate table."""
    description: str = ""
    """One sentence for the report."""

    def __post_init__(self) -> None:
        """Check that every row of the result table will have a name of its own."""
        if not self.codecs or not self.data:
            raise ConfigError(f"experiment {self.name!r} needs at least one codec and one data set")
        for what, titles in (("codecs", self.codecs), ("data", self.data)):
            names = [spec.title for spec in titles]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"{what} of experiment {self.name!r}: {twice[0]!r} occurs twice; give labels")
