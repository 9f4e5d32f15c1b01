"""What each way of coding the pixels gains: `V2DVQ-c2` with every one of them, trained alike for a few minutes.

Rates are those of archives of the validation pictures; 1,500 steps of 32 pictures take one core about three minutes.
"""

from __future__ import annotations

from dataclasses import replace

import fsar

from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment
from cbench.data import cifar10
from cbench.models.fsar import build_original_grid
from cbench.models.fsar.config import FsarConfig, v2dvq_c2, v2dvq_c2_edges

STEPS = 1500
ORIGINAL = CodecSpec(codec="fsar.original-grid", label="original grid", weights=RUN_WEIGHTS, build=build_original_grid)


def gaussian() -> Experiment:
    """The paper's Gaussians and likelihood, with the tables of the original and with ours."""
    experiment = _trained("gaussian", v2dvq_c2())
    return replace(experiment, codecs=(ORIGINAL, *experiment.codecs))


def edge_mass() -> Experiment:
    """Training counts the tails that our tables put into the values 0 and 255."""
    return _trained("edge-mass", v2dvq_c2_edges())


def mixture() -> Experiment:
    """Mixtures of three logistic distributions in place of the Gaussians."""
    return _trained("mixture", replace(v2dvq_c2(), pixels="mixture"))


def mixture_colour() -> Experiment:
    """The same, whose means follow the colours before by lines that the decoder network gives."""
    return _trained("mixture-colour", replace(v2dvq_c2(), pixels="mixture-colour"))


def linear() -> Experiment:
    """The means move with three decoded neighbours, as in the paper's `Coder-ar`."""
    return _trained("linear", replace(v2dvq_c2_edges(), pixels="linear"))


def causal() -> Experiment:
    """A small network that looks at decoded neighbours gives mixtures of three logistics."""
    return _trained("causal", replace(v2dvq_c2(), pixels="causal", hidden=48))


def _trained(name: str, model: FsarConfig) -> Experiment:
    recipe = fsar.v2dvq_c2_cifar10_cpu()
    train = replace(
        recipe.train, config=replace(recipe.train.config, model=model), steps=STEPS, validate_every=STEPS, ema=0.995
    )
    return replace(
        recipe,
        name=f"fsar-pixels-{name}",
        description=f"V2DVQ-c2 trained for {STEPS} steps; pixels: {name}.",
        codecs=(replace(fsar.TRAINED_HERE, label=name),),
        data=(DataSpec(source=cifar10.validation, name="CIFAR-10 validation"),),
        train=train,
    )
