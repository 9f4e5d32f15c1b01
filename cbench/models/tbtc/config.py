"""The shape of a TBTC model as frozen data, and the published sizes as functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cbench.errors import ConfigError

SIDE = 64
"""Pictures are padded to multiples of this: y has 1/16 of their sides, z 1/64."""


@dataclass(frozen=True, kw_only=True)
class TbtcConfig:
    """Transforms ("conv" or "swin"), prior of y ("hyperprior" or "charm"), and their sizes."""

    transform: Literal["conv", "swin"] = "swin"
    prior: Literal["hyperprior", "charm"] = "charm"
    variant: Literal["paper", "tbtc"] = "paper"
    """"paper", or the PyTorch reproduction "tbtc", whose published weights differ in heads, norms and towers."""
    channels: tuple[int, int, int, int] = (128, 192, 256, 320)
    """C1..C4 of g_a, from fine to coarse; y has C4. The paper's Conv models have C4 throughout."""
    hyper: tuple[int, int] = (192, 192)
    """C5, C6 of h_a; z has C6. Conv models use C6 throughout."""
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    """Blocks of each stage of g_a."""
    hyper_depths: tuple[int, int] = (5, 1)
    """Blocks of each stage of h_a."""
    window: int = 8
    """w of g_a and g_s."""
    hyper_window: int = 4
    """w of h_a and h_s."""
    head: int = 32
    """Channels of an attention head; "tbtc" has four heads whatever this says, and takes only its scale from here."""
    slice: int = 32
    """Channels of a ChARM slice."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.transform not in ("conv", "swin") or self.prior not in ("hyperprior", "charm"):
            raise ConfigError(f"there is no TBTC model with transform={self.transform!r}, prior={self.prior!r}")
        if self.variant not in ("paper", "tbtc"):
            raise ConfigError(f'variant (={self.variant!r}) must be "paper" or "tbtc"')
        if self.prior == "charm" and self.channels[3] % self.slice:
            raise ConfigError(f"slice (={self.slice}) must divide the channels of y (={self.channels[3]})")
        if self.transform == "swin":
            unit = self.head if self.variant == "paper" else 4
            if any(c % unit for c in (*self.channels, *self.hyper)):
                raise ConfigError(f"channels (={self.channels}) and hyper (={self.hyper}) must be multiples of {unit}")

    @property
    def latent(self) -> int:
        """Channels of y."""
        return self.channels[3]

    @property
    def hyper_latent(self) -> int:
        """Channels of z."""
        return self.hyper[1]

    @property
    def slices(self) -> int:
        """How many slices ChARM codes one after the other; 1 without ChARM."""
        return self.latent // self.slice if self.prior == "charm" else 1

    def heads(self, channels: int) -> int:
        """Attention heads of a block."""
        return channels // self.head if self.variant == "paper" else 4

    def tower(self, i: int) -> tuple[int, int, int, int]:
        """Channels through the two hidden layers of ChARM's i-th tower: in, c1, c2, out."""
        width, inputs = self.slice, self.slice * (i + 1)
        if self.variant == "tbtc":
            return inputs, (width + 2 * inputs) // 3, (2 * width + inputs) // 3, width
        wide = max(inputs, 2 * width)
        return inputs, 2 * (wide + width) // 3, (wide + width) // 3, width


@dataclass(frozen=True, kw_only=True)
class TbtcTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: TbtcConfig = TbtcConfig()
    rate: float = 0.01
    """lambda: the loss is bpp + lambda * 255^2 * MSE, or bpp + lambda * (1 - MS-SSIM)."""
    distortion: Literal["mse", "ms-ssim"] = "mse"
    settle_every: int = 500
    """Steps between two bisections for the quantiles of z's prior (instead of an auxiliary optimiser)."""
    decay_at: float | None = None
    """Share of the steps after which the learning rate is a tenth of `TrainSpec`'s (the paper: 0.9); None: never."""
    linear_start: float | None = None
    """Start the transforms as a linear transform coder with this gain (`start.py`); None: at random, as the paper."""
    channels_last: bool = True
    """Memory layout of Conv models; changes the speed only."""


BETAS = (0.003, 0.001, 0.0003, 0.0001)
"""The paper's rate weights: its loss is 255^2 * MSE + beta * bits of a 256 x 256 crop."""


def lambda_of(beta: float, crop: int = 256) -> float:
    """The lambda whose loss is the paper's, divided by a constant."""
    return 1 / (crop * crop * beta)


def small(transform: str, prior: str, variant: str = "paper") -> TbtcConfig:
    """Size S."""
    return _sized(transform, prior, variant, (96, 128, 160, 192), (96, 128))


def medium(transform: str, prior: str, variant: str = "paper") -> TbtcConfig:
    """Size M, the one that the paper's tables are about."""
    return _sized(transform, prior, variant, (128, 192, 256, 320), (192, 192))


def large(transform: str, prior: str, variant: str = "paper") -> TbtcConfig:
    """Size L."""
    return _sized(transform, prior, variant, (160, 256, 352, 448), (192, 256))


def extra_small(transform: str, prior: str) -> TbtcConfig:
    """Our smallest size, less than a million parameters, for training on a CPU."""
    if transform == "conv":
        return TbtcConfig(transform="conv", prior=prior, channels=(32, 48, 64, 128), hyper=(32, 32))
    return TbtcConfig(
        transform="swin",
        prior=prior,
        channels=(16, 32, 48, 80),
        hyper=(32, 32),
        depths=(2, 2, 2, 2),
        head=16,
        slice=16,
    )


def tiny(transform: str, prior: str, variant: str = "paper") -> TbtcConfig:
    """The sizes of the golden vectors; for tests."""
    sizes = _sized(transform, prior, variant, (8, 12, 16, 20), (12, 12), unit=4)
    return replace(sizes, window=4, hyper_window=2, slice=2)


def _sized(
    transform: str, prior: str, variant: str, channels: tuple[int, ...], hyper: tuple[int, ...], unit: int = 32
) -> TbtcConfig:
    if transform == "conv":
        channels, hyper = channels[3:] * 4, hyper[1:] * 2
    return TbtcConfig(
        transform=transform, prior=prior, variant=variant, channels=channels, hyper=hyper, head=unit, slice=unit
    )
