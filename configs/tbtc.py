"""Transformer-based Transform Coding (ICLR 2022): shipped weights on Kodak, the paper's trainings, ours for a CPU.

Names: `<model>_<size>` trains one point of a curve with the paper's recipe (`--set train.config.rate=0.0509` gives
another), `..._cpu` trains the shipped sizes on one core, `tiny` checks the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from _published import KODAK_TBTC

from cbench.bench import peers
from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment, Measure, TrainSpec
from cbench.codec import Sample
from cbench.data import clic, kodak, photos, samples
from cbench.models.tbtc import TbtcConfig, TbtcTraining, build, module
from cbench.models.tbtc.config import BETAS, extra_small, lambda_of, large, medium, small
from cbench.models.tbtc.config import tiny as tiny_size
from cbench.zoo import BUILDERS

KODAK = DataSpec(source=kodak, name="Kodak")
QUALITY = Measure(psnr=True, ms_ssim=True)
SERIES = {"Conv-Hyperprior xs": "tbtc.conv-xs", "SwinT-ChARM xs": "tbtc.swin-xs"}
"""Curves of shipped weights, with the points 1, 2, 3."""
CPU_RATES = (0.0035, 0.013, 0.0483)
"""lambda of the points 1, 2, 3."""
TITLES = {"conv": "Conv", "swin": "SwinT", "hyperprior": "Hyperprior", "charm": "ChARM"}


def config() -> Experiment:
    """Shipped weights on Kodak beside four points of each classical curve; BD-rates against JPEG."""
    return Experiment(
        name="tbtc-kodak",
        description="The shipped TBTC models and classical codecs on the 24 Kodak pictures.",
        codecs=(*peers.lossy(4), *_shipped()),
        data=(KODAK,),
        measure=QUALITY,
        references=KODAK_TBTC,
    )


def kodak_full() -> Experiment:
    """The same with all points of the classical curves; most of the time is AVIF's."""
    return replace(config(), name="tbtc-kodak-full", codecs=(*peers.lossy(), *_shipped()))


def dial() -> Experiment:
    """What the step of y costs: each of the shipped Conv weights at several qualities, beside JPEG and WebP."""
    codecs = tuple(
        CodecSpec(
            codec=f"tbtc.conv-xs-{i}",
            label=f"weights {i}, quality {quality}",
            series=f"Conv-Hyperprior xs {i}",
            build=partial(build, f"tbtc.conv-xs-{i}", quality=quality),
        )
        for i in (1, 2, 3)
        for quality in (-16, -8, 0, 8)
    )
    others = tuple(spec for spec in peers.lossy(4) if spec.series in ("JPEG", "WebP"))
    return replace(
        config(),
        name="tbtc-dial",
        description="The shipped TBTC Conv models with coarser and finer steps than they were trained for.",
        codecs=(*others, *codecs),
    )


def bundled() -> Experiment:
    """Shipped weights on the bundled photographs; works offline."""
    return replace(
        config(),
        name="tbtc-bundled",
        description="The shipped TBTC models and classical codecs on photographs that come with scikit-image.",
        data=(DataSpec(source=samples.photos),),
    )


def clic_test() -> Experiment:
    """Shipped weights on the test pictures of CLIC."""
    return replace(
        config(),
        name="tbtc-clic",
        description="The shipped TBTC models and classical codecs on CLIC.",
        data=(DataSpec(source=clic.test, name="CLIC"),),
    )


def conv_hyperprior_m() -> Experiment:
    """Conv-Hyperprior, size M, 2M steps."""
    return _paper("conv", "hyperprior")


def conv_charm_m() -> Experiment:
    """Conv-ChARM, size M, 3.5M steps."""
    return _paper("conv", "charm")


def swin_hyperprior_m() -> Experiment:
    """SwinT-Hyperprior, size M, 2M steps."""
    return _paper("swin", "hyperprior")


def swin_charm_m() -> Experiment:
    """SwinT-ChARM, size M, 3.5M steps."""
    return _paper("swin", "charm")


def swin_charm_s() -> Experiment:
    """SwinT-ChARM in size S, for the paper's scaling study."""
    return _paper("swin", "charm", "s")


def swin_charm_l() -> Experiment:
    """SwinT-ChARM in size L, for the paper's scaling study."""
    return _paper("swin", "charm", "l")


def swin_charm_m_ms_ssim() -> Experiment:
    """SwinT-ChARM, size M, trained for MS-SSIM."""
    return _with(_paper("swin", "charm"), "ms-ssim", distortion="ms-ssim", rate=16.0)


def swin_hyperprior_m_tbtc() -> Experiment:
    """SwinT-Hyperprior as the reproduction has it, four heads and norms in front; compare with the paper's variant."""
    experiment = _paper("swin", "hyperprior")
    return _with(experiment, "tbtc", model=medium("swin", "hyperprior", "tbtc"))


def conv_xs_1_cpu() -> Experiment:
    """Model and rate of tbtc.conv-xs-1, trained in one go."""
    return _cpu("conv", 1)


def conv_xs_2_cpu() -> Experiment:
    """Model and rate of tbtc.conv-xs-2, trained in one go."""
    return _cpu("conv", 2)


