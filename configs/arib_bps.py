"""ArIB-BPS (CVPR 2024): bit planes with bits-back latents. The paper's models and schedules, and ours for one core.

The paper trains SIG and INS separately (`..._sig`, `..._ins`) and then SIG again with coded latents (`..._finetune`).
Each step starts from the weights file of the one before: `--set train.init=PATH`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment, Measure, TrainSpec
from cbench.codec import Sample
from cbench.data import cifar10 as cifar10_data
from cbench.data import imagenet_small, kodak, photos, samples
from cbench.models.arib_bps import AribConfig, AribTraining, module
from cbench.models.arib_bps.config import cifar10, cifar10_small, imagenet32, imagenet64, imagenet64_small, tiny_split
from cbench.models.arib_bps.pyramid_config import PHOTOGRAPH, PyramidConfig, PyramidTraining
from cbench.models.arib_bps.pyramid_config import module as pyramid_module

CODEC = "arib_bps.cifar10"
PEERS = tuple(CodecSpec(codec=name) for name in ("png", "webp", "jpegxl"))
TRAINED_HERE = CodecSpec(codec=CODEC, label="ArIB-BPS", weights=RUN_WEIGHTS)
CIFAR10_TEST = DataSpec(source=cifar10_data.test, name="CIFAR-10 test")
PYRAMID = "arib_bps.pyramid"
PYRAMID_TRAINED_HERE = CodecSpec(codec=PYRAMID, label="pyramid", weights=RUN_WEIGHTS)
HELD_OUT = 50_000
"""Last training pictures of ImageNet, by which the paper chooses weights."""


def config() -> Experiment:
    """The weights that come with the package on 1,000 CIFAR-10 test pictures, in archives; no training."""
    return Experiment(
        name="arib-bps-shipped",
        description="The shipped weights on CIFAR-10 test pictures, coded as archives.",
        codecs=(*PEERS, CodecSpec(codec="fsar.ar", label="FSAR causal"), CodecSpec(codec=CODEC, label="ArIB-BPS")),
        data=(replace(CIFAR10_TEST, limit=1000),),
        measure=Measure(archive=True),
    )


def kodak_tiles() -> Experiment:
    """The same weights on the Kodak pictures, in tiles of 32 x 32."""
    kodak_set = DataSpec(source=kodak, name="Kodak")
    return replace(config(), name="arib-bps-kodak", data=(kodak_set,), measure=Measure())


def cifar10_sig() -> Experiment:
    """SIG on CIFAR-10 with the paper's schedule: Adam 2e-4, 740,000 steps of 16, factor 0.99 every 2,800."""
    train = TrainSpec(
        module=module,
        config=AribTraining(model=cifar10(), mode="sig", dropout=0.3, decay_rate=0.99, decay_interval=2800),
        data=DataSpec(source=cifar10_data.train, name="CIFAR-10 train"),
        validation=DataSpec(source=cifar10_data.validation, name="CIFAR-10 validation"),
        steps=740_000,
        batch_size=16,
        lr=2e-4,
        flip=False,
        clip=None,
        validate_every=2800,
    )
    return Experiment(
        name="arib-bps-cifar10-sig",
        description="ArIB-BPS on CIFAR-10 with the paper's schedule: upper planes.",
        codecs=(*PEERS, TRAINED_HERE),
        data=(CIFAR10_TEST,),
        train=train,
        measure=Measure(archive=True),
    )


def cifar10_ins() -> Experiment:
    """INS on CIFAR-10 with the paper's schedule."""
    return _ins(cifar10_sig())


def cifar10_finetune() -> Experiment:
    """SIG with coded latents on CIFAR-10: 56,000 steps at 1e-5."""
    return _finetune(cifar10_sig(), steps=56_000)


def imagenet32_sig() -> Experiment:
    """SIG on ImageNet32 (the old version of the set): 700,000 steps of 128, factor 0.965 every 10,000."""
    recipe = AribTraining(model=imagenet32(), mode="sig", dropout=0.2, decay_rate=0.965, decay_interval=10_000)
    return _imagenet("imagenet32", recipe, steps=700_000, batch_size=128, validate_every=10_000)


