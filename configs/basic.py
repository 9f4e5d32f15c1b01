"""BaSIC (ECCV 2024): the paper's models and order experiments, ours for one core, and both beside classical codecs.

One function trains one rate: `--set train.config.rd_lambda=39.015` picks another of `LAMBDAS`. The paper trains 2000
epochs of 8000 pictures in batches of 32. Order experiments come in two steps: `hyperprior_ar_base` first, then any
`hyperprior_ar_..._ft` with `--set train.init=RUN/weights.safetensors`. All of them end with the search for the
structures worth using, on validation photographs; the paper's "greedy-search-8level" is its level 0 to 7.

    python tools/run_benchmark.py configs/basic.py                  # shipped weights on Kodak, at four complexities
    python tools/run_benchmark.py configs/basic.py:photos_tiny      # train, code, report: a minute, offline
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cbench.bench import peers
from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment, Measure, TrainSpec
from cbench.codec import Sample
from cbench.data import kodak, samples
from cbench.data import photos as photo_data
from cbench.data.folder import pictures
from cbench.models.basic import BasicTraining, at_level, module
from cbench.models.basic import config as models
from cbench.models.basic.config import LAMBDAS, PUBLISHED, BasicConfig, CoderConfig, ordered

KODAK = DataSpec(source=kodak, name="Kodak")
IMAGENET_8000 = DataSpec(source=pictures, root=Path("data/imagenet-8000"), name="ImageNet, 8000 large pictures")
"""What `tools/prepare_dataset.py` makes."""
VALIDATION = DataSpec(source=photo_data.validation, name="photographs, validation")
LEVELS = (0, 2, 4, 7)
QUALITY = Measure(psnr=True, ms_ssim=True)


def config() -> Experiment:
    """The shipped weights on Kodak at four levels of complexity, beside classical codecs; no training."""
    ours = [
        CodecSpec(
            codec=name,
            label=f"BaSIC level {level}, {name}",
            build=partial(at_level, name=name, level=level),
            series=f"BaSIC level {level}",
        )
        for level in LEVELS
        for name in ("basic.photos-1", "basic.photos-3")
    ]
    return Experiment(
        name="basic-shipped",
        description="The shipped weights on Kodak at four levels of complexity.",
        codecs=(*ours, *peers.lossy(3)),
        data=(KODAK,),
        measure=QUALITY,
    )


def hyperprior_ar_sc_slimmable_full_dynamic() -> Experiment:
    """BaSIC with fixed raster order: the main model."""
    return _paper("hyperprior-ar-sc-slimmable-full-dynamic", models.joint())


def hyperprior_ar_sc_slimmable_full_dynamic_ft_ssim() -> Experiment:
    """The main model, fine-tuned for MS-SSIM: 500 epochs at 1e-5 from `--set train.init=...`."""
    return _tuned(hyperprior_ar_sc_slimmable_full_dynamic())


def hyperprior_ar_sc_slimmable_full_dynamic_combined() -> Experiment:
    """BaSIC with five coders of y, four of them with learned orders."""
    training = BasicTraining(model=models.combined(), random_orders=5_000_000)
    return _paper("hyperprior-ar-sc-slimmable-full-dynamic-combined", models.combined(), training)


def cheng2020_noattn_mn128_sc_slimmable_full_dynamic() -> Experiment:
    """Backbone of Cheng et al. without attention."""
    return _paper("cheng2020-noattn-mn128-sc-slimmable-full-dynamic", models.cheng())


def cheng2020_noattn_mn128_sc_slimmable_full_dynamic_ft_ssim() -> Experiment:
    """The same, fine-tuned for MS-SSIM."""
    return _tuned(cheng2020_noattn_mn128_sc_slimmable_full_dynamic())


def elic_noattn_mn192_sc_slimmable_full_dynamic() -> Experiment:
    """Backbone of ELIC without attention."""
    return _paper("elic-noattn-mn192-sc-slimmable-full-dynamic", models.elic())


def elic_noattn_mn192_sc_slimmable_full_dynamic_ft_ssim() -> Experiment:
    """The same, fine-tuned for MS-SSIM."""
    return _tuned(elic_noattn_mn192_sc_slimmable_full_dynamic())


def hyperprior_ar_sc_slimmable_usdecoder_dynamic() -> Experiment:
    """Comparison: only the decoder is slimmable, trained with distillation and the sandwich rule."""
    training = BasicTraining(model=models.universal_decoder(), distill=True)
    return _paper("hyperprior-ar-sc-slimmable-usdecoder-dynamic", training.model, training)


def hyperprior_ar_sc_slimmable_usdecoder_dynamic_ft_ssim() -> Experiment:
    """The same, fine-tuned for MS-SSIM."""
    return _tuned(hyperprior_ar_sc_slimmable_usdecoder_dynamic())


def hyperprior_scalable_slimmable_full() -> Experiment:
    """Comparison: whole sub-codecs of different widths, as in SlimCAE."""
    return _paper("hyperprior-scalable-slimmable-full", models.slim_cae())


def hyperprior_sc_slimmable_full_dynamic() -> Experiment:
    """BaSIC's edges on the scale hyperprior."""
    return _paper("hyperprior-sc-slimmable-full-dynamic", models.hyperprior())