def conv_xs_3_cpu() -> Experiment:
    """Model and rate of tbtc.conv-xs-3, trained in one go."""
    return _cpu("conv", 3)


def swin_xs_1_cpu() -> Experiment:
    """SwinT-ChARM in the smallest size, low rate."""
    return _cpu("swin", 1)


def swin_xs_2_cpu() -> Experiment:
    """SwinT-ChARM in the smallest size, middle rate."""
    return _cpu("swin", 2)


def swin_xs_3_cpu() -> Experiment:
    """SwinT-ChARM in the smallest size, high rate."""
    return _cpu("swin", 3)


def tiny() -> Experiment:
    """A few steps of a tiny SwinT-ChARM on bundled photographs, then real files: checks the whole way offline."""
    train = TrainSpec(
        module=module,
        config=TbtcTraining(model=tiny_size("swin", "charm"), rate=0.01),
        data=DataSpec(source=samples.photos, name="bundled photographs"),
        validation=DataSpec(source=_tiles, name="tiles"),
        steps=30,
        batch_size=4,
        lr=1e-3,
        crop=64,
        ema=0.9,
        validate_every=15,
    )
    return Experiment(
        name="tbtc-tiny",
        description="A tiny SwinT-ChARM, trained for seconds.",
        codecs=(CodecSpec(codec="jpeg"), _trained("SwinT-ChARM tiny")),
        data=(DataSpec(source=_tiles, name="tiles"),),
        train=train,
        measure=Measure(psnr=True),
    )


def _shipped() -> tuple[CodecSpec, ...]:
    return tuple(
        CodecSpec(codec=f"{name}-{i}", label=f"{series} {i}", series=series)
        for series, name in SERIES.items()
        for i in (1, 2, 3)
        if f"{name}-{i}" in BUILDERS
    )


def _trained(label: str) -> CodecSpec:
    """A codec for weights of any size; the file says which network it is for."""
    return CodecSpec(
        codec="tbtc.conv-xs-2", label=label, series=label, weights=RUN_WEIGHTS, build=partial(build, "tbtc.trained")
    )


def _paper(transform: str, prior: str, size: Literal["s", "m", "l"] = "m") -> Experiment:
    """One point of the paper's curves: CLIC, crops of 256 in batches of 8, Adam 1e-4, a tenth of it at the end."""
    label = f"{TITLES[transform]}-{TITLES[prior]} {size.upper()}"
    model: TbtcConfig = {"s": small, "m": medium, "l": large}[size](transform, prior)
    train = TrainSpec(
        module=module,
        config=TbtcTraining(model=model, rate=lambda_of(BETAS[1]), decay_at=0.9),
        data=DataSpec(source=clic.train, name="CLIC train"),
        validation=DataSpec(source=clic.validation, name="CLIC validation", limit=32),
        steps=3_500_000 if prior == "charm" else 2_000_000,
        batch_size=8,
        lr=1e-4,
        crop=256,
        clip=10.0,
        flip=False,
        validate_every=20_000,
    )
    return Experiment(
        name=f"tbtc-{label.lower().replace(' ', '-')}",
        description=f"{label} trained on CLIC with the paper's recipe.",
        codecs=(*peers.lossy(4), _trained(label)),
        data=(KODAK,),
        references=KODAK_TBTC,
        train=train,
        measure=QUALITY,
    )


def _cpu(transform: str, index: int) -> Experiment:
    """The smallest size on the photographs in about half an hour of one core."""
    prior = "hyperprior" if transform == "conv" else "charm"
    label = f"{TITLES[transform]}-{TITLES[prior]} xs {index}"
    train = TrainSpec(
        module=module,
        config=TbtcTraining(model=extra_small(transform, prior), rate=CPU_RATES[index - 1], linear_start=5.7),
        data=DataSpec(source=photos.train, name="photographs, training split"),
        validation=DataSpec(source=photos.validation, name="photographs, validation split"),
        steps=8000 if transform == "conv" else 5000,
        batch_size=4,
        lr=4e-4,
        schedule="one-cycle",
        crop=128,
        clip=2.0,
        ema=0.998,
        precision="bf16",
        validate_every=2000,
    )
    return Experiment(
        name=f"tbtc-{label.lower().replace(' ', '-')}-cpu",
        description=f"{label} trained on photographs on one core.",
        codecs=(*peers.lossy(4), _trained(label)),
        data=(KODAK,),
        references=KODAK_TBTC,
        train=train,
        measure=QUALITY,
    )


def _with(experiment: Experiment, suffix: str, **changes: object) -> Experiment:
    """The same experiment with other fields of its `TbtcTraining`."""
    train = replace(experiment.train, config=replace(experiment.train.config, **changes))
    label = f"{experiment.codecs[-1].label} {suffix}"
    return replace(
        experiment,
        name=f"{experiment.name}-{suffix}",
        description=experiment.description.replace("trained on", f"({suffix}) trained on"),
        codecs=(*experiment.codecs[:-1], _trained(label)),
        train=train,
    )


def _tiles() -> Sequence[Sample]:
    return samples.small_photos(64)[:6]
