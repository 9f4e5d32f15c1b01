"""The causal head: logistic mixtures whose parameters depend on the latent and on pixels that are already decoded.

The paper's `Coder-ar` models shift a Gaussian's mean by a linear function of three decoded neighbours. Here the decoder
network gives each sub-pixel the biases of a hidden layer; the layer's other inputs are differences of decoded
neighbours, a second hidden layer follows, and the outputs are weights, means and scales of a mixture. A linear path
carries most of the mean. All of this is small enough to run in integers inside the coder's loop
(csrc/engines/pixel_ar.hpp), pixel after pixel.

Features of a pixel, in pixel values, where b = floor((W + N) / 2) of a colour and W, N, NW, NE, WW, NN, NNE name the
decoded neighbours:

    0..17   W - N, NW - b, NE - b, WW - b, NN - b, NNE - b, each for R, G, B
    18, 19  R - b of R at the pixel itself (seen by G and B), G - b of G (seen by B)
    20..22  b - 128 for R, G, B
    23      zero

Neighbours outside the picture are replaced: N by W in the first row, W by N in the first column, both by 128 at the
first pixel; NW and NE by N, WW by W, NN by N, NNE by NE.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.fsar.config import FsarConfig

FEATURES = 24
FEATURE_SCALE = 32
"""The hidden layer sees features divided by this."""
LINEAR_SCALE, MEAN_SCALE = 1 / 8, 8
"""Units of the linear weights and of the hidden layer's part of the mean: they make one learning rate fit all."""
LOG_SCALE_RANGE = (-2.75, 8.0)
FAR = 1e6
"""A pixel value that no distribution reaches."""
START_LOG_SCALES = (0.5, 3.5)
"""The mixture's scales in pixel values, as logarithms, before training."""


def shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """The values at (y + dy, x + dx), zero outside; dy in -2..0, dx in -2..2."""
    height, width = x.shape[-2:]
    padded = functional.pad(x, (2, 2, 2, 0))
    return padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]


def neighbours(x: Tensor) -> dict[str, Tensor]:
    """The seven decoded neighbours of every sample of x (..., H, W), with the border rule above."""
    places = {"W": (0, -1), "N": (-1, 0), "NW": (-1, -1), "NE": (-1, 1), "WW": (0, -2), "NN": (-2, 0), "NNE": (-2, 1)}
    n = {name: shifted(x, *place) for name, place in places.items()}
    rows = torch.arange(x.shape[-2], device=x.device)[:, None]
    columns = torch.arange(x.shape[-1], device=x.device)[None]
    last = columns == x.shape[-1] - 1
    n["W"] = torch.where(columns == 0, torch.where(rows == 0, torch.full_like(x, 128), n["N"]), n["W"])
    n["N"] = torch.where(rows == 0, n["W"], n["N"])
    n["NW"] = torch.where((rows == 0) | (columns == 0), n["N"], n["NW"])
    n["NE"] = torch.where((rows == 0) | last, n["N"], n["NE"])
    n["WW"] = torch.where(columns < 2, n["W"], n["WW"])
    n["NN"] = torch.where(rows < 2, n["N"], n["NN"])
    n["NNE"] = torch.where((rows < 2) | last, n["NE"], n["NNE"])
    return n


def features(x: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures x (B, 3, H, W), integers 0..255 of any type -> features (B, FEATURES, H, W) and b (B, 3, H, W)."""
    n = neighbours(x)
    b = torch.div(n["W"] + n["N"], 2, rounding_mode="floor")
    differences = [n["W"] - n["N"], *(n[name] - b for name in ("NW", "NE", "WW", "NN", "NNE"))]
    return torch.cat([*differences, (x - b)[:, :2], b - 128, torch.zeros_like(b[:, :1])], 1), b


def visible() -> Tensor:
    """(3, FEATURES): 1 where a colour may look at a feature."""
    mask = torch.ones(3, FEATURES)
    mask[0, 18:20] = mask[1, 19] = mask[:, 23] = 0
    return mask


class CausalHead(nn.Module):
    """Decoder outputs and pixels -> the mixture of every sub-pixel."""

    seen: Tensor

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        hidden, k = config.hidden, config.mixtures
        self.mixtures = k
        self.inner = nn.Parameter(0.2 * torch.randn(3, FEATURES, hidden))
        self.middle = nn.Parameter(math.sqrt(2 / hidden) * torch.randn(3, hidden, hidden))
        self.middle_bias = nn.Parameter(torch.zeros(3, hidden))
        self.outer = nn.Parameter(0.02 * torch.randn(3, hidden, 3 * k))
        self.outer_bias = nn.Parameter(torch.zeros(3, 3 * k))
        self.linear = nn.Parameter(torch.zeros(3, FEATURES))
        self.register_buffer("seen", visible(), persistent=False)
        with torch.no_grad():
            self.outer_bias[:, k : 2 * k] = torch.linspace(-1, 1, k) if k > 1 else 0.0
            self.outer_bias[:, 2 * k :] = torch.linspace(*START_LOG_SCALES, k)
            self.linear[1, 18] = self.linear[2, 19] = 0.8 / LINEAR_SCALE

    def forward(self, params: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mixtures of pictures x (B, 3, H, W) in 0..255 under the decoder's params (B, 3, H, W, hidden).

        Returns:
            Logits of the weights, means in pixel values, natural logarithms of the scales; each (3, K, B * H * W).
        """
        k = self.mixtures
        seen, b = features(x)
        seen = seen.permute(0, 2, 3, 1).reshape(-1, FEATURES).contiguous()
        biases = params.permute(1, 0, 2, 3, 4).reshape(3, len(seen), -1)
        inner = self.inner * (self.seen / FEATURE_SCALE)[..., None]
        hidden = torch.baddbmm(biases, seen.expand(3, -1, -1), inner).relu()
        hidden = torch.baddbmm(self.middle_bias[:, None], hidden, self.middle).relu()
        # Components in front: sums over the last axis of a few numbers each would take most of the time.
        out = torch.bmm(hidden, self.outer).float().transpose(1, 2).contiguous() + self.outer_bias[..., None]
        with torch.autocast(x.device.type, enabled=False):  # the mean needs more than the eight bits of bfloat16
            line = (self.linear * self.seen * LINEAR_SCALE) @ seen.T
        centre = b.permute(1, 0, 2, 3).reshape(3, -1) + line
        return out[:, :k], centre[:, None] + MEAN_SCALE * out[:, k : 2 * k], out[:, 2 * k :]

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        """-ln P of x (B, 3, H, W) in 0..255; same shape. The outermost values get the tails, as in the coder."""
        nats = mixture_nats(*self(params, x), x.permute(1, 0, 2, 3).reshape(3, -1))
        return nats.view(3, len(x), *x.shape[2:]).permute(1, 0, 2, 3)


def mixture_nats(logits: Tensor, mean: Tensor, log_scale: Tensor, value: Tensor) -> Tensor:
    """-ln P of values (C, N) in 0..255 under mixtures whose parameters are (C, K, N)."""
    value = value[:, None]
    # Beyond the outermost values is nothing: their tails count as theirs.
    above = torch.where(value > 254.5, torch.full_like(value, FAR), value + 0.5)
    below = torch.where(value < 0.5, torch.full_like(value, -FAR), value - 0.5)
    rate = torch.exp(-log_scale.clamp(*LOG_SCALE_RANGE))
    inside = torch.sigmoid((above - mean) * rate) - torch.sigmoid((below - mean) * rate)
    p = (functional.softmax(logits, 1) * inside).sum(1)
    return -(p * (1 - 256 / 65536) + 1 / 65536).log()
