"""LineRWKV (TGRS 2024): sizes and error bounds beside the standard and picture codecs, other sensors, speed, training.

The published weights are expected as data/weights/linerwkv/{xs,s,m,l}.pth; see cbench/models/linerwkv/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cbench.bench import peers
from cbench.bench.config import RUN_WEIGHTS, CodecSpec, DataSpec, Experiment, Measure, TrainSpec
from cbench.codec import Sample
from cbench.data import envi_folder, hyspecnet, samples
from cbench.models.ccsds123.codec import best, ccsds123, hybrid
from cbench.models.linerwkv import LineRwkvTraining, build, build_integers, build_pipeline, module
from cbench.models.linerwkv.config import SIZES, l, m, s, tiny, xs

WEIGHTS = Path("data/weights/linerwkv")
PAPER_BOUNDS = (0, 1, 2, 3, 4, 5, 10, 20, 40)
TEST = DataSpec(source=envi_folder.hyperspectral_test, name="EnMAP and AVIRIS test cubes")
HYSPECNET_TEST = DataSpec(source=hyspecnet.test, name="HySpecNet-11k hard test")
RECIPES = {
    "xs": (xs, 3, 128, 5e-4, 1e-6, 8000),
    "s": (s, 4, 64, 5e-4, 1e-6, 8000),
    "m": (m, 8, 32, 1e-4, 5e-6, 7000),
    "l": (l, 3, 16, 5e-4, 1e-6, 7000),
}
"""Published runs: size, batch, pos_size, first and last learning rate, epochs."""
HYSPECNET_PATCHES = 8040


def _network(size: str, max_error: int | None = None, weights: str | None = None) -> CodecSpec:
    """LineRWKV of one size with the published weights, or others."""
    label = f"LineRWKV-{size.upper()}" + (f" error {max_error}" if max_error else "")
    return CodecSpec(
        codec=f"linerwkv.{size}",
        label=label,
        build=partial(build, size),
        weights=weights or str(WEIGHTS / f"{size}.pth"),
        max_error=max_error,
        series=f"LineRWKV-{size.upper()}",
    )


def _integers(size: str) -> CodecSpec:
    """LineRWKV of one size with 8-bit weights."""
    spec = _network(size)
    series = f"{spec.series} int8"
    return replace(spec, codec=f"{spec.codec}-int8", label=series, build=partial(build_integers, size), series=series)


def _pipeline(size: str, max_error: int | None = None, weights: str | None = None) -> CodecSpec:
    """The paper's pipeline: the network's rounded predictions and the standard's Golomb coder."""
    spec = _network(size, max_error, weights)
    return replace(
        spec,
        codec=f"{spec.codec}-ccsds",
        label=f"{spec.label} pipeline",
        build=partial(build_pipeline, size),
        series=f"{spec.series} pipeline",
    )


_KINDS = (_network, _pipeline)


def _shipped(kind: Callable[..., CodecSpec], max_error: int) -> CodecSpec:
    """`_network` or `_pipeline` of XS with the weights that come with the package."""
    return replace(kind("xs", max_error), weights=None)


def _adaptive(max_error: int | None = None) -> CodecSpec:
    """The same experts without a network: what is left is what the network adds."""
    label = "rls.e5" + (f" error {max_error}" if max_error else "")
    return CodecSpec(codec="rls.e5", label=label, max_error=max_error, series="rls.e5")


_STANDARD = {
    "CCSDS 123": ("ccsds123.best", best),
    "CCSDS 123 sample-adaptive": ("ccsds123", ccsds123),
    "CCSDS 123 hybrid": ("ccsds123.hybrid", hybrid),
}
"""CCSDS 123.0-B-2: the smallest of its variants, and two of these."""


def _standard(max_error: int | None = None, name: str = "CCSDS 123") -> CodecSpec:
    """The standard, in one of the variants."""
    codec, build = _STANDARD[name]
    label = name + (f" error {max_error}" if max_error else "")
    return CodecSpec(codec=codec, label=label, build=build, max_error=max_error, series=name)


def config() -> Experiment:
    """The shipped weights beside the experts alone and the standard: rates by bound and by band, error maps.

    Three minutes on one core; the cubes must be in data/hyperspectral.
    """
    return Experiment(
        name="linerwkv-shipped",
        description="Shipped LineRWKV weights (XS), the same experts without them, and the standard.",
        codecs=tuple(
            kind(bound)
            for bound in (0, 1, 5, 20)
            for kind in (partial(_shipped, _network), partial(_shipped, _pipeline), _adaptive, _standard)
        ),
        data=(TEST,),
        measure=Measure(psnr=True, band_rates=True),
    )