def hyperprior_sc_usdecoder_dynamic() -> Experiment:
    """The scale hyperprior with a universally slimmable decoder."""
    training = BasicTraining(model=models.universal_hyperprior(), distill=True)
    return _paper("hyperprior-sc-usdecoder-dynamic", training.model, training)


def hyperprior_sc_static_backbone() -> Experiment:
    """Comparison: the scale hyperprior at one width."""
    return _paper("hyperprior-sc-static-backbone", models.static_hyperprior())


def hyperprior_sc_groupconv_full() -> Experiment:
    """Comparison: the scale hyperprior with transforms of four groups of channels, of which one to four run."""
    return _paper("hyperprior-sc-groupconv-full", models.group_hyperprior())


def hyperprior_ar_base() -> Experiment:
    """Base of the order experiments: one width, no order; 1000 epochs in batches of 8."""
    experiment = _paper("hyperprior-ar-base", models.topo_group_base())
    return replace(experiment, train=replace(experiment.train, steps=1_000_000, batch_size=8))


def _order(coder: CoderConfig, random_orders: int = 0, random_share: float = 0.0) -> Callable[[], Experiment]:
    """An order experiment: only the coder of y learns, from the weights of `hyperprior_ar_base`."""

    def experiment() -> Experiment:
        recipe = BasicTraining(
            model=models.topo_group(coder),
            frozen=(*models.EDGES, "z"),
            random_orders=random_orders,
            random_order_share=random_share,
        )
        name = f"{coder.order}-g{coder.groups}" + (f"-s{coder.stages}" if coder.stages else "")
        name += f"-k{coder.kernel}" * (coder.kernel != 5) + f"-{coder.logits}" * (coder.logits != "generator")
        made = _paper(f"hyperprior-ar-{name}{'-randprob' if random_share else ''}-ft", recipe.model, recipe)
        return replace(made, train=replace(made.train, steps=1_000_000, batch_size=8))

    experiment.__doc__ = f"Order {coder.order!r}, {coder.groups} channel groups, tuned on the frozen base."
    return experiment


def _learned(groups: int, stages: int) -> Callable[[], Experiment]:
    """An order that is learned after a million items with random ones."""
    return _order(ordered("learned", groups, stages), random_orders=1_000_000)


def _continuous(groups: int) -> Callable[[], Experiment]:
    """Two stages whose labels are continuous while they are learned."""
    return _order(replace(ordered("learned", groups, 2), logits="continuous"))


def _kernel(size: int) -> Callable[[], Experiment]:
    """Two learned stages with another window."""
    return _order(replace(ordered("learned", 2, 2), kernel=size), random_orders=4_000_000)


hyperprior_ar_learned_randprob_g2_s2_ft = _order(ordered("learned", 2, 2), random_share=0.999)
hyperprior_ar_channelwise_g2_ft = _order(ordered("channelwise", 2))
hyperprior_ar_checkerboard_ft = _order(ordered("checkerboard"))
hyperprior_ar_interlace_checkerboard_g2_ft = _order(ordered("interlace-checkerboard", 2))
hyperprior_ar_channelwise_g4_ft = _order(ordered("channelwise", 4))
hyperprior_ar_channelwise_checkerboard_g2_ft = _order(ordered("channelwise-checkerboard", 2))
hyperprior_ar_raster2x2_ft = _order(ordered("raster2x2"))
hyperprior_ar_channelwise_g8_ft = _order(ordered("channelwise", 8))
hyperprior_ar_channelwise_g10_ft = _order(ordered("channelwise-g10", 12))
hyperprior_ar_elic_ft = _order(ordered("elic", 12))
hyperprior_ar_scanline_ft = _order(ordered("scanline"))
hyperprior_ar_channelg2_random = _order(ordered("random", 2))
hyperprior_ar_channelg4_random = _order(ordered("random", 4))
hyperprior_ar_channelg12_random = _order(ordered("random", 12))
hyperprior_ar_learned_g1_s2_ft = _learned(1, 2)
hyperprior_ar_learned_g2_s2_ft = _learned(2, 2)
hyperprior_ar_learned_g4_s2_ft = _learned(4, 2)
hyperprior_ar_learned_g6_s2_ft = _learned(6, 2)
hyperprior_ar_cont_learned_g2_s2_ft = _continuous(2)
hyperprior_ar_cont_learned_g4_s2_ft = _continuous(4)
hyperprior_ar_cont_learned_g6_s2_ft = _continuous(6)
hyperprior_ar_learned_g1_s4_ft = _learned(1, 4)
hyperprior_ar_learned_g2_s4_ft = _learned(2, 4)
hyperprior_ar_learned_g4_s4_ft = _learned(4, 4)
hyperprior_ar_learned_g6_s4_ft = _learned(6, 4)
hyperprior_ar_learned_g8_s4_ft = _learned(8, 4)
hyperprior_ar_learned_g2_s8_ft = _learned(2, 8)
hyperprior_ar_learned_g4_s8_ft = _learned(4, 8)
hyperprior_ar_learned_g8_s8_ft = _learned(8, 8)
hyperprior_ar_learned_g12_s8_ft = _learned(12, 8)
hyperprior_ar_learned_g4_s10_ft = _learned(4, 10)
hyperprior_ar_learned_g6_s10_ft = _learned(6, 10)
hyperprior_ar_learned_g8_s10_ft = _learned(8, 10)
hyperprior_ar_learned_g12_s10_ft = _learned(12, 10)
hyperprior_ar_learned_k3_g2_s2_ft = _kernel(3)
hyperprior_ar_learned_k7_g2_s2_ft = _kernel(7)


