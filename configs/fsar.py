"""Finite-State Autoregressive Entropy Coding (ICLR 2024): the paper's models, and ours, beside the codecs people use.

Names: `<model>_<data set>` trains with the paper's recipe, `..._cpu` with ours for one core, `tiny...` checks the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment, Measure, TrainSpec
from cbench.codec import Sample
from cbench.data import cifar10, clic, imagenet_small, kodak, openimages, samples
from cbench.models.fsar import FsarTraining, module
from cbench.models.fsar.config import (
    FsarConfig,
    ar_cifar10,
    bits_back,
    coder_ar,
    coder_ar_o2s,
    coder_ar_vq,
    entropy_bottleneck,
    mcquic,
    tiny,
    tiny_ar,
    v2dvq_c2,
    v2dvq_c2_checkerboard,
    v2dvq_c2_edges,
    v2dvq_c2_maskconv,
    v2dvq_c2_o1s,
    v2dvq_c2_o2s,
    v2dvq_c2_o2s_catreduce,
    v2dvq_c2_o3s,
    vqvae_c2,
)

CODEC = "fsar.cifar10"
AR = "fsar.ar"
PEERS = tuple(CodecSpec(codec=name) for name in ("png", "webp", "jpegxl"))
TRAINED_HERE = CodecSpec(codec=CODEC, label="V2DVQ-c2", weights=RUN_WEIGHTS)
HELD_OUT = 5000
"""Last training pictures of ImageNet that choose the weights; the published validation set is the test set."""
CIFAR10_TEST = DataSpec(source=cifar10.test, name="CIFAR-10 test")


def config() -> Experiment:
    """The weights that come with the package on 1,000 CIFAR-10 test pictures, in archives; no training."""
    return Experiment(
        name="fsar-shipped",
        description="The shipped weights on CIFAR-10 test pictures, coded as archives.",
        codecs=(*PEERS, CodecSpec(codec=CODEC, label="V2DVQ-c2"), CodecSpec(codec=AR, label="FSAR causal")),
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


def v2dvq_c2_o1s_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O1S` on CIFAR-10 with the paper's recipe."""
    return _with_model(v2dvq_c2_cifar10(), "V2DVQ-c2-FSAR-O1S", v2dvq_c2_o1s())


def v2dvq_c2_o1s_imagenet32() -> Experiment:
    """`V2DVQ-c2-FSAR-O1S` on ImageNet32 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet32(), "V2DVQ-c2-FSAR-O1S", v2dvq_c2_o1s())


def v2dvq_c2_o1s_imagenet64() -> Experiment:
    """`V2DVQ-c2-FSAR-O1S` on ImageNet64 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet64(), "V2DVQ-c2-FSAR-O1S", v2dvq_c2_o1s())


def v2dvq_c2_o2s_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S` on CIFAR-10 with the paper's recipe."""
    return _with_model(v2dvq_c2_cifar10(), "V2DVQ-c2-FSAR-O2S", v2dvq_c2_o2s())


def v2dvq_c2_o2s_imagenet32() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S` on ImageNet32 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet32(), "V2DVQ-c2-FSAR-O2S", v2dvq_c2_o2s())


def v2dvq_c2_o2s_imagenet64() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S` on ImageNet64 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet64(), "V2DVQ-c2-FSAR-O2S", v2dvq_c2_o2s())


def v2dvq_c2_o2s_catreduce_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S-catreduce1.5` on CIFAR-10 with the paper's recipe."""
    return _with_model(v2dvq_c2_cifar10(), "V2DVQ-c2-FSAR-O2S-catreduce1.5", v2dvq_c2_o2s_catreduce())