def imagenet32_ins() -> Experiment:
    """INS on ImageNet32."""
    return _ins(imagenet32_sig())


def imagenet32_finetune() -> Experiment:
    """SIG with coded latents on ImageNet32: 100,000 steps of 16 at 1e-5."""
    return _finetune(imagenet32_sig(), steps=100_000, dropout=0.0)


def imagenet64_sig() -> Experiment:
    """SIG on ImageNet64: 600,000 steps of 128."""
    recipe = AribTraining(model=imagenet64(), mode="sig", decay_rate=0.965, decay_interval=10_000)
    return _imagenet("imagenet64", recipe, steps=600_000, batch_size=128, validate_every=10_000)


def imagenet64_ins() -> Experiment:
    """INS on ImageNet64."""
    return _ins(imagenet64_sig())


def imagenet64_finetune() -> Experiment:
    """SIG with coded latents on ImageNet64: 100,000 steps of 16 at 1e-5."""
    return _finetune(imagenet64_sig(), steps=100_000)


def imagenet64_small_sig() -> Experiment:
    """SIG of the small model on ImageNet64: 740,000 steps of 128, factor 0.99 every 2,800."""
    recipe = AribTraining(model=imagenet64_small(), mode="sig", decay_rate=0.99, decay_interval=2800)
    found = _imagenet("imagenet64", recipe, steps=740_000, batch_size=128, validate_every=2800)
    return replace(found, name="arib-bps-imagenet64-small-sig")


def imagenet64_small_ins() -> Experiment:
    """INS of the small model on ImageNet64."""
    return _ins(imagenet64_small_sig())


def imagenet64_small_finetune() -> Experiment:
    """SIG of the small model with coded latents: 130,000 steps of 16 at 1e-5."""
    return _finetune(imagenet64_small_sig(), steps=130_000)


def cifar10_cpu() -> Experiment:
    """A small model, both parts at once, on one core: the recipe of the shipped weights."""
    paper = cifar10_sig()
    train = replace(
        paper.train,
        config=AribTraining(model=cifar10_small(), high_pass=True, one_step=True),
        steps=16_000,
        batch_size=16,
        lr=2e-3,
        schedule="one-cycle",
        flip=True,
        precision="bf16",
        clip=1.0,
        ema=0.998,
        validate_every=250,
    )
    return replace(paper, name="arib-bps-cifar10-cpu", description="A small ArIB-BPS on one core.", train=train)


def sig_num_2_cifar10_cpu() -> Experiment:
    """Ablation: only the two uppermost planes have the latent."""
    return _ablation("sig2", replace(cifar10_small(), sig_num=2))


def sig_num_6_cifar10_cpu() -> Experiment:
    """Ablation: six planes have the latent."""
    return _ablation("sig6", replace(cifar10_small(), sig_num=6))


def one_scale_cifar10_cpu() -> Experiment:
    """Ablation: a latent of one scale."""
    return _ablation("one-scale", replace(cifar10_small(), n_layers=1))


def no_local_cifar10_cpu() -> Experiment:
    """Ablation: no local nets."""
    return _ablation("no-local", replace(cifar10_small(), local=0))


def share_cifar10_cpu() -> Experiment:
    """Ablation: one space net and one parameter net for all steps, which cannot be folded."""
    return _ablation(
        "share", replace(cifar10_small(), share=True, folded=False, sig_plane_width=32, ins_plane_width=32)
    )


def tiny() -> Experiment:
    """A tiny model on tiles of bundled photographs: checks the whole way in a minute or two, offline."""
    train = TrainSpec(
        module=module,
        config=AribTraining(model=replace(tiny_split(), folded=True), high_pass=True),
        data=DataSpec(source=_tiles, name="tiles of bundled photographs", limit=400),
        validation=DataSpec(source=_validation_tiles, name="other tiles", limit=16),
        steps=40,
        batch_size=8,
        lr=3e-3,
        schedule="one-cycle",
        ema=0.95,
        validate_every=20,
    )
    return Experiment(
        name="arib-bps-tiny",
        description="A tiny ArIB-BPS, trained for seconds.",
        codecs=(CodecSpec(codec="png"), replace(TRAINED_HERE, label="ArIB-BPS tiny")),
        data=(DataSpec(source=_validation_tiles, name="other tiles", limit=16),),
        train=train,
        measure=Measure(archive=True),
    )


