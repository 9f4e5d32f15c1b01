"""Data sets: each is a function that returns a `Sequence[Sample]` and reads a sample when it is asked for.

    from cbench.data import cifar10, kodak, samples
    samples.photos()            # works offline
    kodak()                     # ./data/kodak, or $CBENCH_DATA/kodak
    cifar10.train("~/sets/cifar10")

`loaders` (training batches) needs torch and is imported by name only.
"""

from cbench.data import (
    cifar10,
    clic,
    envi_folder,
    folder,
    hyspecnet,
    imagenet_small,
    openimages,
    photos,
    samples,
)
from cbench.data.base import LazySamples, StackedSamples, data_folder
from cbench.data.kodak import kodak

__all__ = [
    "LazySamples",
    "StackedSamples",
    "cifar10",
    "clic",
    "data_folder",
    "envi_folder",
    "folder",
    "hyspecnet",
    "imagenet_small",
    "kodak",
    "openimages",
    "photos",
    "samples",
]
