"""The shape of an FSAR model as frozen data, and the published configurations as functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cbench.coding.states import Offset
from cbench.errors import ConfigError
from cbench.zoo.checkpoints import later

NEIGHBOURS: dict[str, tuple[Offset, ...]] = {
    "none": (),
    "l": ((0, -1, 0),),
    "lt": ((0, -1, 0), (0, 0, -1)),
    "l2": ((0, -1, 0), (0, -2, 0)),
    "c": ((-1, 0, 0),),
    "c2": ((-1, 0, 0), (-2, 0, 0)),
    "cl": ((-1, 0, 0), (0, 0, -1)),
    "clt": ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "c2lt": ((-1, 0, 0), (-2, 0, 0), (0, -1, 0), (0, 0, -1)),
    "ctx3": ((0, -1, 0), (0, 0, -1), (0, -1, -1)),
}
"""The paper's contexts: (group, row, column) of each neighbour. "l" is the row above, in spite of its name."""
MCQUIC_LEVELS = 3
"""Levels of the quantiser "mcquic"."""


@dataclass(frozen=True, kw_only=True)
class FsarConfig:
    """Backbone "bbv2", a vector-quantised latent in groups (V2DVQ), the prior of its symbols, the pixels."""

    channels: int = 64
    """C: channels of every hidden layer and of the latent z."""
    downsamples: int = 1
    """D: the latent grid is 2^D times smaller than the picture on each side."""
    residuals: int = 1
    """R: residual blocks in the encoder and in the decoder."""
    skip: bool = False
    """A connection around each stack of residual blocks."""
    upsample: Literal["transposed", "shuffle"] = "transposed"
    """Transposed convolution, or convolution and pixel shuffle."""
    groups: int = 2
    """L: the channels of z are split in this many groups, each with its own codebook ("c2" = 2)."""
    codes: int = 256
    """K: vectors of a codebook."""
    quantizer: Literal[
        "sthq", "nosth", "sqvae", "em", "vqvae", "softvqvae", "vqvae-ema", "mcquic", "bottleneck", "vae"
    ] = later("sthq")
    """What becomes of z: nearest codes, for which training sees what `quantizers` and `vqvae` say; codes on several
    levels (`mcquic`); or no codes (the last two; see `continuous`)."""
    gs_temp: float = 0.5
    """Temperature of the Gumbel-softmax whose gradient the hard code gets (STHQ)."""
    relax_temp: float = 1.0
    """Temperature of the posterior over the codes."""
    entropy_temp: float = later(0.0)
    """Weight of the posterior's entropy, which is taken off the loss; 0: the loss is the symbols' code length."""
    annealed: Literal["none", "gs_temp", "relax_temp", "entropy_temp", "gap"] = later("none")
    """Which of the three falls while training (`FsarTraining.halvings`); "gap": the weight of the pixels that the
    decoder makes of mean code vectors, in favour of those that it makes of hard codes ("softvqvae" only)."""
    cont_weight: float = 1.0
    """Weight of |f - q|^2 / 2, the loss that ties encoder and codebook."""
    edge_mass: bool = False
    """Train with the Gaussian's tails in the values 0 and 255, as the coder's tables have it (original: off)."""
    context: tuple[Offset, ...] = ()
    """Neighbours that a symbol's distribution depends on (FSAR), as (group, row, column); none: a static prior."""
    convolution: Literal["none", "masked", "checkerboard", "volume"] = later("none")
    """The context models that FSAR is compared with, in place of `context`: a convolution over the latent grid that
    sees the positions before ("masked"), or the odd ones ("checkerboard": those are coded first, without context), or
    over groups, rows and columns ("volume": all of the groups before, and the positions before in its own)."""
    kernel: int = later(3)
    """Side of that convolution."""
    shared_mlp: bool = False
    """One network for the priors of all groups instead of one each."""
    mlp_expansion: int = 2
    """Factor of both hidden widths of the prior's networks."""
    detach_context: bool = False
    """Stop the gradient from the prior into the neighbours' code vectors ("arid")."""
    alpha: float | None = None
    """Entmax exponent of the learned mask over the categories ("catreduce"); None: all K are used."""
    pixels: Literal["gaussian", "linear", "mixture", "mixture-colour", "causal"] = "gaussian"
    """What codes the pixels: the paper's Gaussians, those with means that move with decoded neighbours (`LinearHead`,
    the paper's `Coder-ar`), mixtures that see no pixels or the colours before (`MixtureHead`), or our `CausalHead`."""
    hidden: int = 32
    """Units in each of the two hidden layers of the causal head, for each colour."""
    mixtures: int = 3
    """Logistic distributions that the causal head and mixtures mix."""

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.channels % self.groups:
            raise ConfigError(f"channels (={self.channels}) must be a multiple of groups (={self.groups})")
        if self.downsamples < 0 or self.residuals < 0 or self.codes < 2:
            raise ConfigError("an FSAR model needs downsamples >= 0, residuals >= 0 and codes >= 2")
        if len(self.context) > 4 or any(max(offset) > 0 or not any(offset) for offset in self.context):
            raise ConfigError(f"context (={self.context}) must be at most 4 neighbours that are coded before")
        if self.alpha is not None and not 1 < self.alpha <= 2:
            raise ConfigError(f"alpha (={self.alpha}) must lie in (1, 2], or be None")
        if self.convolution != "none" and (self.context or self.alpha is not None or self.kernel not in (3, 5)):
            raise ConfigError("a convolution as context has kernel 3 or 5 and goes with neither `context` nor `alpha`")
        plain = not self.context and self.convolution == "none" and self.alpha is None
        simple = self.pixels == "gaussian" and plain and not self.channels % 2
        if not self.has_codes and not simple:
            raise ConfigError(f"quantizer={self.quantizer!r} goes with Gaussians and with neither context nor `alpha`")
        if self.annealed == "gap" and self.quantizer != "softvqvae":
            raise ConfigError('annealed="gap" goes with quantizer="softvqvae"')
        if self.quantizer == "mcquic" and (self.codes % 4 ** (MCQUIC_LEVELS - 1) or self.codes < 32):
            raise ConfigError(f"codes (={self.codes}) of the finest level must be a multiple of 16, and at least 32")
        if self.hidden % 8 or not 8 <= self.hidden <= 256 or not 1 <= self.mixtures <= 8:
            raise ConfigError("a causal head needs 8 to 256 hidden units, a multiple of 8, and 1 to 8 mixtures")

    @property
    def has_codes(self) -> bool:
        """Whether the latents are vectors of codebooks, one of each for every position of z."""
        return self.quantizer not in ("mcquic", "bottleneck", "vae")

    @property
    def levels(self) -> int:
        """How often the sides of z halve before there are symbols."""
        return MCQUIC_LEVELS if self.quantizer == "mcquic" else 0

    @property
    def planes(self) -> int:
        """Symbols at a position of the latent grid."""
        if self.has_codes:
            return self.groups
        if self.quantizer == "mcquic":
            return self.groups * sum(4**level for level in range(MCQUIC_LEVELS))
        return self.channels if self.quantizer == "bottleneck" else self.channels // 2

    @property
    def latent_channels(self) -> int:
        """Inputs of the decoder."""
        return self.channels // 2 if self.quantizer == "vae" else self.channels

    @property
    def static_prior(self) -> bool:
        """Whether some symbols, or all, have a distribution that depends on their group only."""
        return not self.context and self.convolution in ("none", "checkerboard")

    @property
    def embedding(self) -> int:
        """E: length of one code vector."""
        return self.channels // self.groups

    @property
    def stride(self) -> int:
        """Pictures are padded to multiples of this side length."""
        return 2 ** (self.downsamples + self.levels)

    @property
    def outputs(self) -> int:
        """Numbers that the decoder gives for a pixel."""
        each = {"causal": self.hidden, "mixture": 3 * self.mixtures, "mixture-colour": 3 * self.mixtures + 2}
        return 3 * each.get(self.pixels, 2)