def tiny_finetune() -> Experiment:
    """The tiny model's second stage; needs `--set train.init=PATH` of the first."""
    found = _finetune(tiny(), steps=20)
    return replace(found, train=replace(found.train, lr=3e-4, batch_size=8))


def _ins(experiment: Experiment) -> Experiment:
    """The same schedule for INS; the weights of SIG come from `train.init`."""
    recipe = replace(experiment.train.config, mode="ins")
    return replace(
        experiment,
        name=experiment.name.replace("-sig", "-ins"),
        description=experiment.description.replace("upper", "lower"),
        train=replace(experiment.train, config=recipe),
    )


def _finetune(experiment: Experiment, steps: int, dropout: float | None = None) -> Experiment:
    """SIG with coded latents: constant 1e-5, batches of 16."""
    recipe = experiment.train.config
    recipe = replace(recipe, mode="finetune", decay_rate=1.0, dropout=recipe.dropout if dropout is None else dropout)
    train = replace(experiment.train, config=recipe, steps=steps, batch_size=16, lr=1e-5, schedule="constant")
    return replace(
        experiment,
        name=experiment.name.removesuffix("-sig") + "-finetune",
        description="ArIB-BPS: upper planes again, with latents as they are coded.",
        train=train,
    )


def _ablation(title: str, model: AribConfig) -> Experiment:
    base = cifar10_cpu()
    recipe = replace(base.train.config, model=model)
    label = f"ArIB-BPS {title}"
    return replace(
        base,
        name=f"{base.name}-{title}",
        codecs=(*PEERS, replace(TRAINED_HERE, label=label)),
        train=replace(base.train, config=recipe),
    )