def v2dvq_c2_o2s_catreduce_imagenet32() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S-catreduce1.5` on ImageNet32 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet32(), "V2DVQ-c2-FSAR-O2S-catreduce1.5", v2dvq_c2_o2s_catreduce())


def v2dvq_c2_o2s_catreduce_imagenet64() -> Experiment:
    """`V2DVQ-c2-FSAR-O2S-catreduce1.5` on ImageNet64 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet64(), "V2DVQ-c2-FSAR-O2S-catreduce1.5", v2dvq_c2_o2s_catreduce())


def v2dvq_c2_o3s_cifar10() -> Experiment:
    """`V2DVQ-c2-FSAR-O3S` on CIFAR-10 with the paper's recipe."""
    return _with_model(v2dvq_c2_cifar10(), "V2DVQ-c2-FSAR-O3S", v2dvq_c2_o3s())


def v2dvq_c2_o3s_imagenet32() -> Experiment:
    """`V2DVQ-c2-FSAR-O3S` on ImageNet32 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet32(), "V2DVQ-c2-FSAR-O3S", v2dvq_c2_o3s())


def v2dvq_c2_o3s_imagenet64() -> Experiment:
    """`V2DVQ-c2-FSAR-O3S` on ImageNet64 with the paper's recipe."""
    return _with_model(v2dvq_c2_imagenet64(), "V2DVQ-c2-FSAR-O3S", v2dvq_c2_o3s())


def v2dvq_c2_maskconv_cifar10() -> Experiment:
    """`V2DVQ-c2-maskconv3x3` on CIFAR-10 with the paper's recipe."""
    return _alone(v2dvq_c2_cifar10(), "V2DVQ-c2-maskconv3x3", v2dvq_c2_maskconv())


def v2dvq_c2_maskconv_imagenet32() -> Experiment:
    """`V2DVQ-c2-maskconv3x3` on ImageNet32 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet32(), "V2DVQ-c2-maskconv3x3", v2dvq_c2_maskconv())


def v2dvq_c2_maskconv_imagenet64() -> Experiment:
    """`V2DVQ-c2-maskconv3x3` on ImageNet64 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet64(), "V2DVQ-c2-maskconv3x3", v2dvq_c2_maskconv())


def v2dvq_c2_checkerboard_cifar10() -> Experiment:
    """`V2DVQ-c2-checkerboard3x3` on CIFAR-10 with the paper's recipe."""
    return _alone(v2dvq_c2_cifar10(), "V2DVQ-c2-checkerboard3x3", v2dvq_c2_checkerboard())


def v2dvq_c2_checkerboard_imagenet32() -> Experiment:
    """`V2DVQ-c2-checkerboard3x3` on ImageNet32 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet32(), "V2DVQ-c2-checkerboard3x3", v2dvq_c2_checkerboard())


def v2dvq_c2_checkerboard_imagenet64() -> Experiment:
    """`V2DVQ-c2-checkerboard3x3` on ImageNet64 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet64(), "V2DVQ-c2-checkerboard3x3", v2dvq_c2_checkerboard())


def vqvae_c2_cifar10() -> Experiment:
    """`vqvae-c2` on CIFAR-10 with the paper's recipe."""
    return _alone(v2dvq_c2_cifar10(), "vqvae-c2", vqvae_c2())


def vqvae_c2_imagenet32() -> Experiment:
    """`vqvae-c2` on ImageNet32 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet32(), "vqvae-c2", vqvae_c2())


def vqvae_c2_imagenet64() -> Experiment:
    """`vqvae-c2` on ImageNet64 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet64(), "vqvae-c2", vqvae_c2())


def mcquic_cifar10() -> Experiment:
    """`mcquic` on CIFAR-10 with the paper's recipe."""
    return _alone(v2dvq_c2_cifar10(), "mcquic", mcquic())


def mcquic_imagenet32() -> Experiment:
    """`mcquic` on ImageNet32 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet32(), "mcquic", mcquic())


def mcquic_imagenet64() -> Experiment:
    """`mcquic` on ImageNet64 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet64(), "mcquic", mcquic())


def entropy_bottleneck_cifar10() -> Experiment:
    """`entropy_bottleneck` on CIFAR-10 with the paper's recipe."""
    return _alone(v2dvq_c2_cifar10(), "entropy_bottleneck", entropy_bottleneck())


def entropy_bottleneck_imagenet32() -> Experiment:
    """`entropy_bottleneck` on ImageNet32 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet32(), "entropy_bottleneck", entropy_bottleneck())


def entropy_bottleneck_imagenet64() -> Experiment:
    """`entropy_bottleneck` on ImageNet64 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet64(), "entropy_bottleneck", entropy_bottleneck())


def bits_back_cifar10() -> Experiment:
    """`bits_back` on CIFAR-10 with the paper's recipe."""
    return _alone(v2dvq_c2_cifar10(), "bits_back", bits_back())


def bits_back_imagenet32() -> Experiment:
    """`bits_back` on ImageNet32 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet32(), "bits_back", bits_back())


def bits_back_imagenet64() -> Experiment:
    """`bits_back` on ImageNet64 with the paper's recipe."""
    return _alone(v2dvq_c2_imagenet64(), "bits_back", bits_back())


def coder_ar_vq_cifar10() -> Experiment:
    """`Coder-ar-c32-vq` on CIFAR-10 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_cifar10()), "Coder-ar-c32-vq", coder_ar_vq())


def coder_ar_vq_imagenet32() -> Experiment:
    """`Coder-ar-c32-vq` on ImageNet32 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_imagenet32()), "Coder-ar-c32-vq", coder_ar_vq())


def coder_ar_vq_imagenet64() -> Experiment:
    """`Coder-ar-c32-vq` on ImageNet64 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_imagenet64()), "Coder-ar-c32-vq", coder_ar_vq())


def coder_ar_vq_openimages() -> Experiment:
    """`Coder-ar-c32-vq` on crops of OpenImages, for Kodak and CLIC."""
    return _alone(_openimages(), "Coder-ar-c32-vq", coder_ar_vq())


def coder_ar_vq_openimages_plain() -> Experiment:
    """`Coder-ar-c32-vq` on the same as they are, in batches of 32."""
    return _alone(_openimages_plain(), "Coder-ar-c32-vq", coder_ar_vq())


def coder_ar_cifar10() -> Experiment:
    """`Coder-ar-c32-STHQ` on CIFAR-10 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_cifar10()), "Coder-ar-c32-STHQ", coder_ar())


def coder_ar_imagenet32() -> Experiment:
    """`Coder-ar-c32-STHQ` on ImageNet32 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_imagenet32()), "Coder-ar-c32-STHQ", coder_ar())


def coder_ar_imagenet64() -> Experiment:
    """`Coder-ar-c32-STHQ` on ImageNet64 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_imagenet64()), "Coder-ar-c32-STHQ", coder_ar())


def coder_ar_openimages() -> Experiment:
    """`Coder-ar-c32-STHQ` on crops of OpenImages, for Kodak and CLIC."""
    return _alone(_openimages(), "Coder-ar-c32-STHQ", coder_ar())


def coder_ar_openimages_plain() -> Experiment:
    """`Coder-ar-c32-STHQ` on the same as they are, in batches of 32."""
    return _alone(_openimages_plain(), "Coder-ar-c32-STHQ", coder_ar())


def coder_ar_o2s_cifar10() -> Experiment:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid` on CIFAR-10 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_cifar10()), "Coder-ar-c32-STHQ-FSAR-O2S-arid", coder_ar_o2s())


