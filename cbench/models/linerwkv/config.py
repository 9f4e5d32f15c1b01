"""The shape of a LineRWKV network as frozen data, the published sizes, and how the codec uses one."""

from __future__ import annotations

from dataclasses import dataclass

from cbench.coding.lines import Expert, Experts
from cbench.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LineRwkvConfig:
    """Layers and channels of the predictor (sec. III)."""

    features: int
    """F: channels of the encoder's features and of both RWKV stacks."""
    encoder_layers: int
    """Convolutions along the columns of a line; a feature sees that many columns to either side."""
    line_blocks: int
    """RWKV blocks of the line predictor, which runs along t."""
    band_blocks: int
    """RWKV blocks of the band predictor, which runs along i."""
    decoder_layers: int
    """Layers from features to one predicted sample."""

    def __post_init__(self) -> None:
        """Check what initialisation and the engine need."""
        if self.features < 8 or self.features % 8:
            raise ConfigError(f"features (={self.features}) must be a multiple of 8")
        if min(self.line_blocks, self.band_blocks) < 2:
            raise ConfigError("a LineRWKV stack has at least two blocks")
        if min(self.encoder_layers, self.decoder_layers) < 1:
            raise ConfigError("a LineRWKV network has at least one encoder and one decoder layer")


def xs() -> LineRwkvConfig:
    """30,466 parameters, 28,800 multiply-accumulates a sample."""
    return LineRwkvConfig(features=32, encoder_layers=1, line_blocks=2, band_blocks=2, decoder_layers=1)


def s() -> LineRwkvConfig:
    """135,042 parameters, 131,328 multiply-accumulates a sample."""
    return LineRwkvConfig(features=64, encoder_layers=2, line_blocks=2, band_blocks=2, decoder_layers=2)


def m() -> LineRwkvConfig:
    """286,082 parameters, 278,784 multiply-accumulates a sample."""
    return LineRwkvConfig(features=64, encoder_layers=4, line_blocks=4, band_blocks=4, decoder_layers=4)


def l() -> LineRwkvConfig:  # noqa: E743 - the published name of this size
    """900,290 parameters, 885,120 multiply-accumulates a sample."""
    return LineRwkvConfig(features=96, encoder_layers=4, line_blocks=6, band_blocks=6, decoder_layers=4)


def tiny() -> LineRwkvConfig:
    """A network that trains in seconds; for tests."""
    return LineRwkvConfig(features=16, encoder_layers=2, line_blocks=2, band_blocks=2, decoder_layers=2)


SIZES = {"xs": xs, "s": s, "m": m, "l": l}
"""Published sizes by name."""


def experts(*, integers: bool = False) -> Experts:
    """The adaptive experts of byte format 2: five memories of different length, which all see the network.

    Beside the integer engine they start again as soon as an input has said nothing for long. Large errors leave many
    such inputs, and each of them, the network's too, makes experts without this care worse by chance.
    """
    return Experts(
        (
            Expert(20, 0.999, network=True),
            Expert(48, 0.9995, network=True),
            Expert(8, 0.997, network=True),
            Expert(4, 0.99, network=True),
            Expert(2, 0.999, spatial=8, near=8, own=6, network=True),
        ),
        variance=1e4 if integers else 1e12,
    )


@dataclass(frozen=True, kw_only=True)
class LineRwkvTraining:
    """The model and how it is trained, beyond what every experiment's `TrainSpec` says."""

    model: LineRwkvConfig
    positions: int = 128
    """Columns, over the whole batch, whose predictions a step trains (the paper's pos_size)."""
    bands: int | None = 16
    """Length of the random run of consecutive bands that a step sees; None: all."""
    final_lr: float = 0.002
    """Last learning rate over the first; it falls linearly."""
    codec_loss: bool = False
    """Train on what the codec will see and pay: causal normalisation, random quantisation, and the logarithm of each
    band's mean error. False: the paper's mean absolute error under the statistics of the whole patch."""
    steps: tuple[int, ...] = (1, 1, 3, 11, 41)
    """Quantiser steps to draw from with `codec_loss`."""

    def __post_init__(self) -> None:
        """Check the counts."""
        if self.positions < 1 or (self.bands is not None and self.bands < 2):
            raise ConfigError("training needs at least one position and two bands")
        if not self.steps or any(step < 1 or step % 2 == 0 for step in self.steps):
            raise ConfigError(f"quantiser steps (={self.steps}) are odd numbers 2 delta + 1")