def photos() -> Experiment:
    """Four widths and two orders on one core, about an hour."""
    train = TrainSpec(
        module=module,
        config=BasicTraining(
            model=models.photos(),
            rd_lambda=LAMBDAS[2],
            sampling="sandwich",
            start="linear",
            search=photo_data.validation,
        ),
        data=DataSpec(source=photo_data.train, name="photographs"),
        validation=VALIDATION,
        steps=20_000,
        batch_size=8,
        lr=8e-4,
        schedule="one-cycle",
        crop=128,
        ema=0.999,
        validate_every=1000,
    )
    return Experiment(
        name="basic-photos",
        description="BaSIC with four widths and two orders, trained on photographs on one core.",
        codecs=_codecs("BaSIC photos", "basic.photos-3"),
        data=(KODAK,),
        train=train,
        measure=QUALITY,
    )


def photos_narrow() -> Experiment:
    """The narrowest width alone with the same budget: what slimming costs."""
    experiment = photos()
    model = replace(models.photos(), widths=models.photos().widths[:1])
    recipe = replace(experiment.train.config, model=model)
    codecs = (CodecSpec(codec="basic.photos-3", label="BaSIC photos, narrowest alone", weights=RUN_WEIGHTS),)
    return replace(
        experiment, name="basic-photos-narrow", codecs=codecs, train=replace(experiment.train, config=recipe)
    )


def photos_tiny() -> Experiment:
    """A tiny network on tiles of bundled photographs: checks the whole way in a minute, offline."""
    experiment = photos()
    train = replace(
        experiment.train,
        config=replace(experiment.train.config, model=models.tiny(), search=_validation_tiles, search_limit=4),
        data=DataSpec(source=_tiles, name="tiles of bundled photographs", limit=100),
        validation=DataSpec(source=_validation_tiles, name="other tiles"),
        steps=60,
        crop=64,
        ema=0.9,
        validate_every=30,
    )
    return replace(
        experiment,
        name="basic-photos-tiny",
        description="A tiny BaSIC, trained for seconds.",
        codecs=_codecs("BaSIC tiny", "basic.photos-3"),
        data=(DataSpec(source=_validation_tiles, name="other tiles", limit=4),),
        train=train,
        measure=Measure(psnr=True),
    )


def _paper(name: str, model: BasicConfig, training: BasicTraining | None = None) -> Experiment:
    """A model with the paper's recipe: Adam 1e-4, 2000 epochs of 8000 pictures in batches of 32, crops of 256."""
    train = TrainSpec(
        module=module,
        config=replace(training or BasicTraining(model=model), search=photo_data.validation, augment=PUBLISHED),
        data=IMAGENET_8000,
        validation=VALIDATION,
        steps=500_000,
        batch_size=32,
        lr=1e-4,
        crop=256,
        validate_every=2500,
    )
    return Experiment(
        name=f"basic-{name}",
        description=f"{name} with the paper's recipe.",
        codecs=_codecs(name, "basic.photos-3") if len(model.widths) > 1 else (_run_codec(name),),
        data=(KODAK,),
        train=train,
        measure=QUALITY,
    )


def _tuned(experiment: Experiment) -> Experiment:
    """Fine-tuning for MS-SSIM."""
    recipe = replace(experiment.train.config, distortion="ms-ssim")
    train = replace(experiment.train, config=recipe, steps=125_000, lr=1e-5, validate_every=1250)
    return replace(experiment, name=f"{experiment.name}-ft-ssim", train=train)


def _run_codec(label: str) -> CodecSpec:
    return CodecSpec(codec="basic.photos-3", label=label, weights=RUN_WEIGHTS)


def _codecs(label: str, name: str) -> tuple[CodecSpec, ...]:
    """What was trained, at four levels."""
    return tuple(
        CodecSpec(
            codec=name,
            label=f"{label}, level {level}",
            weights=RUN_WEIGHTS,
            build=partial(at_level, name=name, level=level),
            series=f"{label}, level {level}",
        )
        for level in LEVELS
    )


def _tiles() -> Sequence[Sample]:
    return samples.small_photos(64)


def _validation_tiles() -> Sequence[Sample]:
    """Those behind the 100 that are trained on."""
    return samples.small_photos(64)[100:116]