@dataclass(frozen=True, kw_only=True)
class FsarTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: FsarConfig = FsarConfig()
    soft_every: int = 1
    """Every n-th picture of a batch passes on the Gumbel-softmax gradient; 1: all (the paper), 0: none.

    The noise is the most expensive part of a step on a CPU, and an eighth of it trains the codebook as well."""
    prior_every: int = 1
    """The prior learns from every n-th position of the latent grid; 1: from all (the paper)."""
    revive_every: int = 0
    """Steps between two searches for hardly used codes, which are put onto encoder outputs; 0: never (the paper)."""
    revive_below: float = 1e-5
    """Share of a group's symbols below which a code counts as hardly used."""
    revive_until: float = 0.6
    """Share of the steps after which codes are left alone."""
    merge_bits: float = 0.0
    """Bits a symbol that contexts may lose by sharing a row of the prior's tables with similar ones; see
    `tables.merged`."""
    halvings: float = 5.0
    """How often what `FsarConfig.annealed` names halves in all the steps (the paper: every 200 of 1,000 epochs)."""
    anneal_from: float = 0.0
    """Share of the steps after which that begins."""
    recolour: bool = False
    """Change gamma and white point of the pictures at random; see `recolour`."""
    channels_last: bool = True
    """Memory layout; changes the speed only."""


