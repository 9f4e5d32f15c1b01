"""The shape of a BaSIC codec as frozen data, and the published configurations as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cbench.codec import Sample
from cbench.errors import ConfigError

EDGES = ("x_y", "y_z", "z_y", "y_x")
"""The controllers of the inter-node structure, in the order of the published selectors (pgmxy, pgmyz, pgmzy, pgmyx)."""
LAMBDAS = (39.015, 75.8625, 145.2225, 281.775, 541.875)
"""Weights of the squared error, summed over the picture in [0, 1]; the last one only for the hyperprior."""
PUBLISHED = ("tones", "upside-down")
"""What the original's training did to pictures, beside crops and mirroring left to right: see `augment.py`."""
MAIN_WIDTHS = (48, 72, 96, 144, 192)
UNIVERSAL_WIDTHS = tuple(range(48, 193, 12))


@dataclass(frozen=True, kw_only=True)
class CoderConfig:
    """One coder of y: an order and the network that looks at what the order lets it see."""

    order: str = "scanline"
    """A name of `orders.ORDERS`, "random", or "learned"."""
    groups: int = 1
    """G: channel groups of y, each with labels of its own."""
    stages: int = 0
    """S: labels that a learned order chooses from; for "random": how many there are, 0: as many as elements."""
    variant: Literal["A", "B", "sum"] = "A"
    kernel: int = 5
    expand: int = 1
    """Factor of the hidden widths of variant "B"."""
    hidden: tuple[int, int] | None = None
    """Hidden widths of variant "A"; None: 10/3 and 8/3 of the channels of y."""
    logits: Literal["generator", "parameter", "continuous"] = "generator"
    """Where the labels of a learned order come from."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.groups < 1 or self.kernel % 2 == 0 or self.expand < 1:
            raise ConfigError("a coder of y needs groups >= 1, an odd kernel and expand >= 1")
        if self.order == "learned" and self.stages < 2:
            raise ConfigError("a learned order needs at least 2 stages")

    def layer_widths(self, channels: int) -> tuple[int, ...]:
        """Inputs, both hidden widths and outputs of the 1 x 1 layers for C channels of y."""
        c = channels
        if self.variant == "B":
            return 4 * c, 4 * c * self.expand, 4 * c * self.expand, 4 * c
        first, second = self.hidden or (10 * c // 3, 8 * c // 3)
        return 4 * c, self._grouped(first), self._grouped(second), 2 * c

    def _grouped(self, width: int) -> int:
        """The next width that the groups divide."""
        return -(-width // self.groups) * self.groups


@dataclass(frozen=True, kw_only=True)
class BasicConfig:
    """Nodes and edges: x -> y -> z inferred, z -> y -> x generated."""

    framework: Literal["joint", "hyperprior"] = "joint"
    """What codes y: order-conditioned Gaussians, or zero-mean ones of the hyperprior's scale."""
    backbone: Literal["balle", "groups", "cheng", "elic"] = "balle"
    """Layers of x -> y and y -> x; "groups": plain ones in groups of channels, as wide as the narrowest candidate, that
    never see each other (hyperprior only)."""
    widths: tuple[int, ...] = MAIN_WIDTHS
    """Candidates of every slimmable edge, rising."""
    slim: tuple[str, ...] = EDGES
    """Edges that have candidates; the others run at the widest only."""
    latent: int = 192
    """M: channels of y."""
    hyper: int = 192
    """Z: channels of z."""
    slim_latents: bool = False
    """Let y and z be as narrow as the chosen candidates, each width with its own prior of z (SlimCAE)."""
    plain_prior: bool = False
    """Use the scale hyperprior's synthesis, with twice the outputs, for joint models too."""
    magnitudes: bool = False
    """Infer z from |y| instead of y, as CompressAI's hyperprior does."""
    coders: tuple[CoderConfig, ...] = (CoderConfig(),)
    """Coders of y to choose from, joint models only: the fifth controller."""
    straight_through: bool = True
    """Train with rounded values forward, gradients as if they were not; else with noisy values."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 2:
            raise ConfigError(f"widths (={self.widths}) must rise, from 2 at least")
        if not set(self.slim) <= set(EDGES):
            raise ConfigError(f"slim (={self.slim}) must name edges among {', '.join(EDGES)}")
        plain = self.backbone in ("balle", "groups")
        if self.framework == "hyperprior" and (self.coders or not plain):
            raise ConfigError("the hyperprior has no coders to choose from, and the plain backbone")
        if self.backbone == "groups":
            self._check_groups()
        if self.framework == "joint" and not self.coders:
            raise ConfigError("a joint model needs a coder of y")
        if self.slim_latents and self.framework != "hyperprior":
            raise ConfigError("only the hyperprior may have slimmable latents")
        for coder in self.coders:
            if self.latent % coder.groups:
                raise ConfigError(f"latent (={self.latent}) must be a multiple of the coder's groups (={coder.groups})")

    def _check_groups(self) -> None:
        if self.framework != "hyperprior" or self.slim_latents or self.latent != self.widths[-1]:
            raise ConfigError('the backbone "groups" needs a hyperprior with as many latent as hidden channels')
        if any(width % self.widths[0] for width in self.widths):
            raise ConfigError(f"widths (={self.widths}) must be multiples of the first, the size of a group")

    @property
    def choices(self) -> tuple[int, ...]:
        """Number of candidates of each controller: the four edges, then the coders of y."""
        return (*(len(self.widths) if edge in self.slim else 1 for edge in EDGES), max(1, len(self.coders)))


@dataclass(frozen=True, kw_only=True)
class BasicTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: BasicConfig = BasicConfig()
    rd_lambda: float = LAMBDAS[2]
    """Weight of the squared error of a picture in [0, 1], against bits."""
    distortion: Literal["mse", "ms-ssim"] = "mse"
    sampling: Literal["uniform", "sandwich", "relaxed"] = "uniform"
    """Structures of a step: one drawn for the whole batch (the paper); or in the batch's four quarters the largest, the
    smallest and two drawn ones; or mixtures that every edge's own logits choose (Gumbel-softmax)."""
    distill: bool = False
    """Train narrow candidates of y -> x towards the widest (universally slimmable)."""
    start: Literal["random", "linear"] = "random"
    """Weights to begin with: torch's, or those of a linear transform coder (`start.py`), which a short training gains
    more from than from anything else."""
    complexity_loss: Literal["absolute", "relative"] = "absolute"
    """How a relaxed choice pays for multiply-adds of the edges: those above a limit, in bits; or as a share of the way
    from the smallest to the largest structure, beside R + lambda D as the same kind of share."""
    complexity_weight: float = 0.0
    """Weight of that: bits for each multiply-add above `complexity_limit`, or what the share counts."""
    complexity_limit: float = 0.0
    """Multiply-adds a pixel that cost nothing."""
    estimator: Literal["vimco", "reinforce", "thermodynamic"] = "vimco"
    """What moves the logits of learned orders."""
    order_samples: int = 2
    """K: label maps drawn a step for orders that are learned."""
    random_orders: int = 0
    """Items seen before an order begins to be learned; until then its labels are random."""
    random_order_share: float = 0.0
    """Share of the steps with random labels afterwards."""
    frozen: tuple[str, ...] = ()
    """Parts that are not trained: names of edges, "z"."""
    search: Callable[[], Sequence[Sample]] | None = None
    """Pictures on which the structures worth using are searched before the weights are saved, never those of a test."""
    search_limit: int = 8
    """How many of them, each cut to its middle 256 x 256 at most."""
    augment: tuple[str, ...] = ()
    """Changes to training pictures, names of `augment.AUGMENTATIONS`."""
    channels_last: bool = False
    """Memory layout; changes the speed only."""