def sizes() -> Experiment:
    """XS, S, M and L, lossless, beside the standard and picture codecs with and without band differences."""
    return Experiment(
        name="linerwkv-sizes",
        description="Published LineRWKV weights of all sizes, lossless, on cubes of two sensors.",
        codecs=(
            *(_network(size) for size in SIZES),
            *(_pipeline(size) for size in SIZES),
            _adaptive(),
            _standard(),
            *peers.cubes(),
        ),
        data=(TEST,),
    )


def bounds() -> Experiment:
    """Near-lossless coding under the paper's nine bounds, every size beside the standard."""
    networks = tuple(_network(size, bound) for size in SIZES for bound in PAPER_BOUNDS)
    pipelines = tuple(_pipeline(size, bound) for size in SIZES for bound in PAPER_BOUNDS)
    standards = tuple(peer(bound) for peer in (_adaptive, _standard) for bound in PAPER_BOUNDS)
    return Experiment(
        name="linerwkv-bounds",
        description="Rates under the paper's bounds of the absolute error.",
        codecs=(*networks, *pipelines, *standards),
        data=(TEST,),
        measure=Measure(psnr=True, band_rates=True),
    )


def standard() -> Experiment:
    """The standard alone: its coders, lossless and with errors, on all seven cubes; a minute on one core."""
    return Experiment(
        name="ccsds123",
        description="CCSDS 123.0-B-2 with its two adaptive coders and the best of both.",
        codecs=tuple(_standard(bound, kind) for bound in (0, 1, 5, 20) for kind in _STANDARD),
        data=(
            TEST,
            DataSpec(source=envi_folder.hyperspectral_validation, name="validation cube"),
            DataSpec(source=envi_folder.hyperspectral_train, name="training cubes"),
        ),
    )


def hyspecnet_bounds() -> Experiment:
    """The paper's own table: `bounds` on the HySpecNet-11k hard test split."""
    return replace(bounds(), name="linerwkv-hyspecnet", data=(HYSPECNET_TEST,))


def transfer() -> Experiment:
    """Weights trained on EnMAP, used without retraining on AVIRIS radiance."""
    return Experiment(
        name="linerwkv-transfer",
        description="Published weights (EnMAP) on AVIRIS cubes, lossless and with error 5.",
        codecs=tuple(
            spec
            for bound in (0, 5)
            for spec in (
                *(kind(size, bound) for kind in (_network, _pipeline) for size in ("xs", "s")),
                _adaptive(bound),
                _standard(bound),
            )
        ),
        data=(DataSpec(source=envi_folder.hyperspectral_validation, name="AVIRIS urban"), TEST),
    )


def throughput() -> Experiment:
    """Time and memory of both directions on a 100 x 64 x 64 cube, one thread."""
    return Experiment(
        name="linerwkv-throughput",
        description="Speed of the line engine on a 64 x 64 cube of 100 bands.",
        codecs=(
            *(kind(size) for kind in (_network, _integers, _pipeline) for size in SIZES),
            _adaptive(),
            _standard(),
        ),
        data=(DataSpec(source=speed_cube, name="synthetic 64 x 64 x 100"),),
        measure=Measure(repeats=3),
    )


def speed_cube() -> Sequence[Sample]:
    """The cube of `throughput`."""
    return [Sample("synthetic", samples.make_cube(bands=100, lines=64, columns=64))]


def _train(size: str) -> Experiment:
    shape, batch, positions, first, last, epochs = RECIPES[size]
    return Experiment(
        name=f"linerwkv-train-{size}",
        description=f"LineRWKV-{size.upper()} trained on HySpecNet-11k with the published recipe.",
        codecs=(_network(size, weights=RUN_WEIGHTS), _pipeline(size, weights=RUN_WEIGHTS), _adaptive(), _standard()),
        data=(HYSPECNET_TEST,),
        train=TrainSpec(
            module=module,
            config=LineRwkvTraining(model=shape(), positions=positions, final_lr=last / first),
            data=DataSpec(source=hyspecnet.train, name="HySpecNet-11k hard train"),
            validation=DataSpec(source=hyspecnet.validation, name="HySpecNet-11k hard validation", limit=4),
            steps=epochs * HYSPECNET_PATCHES // batch,
            batch_size=batch,
            lr=first,
            clip=None,
            flip=False,
            validate_every=20_000,
        ),
    )


def train_xs() -> Experiment:
    """The published recipe of XS on HySpecNet-11k: 8000 epochs of batches of 3."""
    return _train("xs")


def train_s() -> Experiment:
    """The published recipe of S on HySpecNet-11k: 8000 epochs of batches of 4."""
    return _train("s")