def v2dvq_c2() -> FsarConfig:
    """`V2DVQ-c2` on the shallow backbone: the baseline of the paper's CIFAR-10 and ImageNet32/64 tables."""
    return FsarConfig()


def v2dvq_c2_edges() -> FsarConfig:
    """`V2DVQ-c2` with the tails of the Gaussian in the training likelihood: the configuration of our own weights."""
    return replace(v2dvq_c2(), edge_mass=True)


def v2dvq_c2_o1s() -> FsarConfig:
    """`V2DVQ-c2-FSAR-O1S`: the context is the symbol above."""
    return replace(v2dvq_c2(), context=NEIGHBOURS["l"])


def v2dvq_c2_o2s() -> FsarConfig:
    """`V2DVQ-c2-FSAR-O2S`: the symbols above and to the left."""
    return replace(v2dvq_c2(), context=NEIGHBOURS["lt"])


def v2dvq_c2_o2s_catreduce() -> FsarConfig:
    """`V2DVQ-c2-FSAR-O2S-catreduce1.5`, the paper's full model; the published one in truth has alpha 1.4."""
    return replace(v2dvq_c2_o2s(), alpha=1.4)


def v2dvq_c2_o2s_catreduce15() -> FsarConfig:
    """The full model with the alpha that its published name says."""
    return replace(v2dvq_c2_o2s(), alpha=1.5)


def v2dvq_c2_o3s() -> FsarConfig:
    """`V2DVQ-c2-FSAR-O3S`: above, left and above-left. The original can only estimate its rate."""
    return replace(v2dvq_c2(), context=NEIGHBOURS["ctx3"])


def v2dvq_c2_maskconv() -> FsarConfig:
    """`V2DVQ-c2-maskconv3x3`: the context is a causal convolution, which has to run again for every position."""
    return replace(v2dvq_c2(), convolution="masked")


def v2dvq_c2_maskconv3d() -> FsarConfig:
    """The convolution over groups as well, `maskconv3d3x3x3`; of no experiment."""
    return replace(v2dvq_c2(), convolution="volume")


def v2dvq_c2_checkerboard() -> FsarConfig:
    """`V2DVQ-c2-checkerboard3x3`: two passes, the second of which sees what the first has coded."""
    return replace(v2dvq_c2(), convolution="checkerboard")


def v2dvq_c2_noreg() -> FsarConfig:
    """`V2DVQ-c2-noreg`, an ablation: nothing ties the encoder's output to the codebook."""
    return replace(v2dvq_c2(), cont_weight=0.0)


def v2dvq_c2_nosth() -> FsarConfig:
    """`V2DVQ-c2-nosth`, an ablation: training sees Gumbel-softmax samples instead of hard codes."""
    return replace(v2dvq_c2(), quantizer="nosth")


def v2dvq_c2_noanneal() -> FsarConfig:
    """`V2DVQ-c2-noanneal`, an ablation: the posterior's entropy is taken off the loss, all the time."""
    return replace(v2dvq_c2(), entropy_temp=1.0)


def vqvae_c2() -> FsarConfig:
    """`vqvae-c2`: plain VQ-VAE."""
    return replace(v2dvq_c2(), quantizer="vqvae")


def vqvae_ema_c2() -> FsarConfig:
    """`vqvae-ema-c2`: VQ-VAE whose codebook follows moving averages."""
    return replace(v2dvq_c2(), quantizer="vqvae-ema")


def v2dvq_em_c2() -> FsarConfig:
    """`V2DVQ-EM`: at every other step codes are drawn from the posterior, and the encoder is at rest."""
    return replace(v2dvq_c2(), quantizer="em")


