"""The paper's ablations, on CIFAR-10: quantisers, backbones, and autoregression on the pixels themselves.

The original only estimates the rates of these; here each writes real streams like any other model.
"""

from __future__ import annotations

from dataclasses import replace

import fsar

from cbench.bench.config import RUN_WEIGHTS, CodecSpec, Experiment
from cbench.models.fsar import DsarTraining, dsar_module
from cbench.models.fsar.config import (
    FsarConfig,
    backbone,
    softtohardvq_c2,
    softvq_gapcontrol_c2,
    softvqvae_c2,
    sqvae_c2,
    v2dvq_c2,
    v2dvq_c2_noanneal,
    v2dvq_c2_noreg,
    v2dvq_c2_nosth,
    v2dvq_em_c2,
    vqvae_c2,
    vqvae_ema_c2,
)
from cbench.models.fsar.dsar_config import DsarConfig, dsar, dsar_form, dsar_maskconv


def v2dvq_c2_nosth_cifar10() -> Experiment:
    """`V2DVQ-c2-nosth`: samples of the codes instead of hard codes while training."""
    return _experiment("V2DVQ-c2-nosth", v2dvq_c2_nosth())


def v2dvq_c2_noreg_cifar10() -> Experiment:
    """`V2DVQ-c2-noreg`: without the loss that ties encoder and codebook."""
    return _experiment("V2DVQ-c2-noreg", v2dvq_c2_noreg())


def v2dvq_c2_noanneal_cifar10() -> Experiment:
    """`V2DVQ-c2-noanneal`: with the posterior's entropy in the loss."""
    return _experiment("V2DVQ-c2-noanneal", v2dvq_c2_noanneal())


def softvqvae_c2_cifar10() -> Experiment:
    """`softvqvae-c2`: VQ-VAE trained with mean code vectors."""
    return _experiment("softvqvae-c2", softvqvae_c2())


def softtohardvq_c2_cifar10() -> Experiment:
    """`softtohardvq`: the same with a softmax that becomes hard."""
    return _experiment("softtohardvq", softtohardvq_c2())


def softvq_gapcontrol_c2_cifar10() -> Experiment:
    """`softvq-gapcontrol`: from half of the steps on, pixels from hard codes take over the loss."""
    experiment = _experiment("softvq-gapcontrol", softvq_gapcontrol_c2())
    training = replace(experiment.train.config, anneal_from=0.5)
    return replace(experiment, train=replace(experiment.train, config=training))


def vqvae_ema_c2_cifar10() -> Experiment:
    """`vqvae-ema`: VQ-VAE with a codebook of moving averages."""
    return _experiment("vqvae-ema", vqvae_ema_c2())


def v2dvq_em_c2_cifar10() -> Experiment:
    """`V2DVQ-EM`: codes drawn from the posterior at every other step."""
    return _experiment("V2DVQ-EM", v2dvq_em_c2())


def sqvae_c2_cifar10() -> Experiment:
    """`sqvae-c2`: SQ-VAE."""
    return _experiment("sqvae-c2", sqvae_c2())


def v2dvq_shallow_c1_cifar10() -> Experiment:
    """`V2DVQ` on the shallow backbone with 1 group."""
    return _backbone("shallow", 1, "V2DVQ", _annealed(v2dvq_c2()))


def v2dvq_shallow_c2_cifar10() -> Experiment:
    """`V2DVQ` on the shallow backbone with 2 groups."""
    return _backbone("shallow", 2, "V2DVQ", _annealed(v2dvq_c2()))


def v2dvq_shallow_c4_cifar10() -> Experiment:
    """`V2DVQ` on the shallow backbone with 4 groups."""
    return _backbone("shallow", 4, "V2DVQ", _annealed(v2dvq_c2()))


def v2dvq_normal_c4_cifar10() -> Experiment:
    """`V2DVQ` on the normal backbone with 4 groups."""
    return _backbone("normal", 4, "V2DVQ", _annealed(v2dvq_c2()))


def v2dvq_normal_c8_cifar10() -> Experiment:
    """`V2DVQ` on the normal backbone with 8 groups."""
    return _backbone("normal", 8, "V2DVQ", _annealed(v2dvq_c2()))


def v2dvq_normal_c16_cifar10() -> Experiment:
    """`V2DVQ` on the normal backbone with 16 groups."""
    return _backbone("normal", 16, "V2DVQ", _annealed(v2dvq_c2()))


def vqvae_shallow_c1_cifar10() -> Experiment:
    """`vqvae` on the shallow backbone with 1 group."""
    return _backbone("shallow", 1, "vqvae", vqvae_c2())


def vqvae_shallow_c2_cifar10() -> Experiment:
    """`vqvae` on the shallow backbone with 2 groups."""
    return _backbone("shallow", 2, "vqvae", vqvae_c2())


def vqvae_shallow_c4_cifar10() -> Experiment:
    """`vqvae` on the shallow backbone with 4 groups."""
    return _backbone("shallow", 4, "vqvae", vqvae_c2())


def vqvae_normal_c4_cifar10() -> Experiment:
    """`vqvae` on the normal backbone with 4 groups."""
    return _backbone("normal", 4, "vqvae", vqvae_c2())


def vqvae_normal_c8_cifar10() -> Experiment:
    """`vqvae` on the normal backbone with 8 groups."""
    return _backbone("normal", 8, "vqvae", vqvae_c2())


def vqvae_normal_c16_cifar10() -> Experiment:
    """`vqvae` on the normal backbone with 16 groups."""
    return _backbone("normal", 16, "vqvae", vqvae_c2())


def softvqvae_shallow_c1_cifar10() -> Experiment:
    """`softvqvae` on the shallow backbone with 1 group."""
    return _backbone("shallow", 1, "softvqvae", softvqvae_c2())


