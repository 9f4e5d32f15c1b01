"""Changes to training pictures that keep them photographs: tone curves, colour of the light, upside down.

Each item of a batch draws its own. The published tone curves are here; the published colour jitter changes nothing
(its result goes to a copy), this one does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cbench.errors import ConfigError

GAMMA = 0.05, 2.0
"""Range of the exponents that are drawn."""
TEMPERATURE = 3000.0, 15000.0
"""Range of the black bodies that give the light, in kelvin."""
DAYLIGHT = 6500.0
_PRIMARIES = 612e-9, 549e-9, 465e-9
"""Wavelengths of sRGB's red, green and blue in metres."""
_SECOND_RADIATION = 1.438777e-2
"""h c / k in metre kelvin."""


def augmented(x: Tensor, names: Sequence[str]) -> Tensor:
    """A changed copy of pictures (B, 3, H, W) in [0, 1].

    Args:
        x: the batch.
        names: of `AUGMENTATIONS`, applied in this order.

    Raises:
        ConfigError: a name that is not there.
    """
    unknown = set(names) - set(AUGMENTATIONS)
    if unknown:
        raise ConfigError(f"there is no augmentation {sorted(unknown)[0]!r}; there are: {', '.join(AUGMENTATIONS)}")
    for name in names:
        x = AUGMENTATIONS[name](x)
    return x


def tones(x: Tensor) -> Tensor:
    """A quarter of the items each: sRGB to linear light, the inverse, a drawn exponent, unchanged."""
    kind = torch.randint(4, (len(x), 1, 1, 1), device=x.device)
    exponent = torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(*GAMMA)
    x = torch.where(kind == 0, to_linear(x), x)
    x = torch.where(kind == 1, from_linear(x), x)
    return torch.where(kind == 2, x.clamp_min(1e-6) ** exponent, x)


def light(x: Tensor) -> Tensor:
    """Half of the items under the light of a black body of a drawn temperature instead of daylight; green stays."""
    temperature = torch.empty(len(x), 1, device=x.device).uniform_(*TEMPERATURE)
    gain = (_radiance(temperature) / _radiance(torch.full_like(temperature, DAYLIGHT)))[:, :, None, None]
    changed = (x * gain / gain[:, 1:2]).clamp(0, 1)
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, changed, x)


def upside_down(x: Tensor) -> Tensor:
    """Half of the items mirrored top to bottom."""
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(2), x)


AUGMENTATIONS = {"tones": tones, "light": light, "upside-down": upside_down}


def to_linear(x: Tensor) -> Tensor:
    """Linear light of sRGB values, both in [0, 1]."""
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def from_linear(x: Tensor) -> Tensor:
    """The inverse of `to_linear`."""
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def _radiance(temperature: Tensor) -> Tensor:
    """Planck's law at the primaries up to a factor: (B, 1) -> (B, 3)."""
    wavelength = temperature.new_tensor(_PRIMARIES)
    return wavelength**-5 / (_SECOND_RADIATION / (wavelength * temperature)).expm1()
