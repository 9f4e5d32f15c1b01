"""The shape of an FSAR model as frozen data, and the published configurations as functions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cbench.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FsarConfig:
    """Backbone "bbv2" with a vector-quantised latent in groups (V2DVQ) and a Gaussian for every sub-pixel."""

    channels: int = 64
    """C: channels of every hidden layer and of the latent z."""
    downsamples: int = 1
    """D: the latent grid is 2^D times smaller than the picture on each side."""
    residuals: int = 1
    """R: residual blocks in the encoder and in the decoder."""
    groups: int = 2
    """L: the channels of z are split in this many groups, each with its own codebook ("c2" = 2)."""
    codes: int = 256
    """K: vectors of a codebook."""
    gs_temp: float = 0.5
    """Temperature of the Gumbel-softmax whose gradient the hard code gets (STHQ)."""
    relax_temp: float = 1.0
    """Temperature of the posterior over the codes."""
    cont_weight: float = 1.0
    """Weight of |f - q|^2 / 2, the loss that ties encoder and codebook."""
    edge_mass: bool = False
    """Train with the Gaussian's tails in the values 0 and 255, as the coder's tables have it (original: off)."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.channels % self.groups:
            raise ConfigError(f"channels (={self.channels}) must be a multiple of groups (={self.groups})")
        if self.downsamples < 1 or self.residuals < 0 or self.codes < 2:
            raise ConfigError("an FSAR model needs downsamples >= 1, residuals >= 0 and codes >= 2")

    @property
    def embedding(self) -> int:
        """E: length of one code vector."""
        return self.channels // self.groups

    @property
    def stride(self) -> int:
        """Pictures are padded to multiples of this side length."""
        return 2**self.downsamples


@dataclass(frozen=True, kw_only=True)
class FsarTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: FsarConfig = FsarConfig()
    soft_every: int = 1
    """Every n-th picture of a batch passes on the Gumbel-softmax gradient; 1: all (the paper), 0: none.

    The noise is the most expensive part of a step on a CPU, and an eighth of it trains the codebook as well."""
    revive_every: int = 0
    """Steps between two searches for hardly used codes, which are put onto encoder outputs; 0: never (the paper)."""
    revive_below: float = 1e-5
    """Share of a group's symbols below which a code counts as hardly used."""
    revive_until: float = 0.6
    """Share of the steps after which codes are left alone."""
    channels_last: bool = True
    """Memory layout; changes the speed only."""


def v2dvq_c2() -> FsarConfig:
    """`V2DVQ-c2` on the shallow backbone: the baseline of the paper's CIFAR-10 and ImageNet32/64 tables."""
    return FsarConfig()


def v2dvq_c2_edges() -> FsarConfig:
    """`V2DVQ-c2` with the tails of the Gaussian in the training likelihood: the configuration of our own weights."""
    return replace(v2dvq_c2(), edge_mass=True)


def tiny() -> FsarConfig:
    """The sizes of the golden vectors' small model; for tests."""
    return FsarConfig(channels=16, groups=2, codes=16)
