"""A first look that needs no download: real photographs, classical codecs, and learned ones.

python tools/run_benchmark.py configs/quickstart.py
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cbench.bench import peers
from cbench.bench.config import CodecSpec, DataSpec, Experiment, Measure
from cbench.codec import Sample
from cbench.data import samples

LEARNED = (CodecSpec(codec="arib_bps.pyramid"), CodecSpec(codec="fsar.ar"), CodecSpec(codec="fsar.cifar10"))
LEARNED_LOSSY = (
    *(CodecSpec(codec=f"tbtc.conv-xs-{k}", series="TBTC Conv-Hyperprior xs") for k in (1, 2, 3)),
    *(CodecSpec(codec=f"basic.photos-{k}", series="BaSIC photos") for k in (1, 3)),
)
SIDE = 256
"""Side of the middle part of each photograph that is coded, in pixels."""


def config() -> Experiment:
    """Lossless and a few lossy codecs on five photographs; a few minutes on two cores."""
    return Experiment(
        name="quickstart",
        description="Classical and learned codecs on real photographs; every file was decoded.",
        codecs=(*LEARNED, *peers.lossless(), *peers.lossy(points=5), *LEARNED_LOSSY),
        data=(DataSpec(source=_middles, name="photos"),),
        measure=Measure(psnr=True, ms_ssim=True),
    )


def lossless() -> Experiment:
    """The lossless codecs alone."""
    base = config()
    codecs = tuple(spec for spec in base.codecs if not spec.series)
    return replace(base, name="quickstart-lossless", codecs=codecs)


class _Middles(Sequence[Sample]):
    """The middle of each photograph, so that everything is over in minutes."""

    def __init__(self, photos: Sequence[Sample]) -> None:
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, i: int) -> Sample:
        photo = self._photos[i]
        top, left = ((n - SIDE) // 2 for n in photo.array.shape[1:])
        return Sample(photo.name, np.ascontiguousarray(photo.array[:, top : top + SIDE, left : left + SIDE]))


def _middles() -> Sequence[Sample]:
    return _Middles(samples.photos())
