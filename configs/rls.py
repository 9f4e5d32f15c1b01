"""The adaptive hyperspectral codec beside the codecs that people use on 16-bit cubes.

python tools/run_benchmark.py configs/rls.py:lossless --set data.0.root=/folder/with/hyperspectral
"""

from dataclasses import replace

from cbench.bench import peers
from cbench.bench.config import CodecSpec, DataSpec, Experiment, Measure
from cbench.data import envi_folder, samples
from cbench.models.ccsds123.codec import ccsds123

NAMES = ("rls.fast", "rls.e5", "rls.slow")
DELTAS = (1, 2, 3, 4, 5, 10, 20, 40)


def _standard(delta: int = 0) -> CodecSpec:
    """CCSDS 123.0-B-2."""
    label = "CCSDS 123" + (f" error {delta}" if delta else "")
    return CodecSpec(codec="ccsds123", label=label, build=ccsds123, max_error=delta, series="CCSDS 123")


def lossless() -> Experiment:
    """All experts on the EnMAP and AVIRIS cubes of the test set; a minute on one core."""
    return Experiment(
        name="rls-lossless",
        description="Lossless coding of hyperspectral cubes: adaptive experts, the standard, picture codecs.",
        codecs=(*(CodecSpec(codec=name) for name in NAMES), _standard(), *peers.cubes()),
        data=(DataSpec(source=envi_folder.hyperspectral_test, name="hyperspectral"),),
    )


def lossless_all() -> Experiment:
    """The same on the other five cubes as well, which include those that the settings were tuned on."""
    return replace(
        lossless(),
        name="rls-lossless-all",
        data=(
            DataSpec(source=envi_folder.hyperspectral_test, name="test"),
            DataSpec(source=envi_folder.hyperspectral_validation, name="validation"),
            DataSpec(source=envi_folder.hyperspectral_train, name="training"),
        ),
    )


def near_lossless() -> Experiment:
    """Bounded errors, each a point of a rate-distortion curve."""
    ours = [
        CodecSpec(codec=name, label=f"{name} error {delta}", max_error=delta, series=name)
        for name in ("rls.fast", "rls.e5")
        for delta in DELTAS
    ]
    near = [
        CodecSpec(codec="jpegls", label=f"jpegls error {delta}", max_error=delta, series="JPEG-LS") for delta in DELTAS
    ]
    return Experiment(
        name="rls-near-lossless",
        description="Near-lossless coding of hyperspectral cubes: adaptive experts, the standard, JPEG-LS.",
        codecs=(*ours, *(_standard(delta) for delta in DELTAS), *near),
        data=(DataSpec(source=envi_folder.hyperspectral_test, name="hyperspectral"),),
        measure=Measure(psnr=True),
    )


def config() -> Experiment:
    """What runs without a download: lossless and near-lossless on a synthetic cube."""
    ours = [CodecSpec(codec=name) for name in NAMES]
    near = [CodecSpec(codec="rls.fast", label=f"rls.fast error {delta}", max_error=delta) for delta in (1, 2, 5)]
    return Experiment(
        name="rls-offline",
        description="Adaptive experts and picture codecs on a synthetic hyperspectral cube.",
        codecs=(*ours, *near, *(_standard(delta) for delta in (0, 1, 2, 5)), *peers.cubes(max_errors=(1, 2, 5))),
        data=(DataSpec(source=samples.cube, name="synthetic cube"),),
        measure=Measure(psnr=True),
    )
