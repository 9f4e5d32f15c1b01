"""What pictures cost in theory, beside the bytes of their files."""

from __future__ import annotations

import torch
from torch import Tensor

from cbench.models.arib_bps.latents import MAX_QP
from cbench.models.arib_bps.losses import Continuous, Quantised, ins_terms, logistic_noise, sig_terms
from cbench.models.arib_bps.network import AribNetwork

MIN_QP = 3
"""The coarsest latents that finetuning asks for."""


@torch.no_grad()
def qps_of(network: AribNetwork, x: Tensor) -> Tensor:
    """How fine the latents of pictures x (B, 3, H, W) uint8 will be: what their lower planes pay for, (B,) int64."""
    training = network.ins.training
    network.ins.eval()
    bits = torch.stack([ins_terms(network.ins, picture[None]).sum() * picture.numel() for picture in x])
    network.ins.train(training)
    return (bits / network.config.latents(*x.shape[2:])).floor().clamp(MIN_QP, MAX_QP).long()


@torch.no_grad()
def bounds(network: AribNetwork, x: Tensor, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """Negative ELBO of pictures in bits a sample: with continuous latents, and with latents as they are coded.

    Args:
        network: in evaluation mode.
        x: (B, 3, H, W) uint8; sides are multiples of the networks' stride.
        draws: the mean of so many draws of the latents.
        generator: of their noise.
    """
    lower, qps = float(ins_terms(network.ins, x).sum()), qps_of(network, x)
    sums = [0.0, 0.0]
    for _ in range(draws):
        noise = logistic_noise(network.sig, x.shape, generator)
        for i, latents in enumerate((Continuous(noise, x.numel()), Quantised(noise, x.numel(), qps))):
            sums[i] += float(sig_terms(network.sig, x, latents).sum())
    return lower + sums[0] / draws, lower + sums[1] / draws
