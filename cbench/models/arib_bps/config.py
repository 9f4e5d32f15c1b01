"""The shape of an ArIB-BPS model as frozen data, and the published configurations as functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cbench.errors import ConfigError
from cbench.zoo.checkpoints import later


@dataclass(frozen=True, kw_only=True)
class AribConfig:
    """Both models: SIG for the upper bit planes with a hierarchical latent, INS for the lower ones without."""

    share: bool = True
    """One space net and one parameter net a plane serve all four steps; else each step has its own."""
    sig_num: int = 4
    """s: how many planes, from the most significant on, SIG codes."""
    n_layers: int = 3
    """L: scales of the latent; the U-Nets have L + 1 resolutions."""
    sig_plane_width: int = 96
    sig_plane_depth: int = 4
    """Residual blocks at each resolution of SIG's U-Net on the way down; one more on the way up."""
    ins_plane_width: int = 128
    ins_plane_depth: int = 5
    latent_width: int = 128
    """w: channels inside the latent model and of its result F_z."""
    latent_depth: int = 8
    latent_channels: int = 3
    """c: channels of each latent z_i."""
    space_width: int = 64
    entropy_width: int = 128
    entropy_depth: int = 1
    """Residual blocks of a parameter net."""
    space_width_ins: int | None = None
    """As without `_ins`, for INS; None: the same."""
    entropy_width_ins: int | None = None
    entropy_depth_ins: int | None = None
    folded: bool = False
    """Ours: U-Nets, space and parameter nets see the four sub-images as channels at half the resolution. A pixel then
    costs a quarter of the arithmetic of the same width (the published models: off)."""
    groups: int = 32
    """Groups of a group norm (the published models: 32)."""
    local: int = later(0)
    """Ours: hidden units of a small network a plane over the differences to the nearest pixels, added to the parameters
    (`local.py`; the published models: none)."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if not 1 <= self.sig_num <= 7:
            raise ConfigError(f"sig_num (={self.sig_num}) must lie in 1..7")
        if self.n_layers < 1 or min(self.sig_plane_depth, self.ins_plane_depth, self.latent_depth, self.local) < 0:
            raise ConfigError("an ArIB-BPS model needs n_layers >= 1, depths >= 0 and local >= 0")
        normed = (self.sig_plane_width, self.ins_plane_width, *self.sig_step, *self.ins_step)
        if any(width % self.groups for width in (*normed[:4], normed[5], normed[6])):
            raise ConfigError(f"widths of U-Nets, space and parameter nets must be multiples of {self.groups}")

    @property
    def sig_step(self) -> tuple[int, int, int]:
        """Space width, parameter-net width and depth of SIG."""
        return self.space_width, self.entropy_width, self.entropy_depth

    @property
    def ins_step(self) -> tuple[int, int, int]:
        """The same of INS."""
        own = (self.space_width_ins, self.entropy_width_ins, self.entropy_depth_ins)
        space, width, depth = (b if a is None else a for a, b in zip(own, self.sig_step, strict=True))
        return space, width, depth

    @property
    def stride(self) -> int:
        """The nets take pictures whose sides are multiples of this."""
        return 2 ** (self.n_layers + self.folded)

    def latents(self, height: int, width: int) -> int:
        """N_z: elements of all z_i of a picture."""
        return sum(self.latent_channels * (height >> level) * (width >> level) for level in range(1, self.n_layers + 1))


@dataclass(frozen=True, kw_only=True)
class AribTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: AribConfig = AribConfig()
    mode: Literal["sig", "ins", "both", "finetune"] = "both"
    """Which model learns; "both" is ours: one step of each. "finetune": SIG with discretised latents."""
    dropout: float = 0.0
    decay_rate: float = 1.0
    """The learning rate is multiplied by this every `decay_interval` steps."""
    decay_interval: int = 1
    qps: Path | None = None
    """Finetuning: a list of `tools/list_qps.py`; None, and for pictures that it lacks: from INS as it is."""
    one_step: bool = False
    """Ours: of every picture and plane one of the four steps, in turn; a quarter of the batch has each of them.
    Batches that are no multiple of 4 take every step."""
    high_pass: bool = False
    """Ours: most of the U-Nets' first filters start as large ones without a mean and see small differences."""
    channels_last: bool = True
    """Memory layout; changes the speed only."""


def cifar10() -> AribConfig:
    """The paper's model for CIFAR-10: 44,271,774 parameters."""
    return AribConfig()


def imagenet32() -> AribConfig:
    """The paper's model for ImageNet32: 328,277,990 parameters."""
    return AribConfig(
        share=False,
        sig_plane_width=192,
        sig_plane_depth=6,
        ins_plane_width=256,
        ins_plane_depth=6,
        latent_width=256,
        space_width=192,
        entropy_width=256,
        entropy_depth=3,
    )


def imagenet64() -> AribConfig:
    """The paper's model for ImageNet64: 146,339,238 parameters."""
    return AribConfig(
        share=False,
        sig_plane_width=160,
        sig_plane_depth=3,
        ins_plane_width=192,
        ins_plane_depth=5,
        latent_width=192,
        space_width=128,
        entropy_width=192,
        entropy_depth=2,
        space_width_ins=160,
        entropy_width_ins=192,
        entropy_depth_ins=2,
    )


def imagenet64_small() -> AribConfig:
    """The paper's small model for ImageNet64: 44,126,246 parameters."""
    return replace(cifar10(), share=False, sig_plane_depth=3, ins_plane_depth=3)


def cifar10_small() -> AribConfig:
    """The model of `arib_bps.cifar10`: 2.5 million parameters, small enough to be trained on one core."""
    return AribConfig(
        folded=True,
        n_layers=2,
        sig_plane_width=64,
        sig_plane_depth=0,
        ins_plane_width=64,
        ins_plane_depth=0,
        latent_width=32,
        latent_depth=1,
        latent_channels=2,
        space_width=32,
        entropy_width=32,
        local=64,
    )


def tiny_share() -> AribConfig:
    """The smallest model with shared nets, of the golden vectors; for tests."""
    return AribConfig(
        sig_plane_width=32,
        sig_plane_depth=1,
        ins_plane_width=32,
        ins_plane_depth=1,
        latent_width=16,
        latent_depth=2,
        space_width=32,
        entropy_width=32,
    )


def tiny_split() -> AribConfig:
    """The smallest model whose steps have their own nets, of the golden vectors; for tests."""
    return replace(
        tiny_share(),
        share=False,
        n_layers=2,
        latent_depth=1,
        latent_channels=2,
        space_width_ins=32,
        entropy_width_ins=32,
        entropy_depth_ins=2,
    )