def softvqvae_shallow_c2_cifar10() -> Experiment:
    """`softvqvae` on the shallow backbone with 2 groups."""
    return _backbone("shallow", 2, "softvqvae", softvqvae_c2())


def softvqvae_shallow_c4_cifar10() -> Experiment:
    """`softvqvae` on the shallow backbone with 4 groups."""
    return _backbone("shallow", 4, "softvqvae", softvqvae_c2())


def softvqvae_normal_c4_cifar10() -> Experiment:
    """`softvqvae` on the normal backbone with 4 groups."""
    return _backbone("normal", 4, "softvqvae", softvqvae_c2())


def softvqvae_normal_c8_cifar10() -> Experiment:
    """`softvqvae` on the normal backbone with 8 groups."""
    return _backbone("normal", 8, "softvqvae", softvqvae_c2())


def softvqvae_normal_c16_cifar10() -> Experiment:
    """`softvqvae` on the normal backbone with 16 groups."""
    return _backbone("normal", 16, "softvqvae", softvqvae_c2())


def sqvae_shallow_c1_cifar10() -> Experiment:
    """`sqvae` on the shallow backbone with 1 group."""
    return _backbone("shallow", 1, "sqvae", sqvae_c2())


def sqvae_shallow_c2_cifar10() -> Experiment:
    """`sqvae` on the shallow backbone with 2 groups."""
    return _backbone("shallow", 2, "sqvae", sqvae_c2())


def sqvae_shallow_c4_cifar10() -> Experiment:
    """`sqvae` on the shallow backbone with 4 groups."""
    return _backbone("shallow", 4, "sqvae", sqvae_c2())


def sqvae_normal_c4_cifar10() -> Experiment:
    """`sqvae` on the normal backbone with 4 groups."""
    return _backbone("normal", 4, "sqvae", sqvae_c2())


def sqvae_normal_c8_cifar10() -> Experiment:
    """`sqvae` on the normal backbone with 8 groups."""
    return _backbone("normal", 8, "sqvae", sqvae_c2())


def sqvae_normal_c16_cifar10() -> Experiment:
    """`sqvae` on the normal backbone with 16 groups."""
    return _backbone("normal", 16, "sqvae", sqvae_c2())


def dsar_o1s_cifar10() -> Experiment:
    """FSAR of order 1 on the pixels, without an autoencoder."""
    return _dsar("FSAR-O1S", dsar(1))


def dsar_o2s_cifar10() -> Experiment:
    """FSAR of order 2 on the pixels, without an autoencoder."""
    return _dsar("FSAR-O2S", dsar(2))


def dsar_o3s_cifar10() -> Experiment:
    """FSAR of order 3 on the pixels. Weights files hold a map of 51 million contexts: 200 MB beside the rows."""
    return _dsar("FSAR-O3S", dsar(3))


def dsar_maskconv3x3_cifar10() -> Experiment:
    """A causal convolution of 3 x 3 on the pixels."""
    return _dsar("maskconv3x3", dsar_maskconv(3))


def dsar_maskconv5x5_cifar10() -> Experiment:
    """A causal convolution of 5 x 5 on the pixels."""
    return _dsar("maskconv5x5", dsar_maskconv(5))


def dsar_o1s_table_cifar10() -> Experiment:
    """Order 1 with free logits for every state instead of networks."""
    return _dsar("FSAR-O1S-table", dsar_form(1, "table"))


def dsar_o2s_table_cifar10() -> Experiment:
    """Order 2 with free logits for every pair of states: 51 million."""
    return _dsar("FSAR-O2S-table", dsar_form(2, "table"))


def dsar_o2s_sum_cifar10() -> Experiment:
    """Order 2 with free logits for the states of each neighbour, added up."""
    return _dsar("FSAR-O2S-sum", dsar_form(2, "sum"))


def dsar_o2s_tucker_cifar10() -> Experiment:
    """Order 2 with the table of free logits as a tensor of low rank."""
    return _dsar("FSAR-O2S-tucker", dsar_form(2, "tucker"))


def _experiment(title: str, model: FsarConfig) -> Experiment:
    """The paper's recipe for CIFAR-10, for one model."""
    paper = fsar.v2dvq_c2_cifar10()
    training = replace(paper.train.config, model=model)
    return replace(
        paper,
        name=f"fsar-{title.lower()}-cifar10",
        description=f"{title} trained on CIFAR-10 with the paper's recipe.",
        codecs=(replace(fsar.TRAINED_HERE, label=title),),
        train=replace(paper.train, config=training),
    )


def _annealed(model: FsarConfig) -> FsarConfig:
    """In the comparison of backbones V2DVQ has an entropy term that fades."""
    return replace(model, entropy_temp=1.0, annealed="entropy_temp")


def _backbone(name: str, groups: int, title: str, family: FsarConfig) -> Experiment:
    """The quantiser of a model on another backbone, in batches of 500."""
    shape = backbone(name, groups)
    fields = ("quantizer", "gs_temp", "relax_temp", "entropy_temp", "annealed")
    model = replace(shape, **{field: getattr(family, field) for field in fields})
    experiment = _experiment(f"{title}-{name}-c{groups}", model)
    return replace(experiment, train=replace(experiment.train, batch_size=500, steps=100_000))


def _dsar(title: str, model: DsarConfig) -> Experiment:
    """500 epochs in batches of 1,024."""
    experiment = _experiment(f"dsar-{title}", v2dvq_c2())
    train = replace(experiment.train, module=dsar_module, config=DsarTraining(model=model))
    codec = CodecSpec(codec="fsar.dsar", label=f"dsar {title}", weights=RUN_WEIGHTS)
    return replace(experiment, codecs=(codec,), train=replace(train, batch_size=1024, steps=24_500))