def _imagenet(name: str, recipe: AribTraining, **schedule: int) -> Experiment:
    paper = cifar10_sig()
    train, held_out, test = {
        "imagenet32": (_imagenet32_train, _imagenet32_held_out, imagenet_small.imagenet32_validation),
        "imagenet64": (_imagenet64_train, _imagenet64_held_out, imagenet_small.imagenet64_validation),
    }[name]
    return replace(
        paper,
        name=f"arib-bps-{name}-sig",
        description=f"ArIB-BPS on downsampled ImageNet ({name}) with the paper's schedule: upper planes.",
        data=(DataSpec(source=test, name=f"{name} validation"),),
        train=replace(
            paper.train,
            config=recipe,
            data=DataSpec(source=train, name=f"{name} train"),
            validation=DataSpec(source=held_out, name=f"{name} train, held out"),
            **schedule,
        ),
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


def pyramid() -> Experiment:
    """The pyramid of mixtures, our variant, on 1,000 CIFAR-10 test pictures in archives; no training."""
    return Experiment(
        name="arib-bps-pyramid",
        description="The shipped pyramid on CIFAR-10 test pictures, coded as archives.",
        codecs=(*PEERS, CodecSpec(codec="fsar.ar", label="FSAR causal"), CodecSpec(codec=PYRAMID, label="pyramid")),
        data=(replace(CIFAR10_TEST, limit=1000),),
        measure=Measure(archive=True),
    )


def pyramid_kodak() -> Experiment:
    """The same weights on the Kodak pictures."""
    kodak_set = DataSpec(source=kodak, name="Kodak")
    return replace(pyramid(), name="arib-bps-pyramid-kodak", data=(kodak_set,), measure=Measure())


def pyramid_cifar10_cpu() -> Experiment:
    """The pyramid on CIFAR-10 alone, in about an hour on one core."""
    train = TrainSpec(
        module=pyramid_module,
        config=PyramidTraining(),
        data=DataSpec(source=cifar10_data.train, name="CIFAR-10 train"),
        validation=DataSpec(source=cifar10_data.validation, name="CIFAR-10 validation"),
        steps=20_000,
        batch_size=32,
        lr=2e-3,
        schedule="one-cycle",
        precision="bf16",
        ema=0.998,
        validate_every=1000,
    )
    return Experiment(
        name="arib-bps-pyramid-cifar10-cpu",
        description="The pyramid trained on CIFAR-10 on one core.",
        codecs=(*PEERS, PYRAMID_TRAINED_HERE),
        data=(CIFAR10_TEST,),
        train=train,
        measure=Measure(archive=True),
    )


def pyramid_photos_cpu() -> Experiment:
    """The pyramid on crops of photographs, in about an hour on one core."""
    small = pyramid_cifar10_cpu()
    train = replace(
        small.train,
        config=PyramidTraining(kind=PHOTOGRAPH),
        data=DataSpec(source=photos.train, name="photographs, train"),
        validation=DataSpec(source=_photo_crops, name="photographs, validation"),
        batch_size=8,
        crop=64,
    )
    return replace(
        pyramid_kodak(),
        name="arib-bps-pyramid-photos-cpu",
        description="The pyramid trained on crops of photographs on one core.",
        codecs=(*PEERS, PYRAMID_TRAINED_HERE),
        train=train,
    )


def pyramid_mixture_cpu() -> Experiment:
    """The pyramid on CIFAR-10 and photographs at once, as the shipped one is; one to two hours on one core."""
    small = pyramid_cifar10_cpu()
    train = replace(
        small.train,
        config=PyramidTraining(kind=None),
        data=DataSpec(source=_mixture, name="CIFAR-10 train and photographs, train"),
        validation=DataSpec(source=_mixture_validation, name="CIFAR-10 validation and photographs, validation"),
        batch_size=12,
        crop=64,
        steps=10_000,
    )
    return replace(
        pyramid_kodak(),
        name="arib-bps-pyramid-mixture-cpu",
        description="The pyramid trained on small pictures and photographs on one core.",
        codecs=(*PEERS, PYRAMID_TRAINED_HERE),
        data=(replace(CIFAR10_TEST, limit=1000), *pyramid_kodak().data),
        train=train,
        measure=Measure(archive=True),
    )


def pyramid_tiny() -> Experiment:
    """A very small pyramid, offline, in less than a minute."""
    train = replace(
        pyramid_cifar10_cpu().train,
        config=PyramidTraining(model=PyramidConfig(channels=16, blocks=1, hidden=16, mixtures=2)),
        data=DataSpec(source=_tiles, name="tiles of photographs", limit=400),
        validation=DataSpec(source=_validation_tiles, name="further tiles"),
        steps=60,
        batch_size=16,
        precision="32",
        ema=None,
        validate_every=30,
    )
    return Experiment(
        name="arib-bps-pyramid-tiny",
        description="A very small pyramid on tiles of the bundled photographs.",
        codecs=(*PEERS, PYRAMID_TRAINED_HERE),
        data=(DataSpec(source=_validation_tiles, name="further tiles", limit=32),),
        train=train,
        measure=Measure(archive=True),
    )


def _mixture(root: Path | None = None) -> Sequence[Sample]:
    """Needs torch, which a config must not load."""
    from cbench.models.arib_bps.pyramid_data import Mixed

    return Mixed(cifar10_data.train(root), photos.train(root))


def _mixture_validation(root: Path | None = None) -> Sequence[Sample]:
    return [*cifar10_data.validation(root)[:320], *_photo_crops(root)]


def _photo_crops(root: Path | None = None) -> Sequence[Sample]:
    """Two corners of 128 x 128 around the middle of every validation picture."""
    crops = []
    for sample in photos.validation(root):
        y, x = (n // 2 for n in sample.array.shape[1:])
        for top, left in ((y - 128, x - 128), (y, x)):
            part = np.ascontiguousarray(sample.array[:, top : top + 128, left : left + 128])
            crops.append(Sample(f"{sample.name}-{top}-{left}", part))
    return crops