def joint() -> BasicConfig:
    """The main model: joint autoregressive and hierarchical prior, every edge with five widths, raster order."""
    return BasicConfig()


def combined() -> BasicConfig:
    """The main model with five coders of y: raster and learned orders of 8, 6, 4 (16 labels) and 2 stages."""
    learned = ((4, 8), (4, 6), (1, 16), (2, 2))
    return BasicConfig(coders=(CoderConfig(), *(CoderConfig(order="learned", groups=g, stages=s) for g, s in learned)))


def universal_decoder() -> BasicConfig:
    """Only the synthesis is slimmable, with 13 widths."""
    coder = CoderConfig(variant="B", expand=2)
    return BasicConfig(widths=UNIVERSAL_WIDTHS, slim=("y_x",), plain_prior=True, coders=(coder,))


def cheng() -> BasicConfig:
    """Backbone of Cheng et al. without attention, M = 128."""
    return BasicConfig(
        backbone="cheng",
        widths=(32, 64, 96, 128),
        latent=128,
        hyper=128,
        coders=(CoderConfig(variant="B"),),
        straight_through=False,
    )


def elic() -> BasicConfig:
    """Backbone of ELIC without attention, M = 192."""
    return BasicConfig(backbone="elic", coders=(CoderConfig(variant="B"),), straight_through=False)


def hyperprior() -> BasicConfig:
    """Scale hyperprior with every edge slimmable."""
    return BasicConfig(framework="hyperprior", coders=(), straight_through=False)


def slim_cae() -> BasicConfig:
    """Whole sub-codecs of different widths, as in SlimCAE."""
    return replace(hyperprior(), slim_latents=True)


def universal_hyperprior() -> BasicConfig:
    """Scale hyperprior with a universally slimmable decoder."""
    return replace(hyperprior(), widths=UNIVERSAL_WIDTHS, slim=("y_x",))


def static_hyperprior() -> BasicConfig:
    """Scale hyperprior of one width."""
    return replace(hyperprior(), widths=(192,))


def group_hyperprior() -> BasicConfig:
    """Scale hyperprior whose transforms are four groups of 48 channels, of which the leading ones run."""
    return replace(hyperprior(), backbone="groups", widths=(48, 96, 144, 192), slim=("x_y", "y_x"))


def topo_group(coder: CoderConfig) -> BasicConfig:
    """The model of the order experiments: one width, N = 128, M = 192."""
    return BasicConfig(widths=(128,), hyper=128, plain_prior=True, coders=(coder,), straight_through=False)


def ordered(order: str, groups: int = 1, stages: int = 0) -> CoderConfig:
    """The coder of the order experiments: the wide context model with an order."""
    return CoderConfig(variant="B", expand=2, order=order, groups=groups, stages=stages)


def topo_group_base() -> BasicConfig:
    """The base that the order experiments start from: no order, context and prior added up."""
    return topo_group(CoderConfig(variant="sum", order="none"))


def photos() -> BasicConfig:
    """The model of `basic.photos-*`, small enough to train on one core: four widths, raster and checkerboard."""
    return BasicConfig(
        widths=(16, 24, 32, 48),
        latent=48,
        hyper=48,
        coders=(CoderConfig(), CoderConfig(order="checkerboard")),
    )


def tiny() -> BasicConfig:
    """The sizes of the golden vectors' small model; for tests."""
    return BasicConfig(widths=(4, 6, 8), latent=8, hyper=8)
