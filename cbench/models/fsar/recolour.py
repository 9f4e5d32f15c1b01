"""Random gamma and white point: how the paper varies the crops of OpenImages that it trains on.

The changed pictures are rounded to 8 bits again, as they would be coded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EXPONENTS = (0.05, 2.0)
TEMPERATURES = (3000.0, 15000.0)
"""Of a black body, in kelvin."""
DAYLIGHT = 6500.0
WAVELENGTHS = (610e-9, 550e-9, 465e-9)
"""Of red, green and blue, in metres."""
SECOND_RADIATION = 1.4388e-2
"""h c / k, in metres times kelvin."""


def recoloured(batch: Tensor, seeds: Sequence[int]) -> Tensor:
    """Change each picture in its own way.

    Args:
        batch: (B, 3, H, W) uint8.
        seeds: one for each picture.

    Returns:
        (B, 3, H, W) uint8: with the curve of sRGB undone or applied once more, raised to a power, or with the values as
        they are, a quarter of the time each; then under another light.
    """
    drawn = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    drawn = drawn.to(batch.device).view(-1, 3, 1, 1, 1).unbind(1)
    kind = (4 * drawn[0]).long()
    x = batch.float() / 255
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    curved = torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    power = x ** (EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * drawn[1])
    x = torch.where(kind == 0, linear, torch.where(kind == 1, curved, torch.where(kind == 2, power, x)))
    light = gains(TEMPERATURES[0] + (TEMPERATURES[1] - TEMPERATURES[0]) * drawn[2].flatten())
    return (x * light[:, :, None, None] * 255).round().clamp(0, 255).to(torch.uint8)


def gains(temperature: Tensor) -> Tensor:
    """(N,) kelvin -> (N, 3): how much brighter red and blue are than in daylight, green being 1 (Planck's law)."""
    wavelength = torch.tensor(WAVELENGTHS, device=temperature.device)

    def radiance(kelvin: Tensor) -> Tensor:
        return 1 / torch.expm1(SECOND_RADIATION / (wavelength * kelvin[:, None]))

    ratio = radiance(temperature) / radiance(torch.full_like(temperature, DAYLIGHT))
    return ratio / ratio[:, 1:2]