def coder_ar_o2s_imagenet32() -> Experiment:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid` on ImageNet32 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_imagenet32()), "Coder-ar-c32-STHQ-FSAR-O2S-arid", coder_ar_o2s())


def coder_ar_o2s_imagenet64() -> Experiment:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid` on ImageNet64 with the paper's recipe."""
    return _alone(_coding(v2dvq_c2_imagenet64()), "Coder-ar-c32-STHQ-FSAR-O2S-arid", coder_ar_o2s())


def coder_ar_o2s_openimages() -> Experiment:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid` on crops of OpenImages, for Kodak and CLIC."""
    return _alone(_openimages(), "Coder-ar-c32-STHQ-FSAR-O2S-arid", coder_ar_o2s())


def coder_ar_o2s_openimages_plain() -> Experiment:
    """`Coder-ar-c32-STHQ-FSAR-O2S-arid` on the same as they are, in batches of 32."""
    return _alone(_openimages_plain(), "Coder-ar-c32-STHQ-FSAR-O2S-arid", coder_ar_o2s())


def v2dvq_c2_o1s_cifar10_cpu() -> Experiment:
    """The baseline's recipe for one core with the prior of order 1, so that the two can be compared."""
    return _with_model(v2dvq_c2_cifar10_cpu(), "V2DVQ-c2-FSAR-O1S", replace(v2dvq_c2_o1s(), edge_mass=True))


def v2dvq_c2_o2s_cifar10_cpu() -> Experiment:
    """The same with order 2."""
    return _with_model(v2dvq_c2_cifar10_cpu(), "V2DVQ-c2-FSAR-O2S", replace(v2dvq_c2_o2s(), edge_mass=True))


def v2dvq_c2_o2s_catreduce_cifar10_cpu() -> Experiment:
    """The same with order 2 and masked categories."""
    model = replace(v2dvq_c2_o2s_catreduce(), edge_mass=True)
    return _with_model(v2dvq_c2_cifar10_cpu(), "V2DVQ-c2-FSAR-O2S-catreduce1.5", model)


def ar_cifar10_cpu() -> Experiment:
    """Our strongest model, few latents and a causal head: the recipe of the weights of `fsar.ar`, for one core."""
    paper = v2dvq_c2_cifar10_cpu()
    train = replace(
        paper.train,
        config=FsarTraining(model=ar_cifar10(), soft_every=8, prior_every=4, revive_every=200, revive_until=0.5),
        steps=13_600,
        ema=0.9993,
    )
    return replace(
        paper,
        name="fsar-ar-cifar10-cpu",
        description="FSAR with an order-2 prior and a causal pixel network, trained on CIFAR-10 on one core.",
        codecs=(*PEERS, CodecSpec(codec=AR, label="FSAR causal", weights=RUN_WEIGHTS)),
        train=train,
    )


def ar_tiny() -> Experiment:
    """The causal model in small: checks the whole way in a minute, offline."""
    small = v2dvq_c2_tiny()
    train = replace(small.train, config=replace(small.train.config, model=tiny_ar(), prior_every=2))
    return replace(
        small,
        name="fsar-ar-tiny",
        description="A tiny causal model, trained for seconds.",
        codecs=(CodecSpec(codec="png"), CodecSpec(codec=AR, label="FSAR causal tiny", weights=RUN_WEIGHTS)),
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


def v2dvq_c2_o3s_tiny() -> Experiment:
    """A prior of order 3 in small: one minute, offline."""
    small = v2dvq_c2_tiny()
    model = replace(tiny(), context=v2dvq_c2_o3s().context)
    train = replace(small.train, config=replace(small.train.config, model=model, prior_every=2))
    codecs = (CodecSpec(codec="png"), replace(TRAINED_HERE, label="V2DVQ-c2-FSAR-O3S tiny"))
    return replace(
        small,
        name="fsar-v2dvq-c2-o3s-tiny",
        description="A tiny V2DVQ-c2-FSAR-O3S, trained for seconds.",
        codecs=codecs,
        train=train,
    )


def _with_model(experiment: Experiment, title: str, model: FsarConfig) -> Experiment:
    """The same data and recipe for another model."""
    recipe = experiment.train.config
    config = replace(recipe, model=model, prior_every=1 if recipe.soft_every == 1 else 4)
    return replace(
        experiment,
        name=experiment.name.replace("v2dvq-c2", title.lower().replace("_", "-")),
        description=experiment.description.replace("V2DVQ-c2", title),
        codecs=(*PEERS, replace(TRAINED_HERE, label=title)),
        train=replace(experiment.train, config=config),
    )


def _alone(experiment: Experiment, title: str, model: FsarConfig) -> Experiment:
    """The same data and recipe for another model, which alone is measured."""
    changed = _with_model(experiment, title, model)
    return replace(changed, codecs=changed.codecs[len(PEERS) :])


def _coding(experiment: Experiment) -> Experiment:
    """The paper's coding experiments: batches of 1,024 where the pictures are those of CIFAR-10."""
    steps = 49_000 if experiment.train.batch_size == 1000 else experiment.train.steps
    batch = 1024 if experiment.train.batch_size == 1000 else experiment.train.batch_size
    return replace(experiment, train=replace(experiment.train, batch_size=batch, steps=steps))


def _openimages() -> Experiment:
    """Crops of 128 x 128 with changed colours in batches of 64, 250 epochs of 200,000 pictures."""
    paper = v2dvq_c2_cifar10()
    train = replace(
        paper.train,
        config=replace(paper.train.config, recolour=True),
        data=DataSpec(source=openimages.train, name="OpenImages train"),
        validation=DataSpec(source=openimages.validation, name="OpenImages validation", limit=100),
        steps=780_000,
        batch_size=64,
        lr=1e-4,
        crop=128,
        flip=True,
    )
    return replace(
        paper,
        name="fsar-v2dvq-c2-openimages",
        description="V2DVQ-c2 trained on OpenImages, tested on whole photographs.",
        data=(DataSpec(source=kodak, name="Kodak"), DataSpec(source=clic.validation, name="CLIC 2020 valid")),
        train=train,
        measure=Measure(),
    )


def _openimages_plain() -> Experiment:
    crops = _openimages()
    config = replace(crops.train.config, recolour=False)
    train = replace(crops.train, config=config, batch_size=32, steps=625_000, flip=False)
    return replace(crops, name="fsar-v2dvq-c2-openimages-plain", train=train)


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