def softvqvae_c2() -> FsarConfig:
    """`softvqvae-c2`: VQ-VAE that is trained with mean code vectors under a softmax."""
    return replace(v2dvq_c2(), quantizer="softvqvae")


def softtohardvq_c2() -> FsarConfig:
    """`softtohardvq`: the temperature of that softmax falls, so that the means become hard codes."""
    return replace(softvqvae_c2(), annealed="relax_temp")


def softvq_gapcontrol_c2() -> FsarConfig:
    """`softvq-gapcontrol`: pixels from hard codes take over the loss (original: from half of the steps on)."""
    return replace(softvqvae_c2(), annealed="gap")


def sqvae_c2() -> FsarConfig:
    """`sqvae-c2`: SQ-VAE with a learned variance; the temperature of its samples falls from 1."""
    return replace(v2dvq_c2(), quantizer="sqvae", gs_temp=1.0, entropy_temp=1.0, annealed="gs_temp")


def mcquic() -> FsarConfig:
    """`mcquic`: three levels, each with two codebooks, of 8192, 2048 and 512 codes."""
    return replace(v2dvq_c2(), quantizer="mcquic", codes=8192)


def entropy_bottleneck() -> FsarConfig:
    """`entropy_bottleneck`: the encoder's output rounded, 64 channels with one learned distribution each."""
    return replace(v2dvq_c2(), quantizer="bottleneck")


def bits_back() -> FsarConfig:
    """`bits_back`: a VAE with 32 latent channels."""
    return replace(v2dvq_c2(), quantizer="vae")


def coder_ar_vq() -> FsarConfig:
    """`Coder-ar-c32-vq`: a small VQ-VAE with one codebook, and linear autoregression of the pixels."""
    return FsarConfig(channels=32, groups=1, quantizer="vqvae", pixels="linear")


def coder_ar() -> FsarConfig:
    """`Coder-ar-c32-STHQ`."""
    return FsarConfig(channels=32, groups=1, pixels="linear")


def coder_ar_o2s() -> FsarConfig:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid`."""
    return replace(coder_ar(), context=NEIGHBOURS["lt"], detach_context=True)


def ar_cifar10() -> FsarConfig:
    """The model of `fsar.ar`, our smallest files: a few latents under an order-2 prior, and a causal head.

    The more a head sees of decoded pixels, the fewer latents pay: with D = 1 as in the paper's `Coder-ar-c32` they cost
    four times as many bits and the whole came out 0.1 bpd larger after equally short training.
    """
    return FsarConfig(
        channels=32, downsamples=2, groups=1, codes=64, context=NEIGHBOURS["lt"], pixels="causal", hidden=48
    )


def backbone(name: str, groups: int) -> FsarConfig:
    """`V2DVQ` on one of the offered backbones.

    Args:
        name: "shallow", "shallow_c32", "shallow_c32_r4", "shallow_r4", "shallow_r8", "shallow_r4_skip", "shallow_ps",
            "shallow_r4_ps", "normal" (the paper's "standard") or "nods".
        groups: L, "c1" to "c16".

    Raises:
        ConfigError: no such backbone.
    """
    sizes: dict[str, FsarConfig] = {
        "shallow": FsarConfig(groups=groups),
        "shallow_c32": FsarConfig(groups=groups, channels=32),
        "shallow_c32_r4": FsarConfig(groups=groups, channels=32, residuals=4),
        "shallow_r4": FsarConfig(groups=groups, residuals=4),
        "shallow_r8": FsarConfig(groups=groups, residuals=8),
        "shallow_r4_skip": FsarConfig(groups=groups, residuals=4, skip=True),
        "shallow_ps": FsarConfig(groups=groups, upsample="shuffle"),
        "shallow_r4_ps": FsarConfig(groups=groups, residuals=4, upsample="shuffle"),
        "normal": FsarConfig(groups=groups, channels=256, downsamples=2, residuals=2),
        "nods": FsarConfig(groups=groups, downsamples=0, residuals=2),
    }
    if name not in sizes:
        raise ConfigError(f"there is no backbone {name!r}; there are: {', '.join(sizes)}")
    return sizes[name]


def tiny() -> FsarConfig:
    """The sizes of the golden vectors' small model; for tests."""
    return FsarConfig(channels=16, groups=2, codes=16)


def tiny_ar() -> FsarConfig:
    """A small model with a causal head; for tests."""
    return replace(ar_cifar10(), channels=16, codes=16, hidden=16)
