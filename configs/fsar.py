"""Finite-State Autoregressive Entropy Coding (ICLR 2024): the `V2DVQ-c2` baseline beside the codecs people use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment, Measure, TrainSpec
from cbench.codec import Sample
from cbench.data import cifar10, imagenet_small, samples
from cbench.models.fsar import FsarTraining, module
from cbench.models.fsar.config import tiny, v2dvq_c2, v2dvq_c2_edges

CODEC = "fsar.cifar10"
PEERS = tuple(CodecSpec(codec=name) for name in ("png", "webp", "jpegxl"))
TRAINED_HERE = CodecSpec(codec=CODEC, label="V2DVQ-c2", weights=RUN_WEIGHTS)
HELD_OUT = 5000
"""Last training pictures of ImageNet that choose the weights; the published validation set is the test set."""
CIFAR10_TEST = DataSpec(source=cifar10.test, name="CIFAR-10 test")


def config() -> Experiment:
    """The weights that come with the package on 1,000 CIFAR-10 test pictures, in archives; no training."""
    return Experiment(
        name="fsar-shipped",
        description="V2DVQ-c2 with the shipped weights on CIFAR-10 test pictures, coded as archives.",
        codecs=(*PEERS, CodecSpec(codec=CODEC, label="V2DVQ-c2")),
        data=(replace(CIFAR10_TEST, limit=1000),),
        measure=Measure(archive=True),
    )


def v2dvq_c2_cifar10() -> Experiment:
    """`V2DVQ-c2` on CIFAR-10 with the paper's recipe: Adam 1e-3, 1,000 epochs in batches of 1,000."""
    train = TrainSpec(
        module=module,
        config=FsarTraining(model=v2dvq_c2()),
        data=DataSpec(source=cifar10.train, name="CIFAR-10 train"),
        validation=DataSpec(source=cifar10.validation, name="CIFAR-10 validation"),
        steps=50_000,
        batch_size=1000,
        lr=1e-3,
        flip=False,
        validate_every=1000,
    )
    return Experiment(
        name="fsar-v2dvq-c2-cifar10",
        description="V2DVQ-c2 trained on CIFAR-10 with the paper's recipe.",
        codecs=(*PEERS, TRAINED_HERE),
        data=(CIFAR10_TEST,),
        train=train,
        measure=Measure(archive=True),
    )


def v2dvq_c2_imagenet32() -> Experiment:
    """`V2DVQ-c2` on downsampled ImageNet 32 x 32 with the paper's recipe: Adam 1e-4, 100 epochs of 1,024."""
    return _imagenet(
        "imagenet32",
        DataSpec(source=imagenet_small.imagenet32_validation, name="ImageNet32 validation"),
        DataSpec(source=_imagenet32_train, name="ImageNet32 train"),
        DataSpec(source=_imagenet32_held_out, name="ImageNet32 train, held out"),
        steps=125_000,
        batch_size=1024,
    )


def v2dvq_c2_imagenet64() -> Experiment:
    """`V2DVQ-c2` on downsampled ImageNet 64 x 64 with the paper's recipe: Adam 1e-4, 100 epochs of 256."""
    return _imagenet(
        "imagenet64",
        DataSpec(source=imagenet_small.imagenet64_validation, name="ImageNet64 validation"),
        DataSpec(source=_imagenet64_train, name="ImageNet64 train"),
        DataSpec(source=_imagenet64_held_out, name="ImageNet64 train, held out"),
        steps=500_000,
        batch_size=256,
    )


def v2dvq_c2_cifar10_cpu() -> Experiment:
    """`V2DVQ-c2` on CIFAR-10 in about 100 minutes on one core: the recipe of the shipped weights."""
    paper = v2dvq_c2_cifar10()
    train = replace(
        paper.train,
        config=FsarTraining(model=v2dvq_c2_edges(), soft_every=8, revive_every=200),
        steps=90_000,
        batch_size=32,
        lr=3e-3,
        schedule="one-cycle",
        flip=True,
        precision="bf16",
        ema=0.9995,
        validate_every=2000,
    )
    return replace(
        paper,
        name="fsar-v2dvq-c2-cifar10-cpu",
        description="V2DVQ-c2 trained on CIFAR-10 on one core.",
        train=train,
    )


def v2dvq_c2_tiny() -> Experiment:
    """A network of 16 channels on tiles of bundled photographs: checks the whole way in a minute, offline."""
    tiles = DataSpec(source=_tiles, name="tiles of bundled photographs")
    train = TrainSpec(
        module=module,
        config=FsarTraining(model=tiny(), soft_every=4, revive_every=50),
        data=replace(tiles, limit=400),
        validation=DataSpec(source=_validation_tiles, name="other tiles"),
        steps=200,
        batch_size=16,
        lr=5e-3,
        schedule="one-cycle",
        ema=0.98,
        validate_every=100,
    )
    return Experiment(
        name="fsar-v2dvq-c2-tiny",
        description="A tiny V2DVQ-c2, trained for seconds.",
        codecs=(CodecSpec(codec="png"), replace(TRAINED_HERE, label="V2DVQ-c2 tiny")),
        data=(DataSpec(source=_validation_tiles, name="other tiles", limit=32),),
        train=train,
        measure=Measure(archive=True),
    )


def _imagenet(name: str, test: DataSpec, train: DataSpec, validation: DataSpec, **recipe: int) -> Experiment:
    paper = v2dvq_c2_cifar10()
    return replace(
        paper,
        name=f"fsar-v2dvq-c2-{name}",
        description=f"V2DVQ-c2 trained on downsampled ImageNet ({name}) with the paper's recipe.",
        data=(test,),
        train=replace(paper.train, data=train, validation=validation, lr=1e-4, **recipe),
    )


def _imagenet32_train(root: Path | None = None) -> Sequence[Sample]:
    return imagenet_small.imagenet32_train(root)[:-HELD_OUT]


def _imagenet32_held_out(root: Path | None = None) -> Sequence[Sample]:
    return imagenet_small.imagenet32_train(root)[-HELD_OUT:]


def _imagenet64_train(root: Path | None = None) -> Sequence[Sample]:
    return imagenet_small.imagenet64_train(root)[:-HELD_OUT]


def _imagenet64_held_out(root: Path | None = None) -> Sequence[Sample]:
    return imagenet_small.imagenet64_train(root)[-HELD_OUT:]


def _tiles() -> Sequence[Sample]:
    return samples.small_photos(32)


def _validation_tiles() -> Sequence[Sample]:
    """Those behind the 400 that are trained on."""
    return samples.small_photos(32)[400:464]
