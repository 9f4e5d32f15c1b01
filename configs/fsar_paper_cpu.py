"""The paper's lists of models on CIFAR-10 as it has them for a CPU: batches of 125, and a file for every picture."""

from __future__ import annotations

from dataclasses import replace

import fsar

from cbench.bench.config import Experiment, Measure

EPOCHS, PICTURES, BATCH = 1000, 50_000, 125


def bits_back_cifar10() -> Experiment:
    """`bits_back`."""
    return _for_cpu(fsar.bits_back_cifar10())


def entropy_bottleneck_cifar10() -> Experiment:
    """`entropy_bottleneck`."""
    return _for_cpu(fsar.entropy_bottleneck_cifar10())


def vqvae_c2_cifar10() -> Experiment:
    """`vqvae-c2`."""
    return _for_cpu(fsar.vqvae_c2_cifar10())


def mcquic_cifar10() -> Experiment:
    """`mcquic`."""
    return _for_cpu(fsar.mcquic_cifar10())


def v2dvq_c2_maskconv_cifar10() -> Experiment:
    """`V2DVQ-c2-maskconv3x3`."""
    return _for_cpu(fsar.v2dvq_c2_maskconv_cifar10())


def v2dvq_c2_checkerboard_cifar10() -> Experiment:
    """`V2DVQ-c2-checkerboard3x3`."""
    return _for_cpu(fsar.v2dvq_c2_checkerboard_cifar10())


def v2dvq_c2_cifar10() -> Experiment:
    """`V2DVQ-c2`."""
    return _for_cpu(fsar.v2dvq_c2_cifar10())


def v2dvq_c2_o1s_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O1S`."""
    return _for_cpu(fsar.v2dvq_c2_o1s_cifar10())


def v2dvq_c2_o2s_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S`."""
    return _for_cpu(fsar.v2dvq_c2_o2s_cifar10())


def v2dvq_c2_o2s_catreduce_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S-catreduce1.5`."""
    return _for_cpu(fsar.v2dvq_c2_o2s_catreduce_cifar10())


def v2dvq_c2_o3s_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O3S`."""
    return _for_cpu(fsar.v2dvq_c2_o3s_cifar10())


def coder_ar_vq_cifar10() -> Experiment:
    """`Coder-ar-c32-vq`."""
    return _for_cpu(fsar.coder_ar_vq_cifar10())


def coder_ar_cifar10() -> Experiment:
    """`Coder-ar-c32-STHQ`."""
    return _for_cpu(fsar.coder_ar_cifar10())


def coder_ar_o2s_cifar10() -> Experiment:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid`."""
    return _for_cpu(fsar.coder_ar_o2s_cifar10())


def _for_cpu(experiment: Experiment) -> Experiment:
    """The same with small batches and single files."""
    train = replace(experiment.train, batch_size=BATCH, steps=EPOCHS * PICTURES // BATCH)
    return replace(experiment, name=f"{experiment.name}-paper-cpu", train=train, measure=Measure())
