"""Classical codecs alone: the figures that learned ones are compared with.

python tools/run_benchmark.py configs/classical.py:kodak --set data.0.root=/folder/of/kodak
"""

from dataclasses import replace
from functools import partial

from cbench.bench import classical, peers
from cbench.bench.config import CodecSpec, DataSpec, Experiment, Measure
from cbench.data import cifar10, envi_folder, imagenet_small, kodak, samples


def photos() -> Experiment:
    """Lossless codecs on the bundled photographs; works offline."""
    slow = CodecSpec(codec="jpegxl", label="jpegxl effort 9", build=partial(classical.jpegxl, effort=9))
    return Experiment(
        name="classical-photos",
        description="Lossless classical codecs on photographs that come with scikit-image.",
        codecs=(*peers.lossless(), slow),
        data=(DataSpec(source=samples.photos),),
    )


def config() -> Experiment:
    """What runs without a download: the same as `photos`."""
    return photos()


def kodak_lossless() -> Experiment:
    """Lossless codecs on Kodak."""
    return replace(
        photos(),
        name="classical-kodak-lossless",
        description="Lossless classical codecs on the 24 Kodak pictures.",
        data=(DataSpec(source=kodak),),
    )


def kodak_lossy() -> Experiment:
    """Quality sweeps of lossy codecs on Kodak; about half an hour on one core, most of it AVIF."""
    return Experiment(
        name="classical-kodak-lossy",
        description="Rate-distortion curves of classical codecs on the 24 Kodak pictures.",
        codecs=peers.lossy(),
        data=(DataSpec(source=kodak),),
        measure=Measure(psnr=True, ms_ssim=True, warmup=0),
    )


def small_pictures() -> Experiment:
    """Lossless codecs on small pictures, where headers weigh."""
    return Experiment(
        name="classical-small",
        description="Lossless classical codecs on CIFAR-10 and 64 x 64 pictures, one file a picture.",
        codecs=peers.lossless(),
        data=(
            DataSpec(source=cifar10.test, limit=1000, name="cifar10"),
            DataSpec(source=imagenet_small.sheet64_test, limit=200, name="imagenet64"),
        ),
    )


def cubes() -> Experiment:
    """Hyperspectral cubes of 16 bits, lossless and near-lossless; works offline."""
    return Experiment(
        name="classical-cubes",
        description="Picture codecs band by band on a synthetic hyperspectral cube.",
        codecs=peers.cubes(max_errors=(1, 2, 5)),
        data=(DataSpec(source=samples.cube, name="synthetic cube"),),
        measure=Measure(psnr=True),
    )


def real_cubes() -> Experiment:
    """The same on EnMAP and AVIRIS cubes."""
    return replace(
        cubes(),
        name="classical-real-cubes",
        description="Picture codecs band by band on EnMAP and AVIRIS cubes.",
        data=(DataSpec(source=envi_folder.hyperspectral_test, name="hyperspectral"),),
    )