def train_m() -> Experiment:
    """The published recipe of M on HySpecNet-11k: 7000 epochs of batches of 8."""
    return _train("m")


def train_l() -> Experiment:
    """The published recipe of L on HySpecNet-11k: 7000 epochs of batches of 3."""
    return _train("l")


def _train_cubes(size: str) -> Experiment:
    shape = RECIPES[size][0]
    return Experiment(
        name=f"linerwkv-cubes-{size}",
        description=f"LineRWKV-{size.upper()} trained from scratch on four cubes, one EnMAP and three AVIRIS.",
        codecs=(
            _network(size, weights=RUN_WEIGHTS),
            _pipeline(size, weights=RUN_WEIGHTS),
            replace(_network(size), label="published weights"),
            replace(_pipeline(size), label="published weights, pipeline"),
            _adaptive(),
            _standard(),
        ),
        data=(TEST,),
        train=TrainSpec(
            module=module,
            config=LineRwkvTraining(model=shape(), positions=16, bands=32, final_lr=0.002, codec_loss=True),
            data=DataSpec(source=envi_folder.hyperspectral_train, name="training cubes"),
            validation=DataSpec(source=envi_folder.hyperspectral_validation, name="AVIRIS urban"),
            steps=4000,
            batch_size=1,
            lr=1.5e-3,
            crop=64,
            ema=0.99,
            validate_every=500,
        ),
    )


def train_cubes_xs() -> Experiment:
    """XS with our recipe on the few training cubes: the codec's normalisation, random bounds, a loss near the rate."""
    return _train_cubes("xs")


def train_cubes_s() -> Experiment:
    """S with the recipe of `train_cubes_xs`."""
    return _train_cubes("s")


def fine_tune() -> Experiment:
    """`train_cubes_xs` from the published weights instead of from scratch."""
    base = train_cubes_xs()
    spec = replace(base.train, init=WEIGHTS / "xs.pth", steps=4000, lr=1e-4)
    return replace(base, name="linerwkv-fine-tune-xs", train=spec)


SCENE, TRAINED_LINES = "abu_beach_1", 64


def scene_above(root: Path | str | None = None) -> Sequence[Sample]:
    """The lines of one scene that `fine_tune_scene` trains on."""
    return _scene(slice(0, TRAINED_LINES), root)


def scene_below(root: Path | str | None = None) -> Sequence[Sample]:
    """The lines of that scene that follow."""
    return _scene(slice(TRAINED_LINES, None), root)


def _scene(lines: slice, root: Path | str | None) -> Sequence[Sample]:
    (scene,) = (sample for sample in envi_folder.hyperspectral_train(root) if sample.name == SCENE)
    return [Sample(f"{SCENE}, lines {lines.start}-{lines.stop or 'end'}", scene.array[:, lines])]


def fine_tune_scene() -> Experiment:
    """The published XS on with the upper 64 lines of one scene, under the codec's normalisation; the rest is coded.

    Another start: `--set train.init=FILE`, such as the weights that come with the package.
    """
    tuned = [replace(kind("xs", weights=RUN_WEIGHTS), label=f"{kind('xs').label}, tuned") for kind in _KINDS]
    above = DataSpec(source=scene_above, name="upper lines")
    return Experiment(
        name="linerwkv-fine-tune-scene",
        description="Published LineRWKV-XS before and after 300 steps on the upper lines of the scene that is coded.",
        codecs=(*(kind("xs") for kind in _KINDS), *tuned, _adaptive(), _standard()),
        data=(DataSpec(source=scene_below, name="lower lines"),),
        train=TrainSpec(
            module=module,
            config=LineRwkvTraining(model=xs(), positions=16, bands=32, final_lr=0.02, codec_loss=True),
            data=above,
            validation=above,
            steps=300,
            batch_size=1,
            lr=5e-4,
            crop=64,
            ema=0.97,
            validate_every=300,
            init=WEIGHTS / "xs.pth",
        ),
    )


def tiny_synthetic() -> Experiment:
    """A network of 16 channels trained on one synthetic cube: checks the whole way in a minute, offline."""
    cube = DataSpec(source=samples.cube, name="synthetic cube")
    return Experiment(
        name="linerwkv-tiny",
        description="A tiny LineRWKV on the synthetic cube it was trained on: a check, not a result.",
        codecs=(CodecSpec(codec="linerwkv.tiny", build=partial(build, "tiny"), weights=RUN_WEIGHTS), _standard()),
        data=(cube,),
        train=TrainSpec(
            module=module,
            config=LineRwkvTraining(model=tiny(), positions=32, codec_loss=True),
            data=cube,
            validation=cube,
            steps=120,
            batch_size=1,
            lr=5e-3,
            validate_every=60,
        ),
    )
