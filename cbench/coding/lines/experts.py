"""Which adaptive experts predict the samples of a cube."""

from __future__ import annotations

from dataclasses import dataclass

from cbench.errors import ConfigError

MAX_EXPERTS = 6


@dataclass(frozen=True)
class Expert:
    """One recursive-least-squares predictor a band."""

    bands: int
    """Previous bands at the pixel (K)."""
    forgetting: float
    """lambda: weight of a sample's error, one sample later."""
    spatial: int = 3
    """Neighbours in the band: 3 (N, W, NW) or 8."""
    near: int = 0
    """Neighbours in the previous band: 0, 3 or 8."""
    own: int = 4
    """Its own last errors: 4 (W, N, NE, NW) or 6."""
    network: bool = False
    """Whether it also sees what a network predicts."""

    def __post_init__(self) -> None:
        """Check what the engine can do."""
        if not 1 <= self.bands <= 80:
            raise ConfigError(f"bands (={self.bands}) of an expert must lie in 1..80")
        if not 0.9 < self.forgetting <= 1.0:
            raise ConfigError(f"forgetting (={self.forgetting}) of an expert must lie above 0.9 and be at most 1")
        if self.spatial not in (3, 8) or self.near not in (0, 3, 8) or self.own not in (4, 6):
            raise ConfigError("an expert has 3 or 8 spatial, 0, 3 or 8 near and 4 or 6 own inputs")


@dataclass(frozen=True)
class Experts:
    """The experts of one codec, in the order in which ties are broken."""

    experts: tuple[Expert, ...]
    variance: float = 1e12
    """Largest variance of a weight: inputs that say nothing for long let it grow, and an expert starts again there."""

    def __post_init__(self) -> None:
        """Check the number of experts."""
        if not 1 <= len(self.experts) <= MAX_EXPERTS:
            raise ConfigError(f"a codec has 1 to {MAX_EXPERTS} experts, not {len(self.experts)}")

    @property
    def network(self) -> bool:
        """Whether any of them sees what a network predicts."""
        return any(expert.network for expert in self.experts)

    def numbers(self) -> list[tuple[int, float, int, int, int, bool]]:
        """The experts as the C++ engine takes them."""
        return [(e.bands, e.forgetting, e.spatial, e.near, e.own, e.network) for e in self.experts]
