"""Mixtures of logistic distributions for the pixels, without a look at neighbours: an option in place of the Gaussians.

The decoder network gives each sub-pixel the logits, means and scales of K logistic distributions. With colours
("mixture-colour") the means of green and blue also move by a linear function of the colours before at that pixel, whose
coefficients the decoder gives, too; so a picture is decoded in three steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cbench.models.fsar.causal import START_LOG_SCALES, mixture_nats
from cbench.models.fsar.config import FsarConfig

MEAN_SCALE = 32
"""Pixel values in one unit of the decoder's output."""
MIDDLE = 128
"""Means and the colours before count from here."""


def start_scales(mixtures: int) -> np.ndarray:
    """(K,) what is added to the logarithms of the scales: they start apart."""
    return np.linspace(*START_LOG_SCALES, mixtures)


class MixtureHead(nn.Module):
    """Decoder outputs -> the mixture of every sub-pixel; has no weights of its own."""

    start: Tensor

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        self.mixtures = config.mixtures
        self.register_buffer("start", torch.tensor(start_scales(config.mixtures)).float(), persistent=False)

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        """-ln P of x (B, 3, H, W) in 0..255 under the decoder's params (B, 3, H, W, P); same shape as x."""
        k = self.mixtures
        logits, mean, log_scale, coefficients = params.float().split([k, k, k, params.shape[-1] - 3 * k], -1)
        mean = MIDDLE + MEAN_SCALE * mean
        if coefficients.shape[-1]:
            r, g = (x[:, :2] - MIDDLE).unbind(1)
            seen = torch.stack([torch.zeros(2, *r.shape).to(r), torch.stack([r, 0 * r]), torch.stack([r, g])])
            mean = mean + (coefficients * seen.permute(2, 0, 3, 4, 1)).sum(-1, keepdim=True)
        mixture = (part.movedim(-1, 0).flatten(1)[None] for part in (logits, mean, log_scale + self.start))
        return mixture_nats(*mixture, x.reshape(1, -1)).view_as(x)
