"""Code lengths for training and for reports: the evidence lower bound (ELBO), with continuous or quantised latents.

Every function returns a vector whose sum is bits a sample, in the original's order: prior and posterior of each scale,
then planes, steps and colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cbench.models.arib_bps.network import COLOURS, Ins, PlaneModel, Sample, Sig, logits
from cbench.models.arib_bps.planes import STEPS, bit, signs, sub_image, top

BITS = 1 / math.log(2)
LARGEST_LOGIT = math.log((1 - 1e-6) / 1e-6)
"""Probabilities are kept in [1e-6, 1 - 1e-6]."""
UNIFORM_EDGE = 1e-5
EDGE = 1e-6
"""Of the quantiser's straight-through bins, so that their outermost edges are finite."""


def plane_terms(model: PlaneModel, x: Tensor, latent: Sequence[Tensor] = (), turn: int | None = None) -> Tensor:
    """Code length of the model's planes, (planes * 4 * 3,), in bits a sample of the picture.

    Args:
        model: SIG or INS.
        x: (B, 3, H, W) uint8.
        latent: folded F_z, for SIG.
        turn: None for every step of every picture. A number: an estimate from one step of each picture and plane, a
            quarter of the batch (a multiple of 4) for each step; in four turns every picture has every step.
    """
    dtype = model.plane_context.first.weight.dtype
    terms = []
    for plane, context in enumerate(model.contexts(x, range(model.planes))):
        own = signs(bit(x, model.first_plane + plane), dtype)
        parts = [*([] if context is None else [context]), *latent]
        if turn is None:
            found = model.parameters_of_all(plane, parts, own, x)
            terms += [term for step, p in enumerate(found) for term in _step_terms(p, sub_image(own, step))]
            continue
        quarters = [
            [part.chunk(len(STEPS))[(step + turn + plane) % 4] for part in (own, x, *parts)] for step in range(4)
        ]
        for step, (given, seen, *rest) in enumerate(quarters):
            terms += _step_terms(model.parameters_of(plane, step, rest, given, seen), sub_image(given, step))
    return torch.stack(terms) / (len(STEPS) * COLOURS)


def _step_terms(found: Tensor, given: Tensor) -> list[Tensor]:
    """Mean bits of a step's three colours, from its parameters (B, 6, h, w) and signs (B, 3, h, w)."""
    terms = []
    for colour in range(COLOURS):
        logit = logits(found.to(given.dtype), given, colour).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        terms.append(functional.softplus(-logit * given[:, colour]).mean() * BITS)
    return terms


def ins_terms(ins: Ins, x: Tensor, turn: int | None = None) -> Tensor:
    """Exact code length of the lower planes, ((8 - s) * 12,); `turn` as in `plane_terms`."""
    return plane_terms(ins, x, turn=turn)


class Continuous:
    """Latents with continuous noise: z = mu_q + eps. Collects the terms of prior and posterior."""

    def __init__(self, noise: Sequence[Tensor], samples: int) -> None:
        """`noise`: logistic noise of each scale i, (B, c, h_i, w_i); `samples`: B * 3 * H * W."""
        self.noise, self.samples = noise, samples
        self.prior: dict[int, Tensor] = {}
        self.posterior: dict[int, Tensor] = {}

    def __call__(self, i: int, mu_q: Tensor, mu_p: Tensor) -> Tensor:
        """See `Sample`."""
        z = mu_q + self.noise[i]
        self.prior[i] = -_log_density(z - mu_p).sum() * (BITS / self.samples)
        self.posterior[i] = _log_density(z - mu_q).sum() * (BITS / self.samples)
        return z


class Quantised(Continuous):
    """Latents as they are coded: middles of 2^qp bins of equal prior mass; straight-through gradients."""

    def __init__(self, noise: Sequence[Tensor], samples: int, qp: Tensor) -> None:
        """`qp` (B,): bits of a latent of each picture."""
        super().__init__(noise, samples)
        self.qp = qp

    def __call__(self, i: int, mu_q: Tensor, mu_p: Tensor) -> Tensor:
        """See `Sample`."""
        delta, qp = mu_q - mu_p, self.qp.to(mu_q)[:, None, None, None]
        bins = torch.exp2(qp)
        position = bins * torch.sigmoid(self.noise[i] + delta)
        low = position + (position.ceil() - position).detach() - 1
        edge = EDGE * bins
        below = torch.logit((low + edge) / bins) - delta
        above = torch.logit((low + 1 - edge) / bins) - delta
        mass = torch.sigmoid(above) - torch.sigmoid(below) + EDGE
        self.posterior[i] = mass.log().sum() * (BITS / self.samples)
        self.prior[i] = (qp.sum() * mu_q[0].numel()) / self.samples
        return torch.logit((low + 0.5) / bins) + mu_p


def sig_terms(sig: Sig, x: Tensor, sample: Continuous, turn: int | None = None) -> Tensor:
    """Negative ELBO of the upper planes, (2 L + s * 12,): cost of z with the prior, bits back, planes.

    Args:
        sig: the model.
        x: (B, 3, H, W) uint8.
        sample: how z is drawn.
        turn: as in `plane_terms`.
    """
    f_z = hyperprior(sig, x, sample)
    scales = range(sig.lvae.layers)
    latent = [sample.prior[i] for i in scales] + [sample.posterior[i] for i in scales]
    return torch.cat([torch.stack(latent), plane_terms(sig, x, [sig.fold_context(f_z)], turn)])


def hyperprior(sig: Sig, x: Tensor, sample: Sample) -> Tensor:
    """F_z (B, w, H, W) of pictures, with the posterior."""
    seen = top(x, sig.planes, sig.lvae.head.weight.dtype)
    return sig.lvae.top_down((len(x), *x.shape[2:]), sig.lvae.bottom(seen), sample)


def logistic_noise(sig: Sig, shape: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Noise of every scale for pictures (B, 3, H, W), the same for one generator state on every device."""
    batch, _, height, width = shape
    dtype, device = sig.lvae.head.weight.dtype, sig.lvae.head.weight.device
    found = []
    for i in range(sig.lvae.layers):
        size = (batch, sig.lvae.channels, height >> (i + 1), width >> (i + 1))
        u = torch.rand(size, generator=generator, dtype=torch.float64).clamp(UNIFORM_EDGE, 1 - UNIFORM_EDGE)
        found.append(torch.logit(u).to(device, dtype))
    return found


def _log_density(y: Tensor) -> Tensor:
    """Of the logistic distribution with scale 1, in nats."""
    return y - 2 * functional.softplus(y)
