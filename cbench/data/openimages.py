"""Open Images: web photographs that several lossless papers train on. Folder openimages/, any subset."""

from __future__ import annotations

from pathlib import Path

from cbench.data.base import LazySamples, data_folder
from cbench.data.folder import part_of

ORIGIN = (
    "pictures from https://storage.googleapis.com/openimages/web/download_v7.html in openimages/train/ and "
    "openimages/validation/, reduced as the paper at hand says"
)


def train(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures of openimages/train/.

    Raises:
        DataNotFoundError: no such folder, or no picture in it.
    """
    return part_of("openimages", data_folder("openimages", root, ORIGIN), ("train", "clean_train"), ORIGIN)


def validation(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures of openimages/validation/; raises as `train`."""
    folder = data_folder("openimages", root, ORIGIN)
    return part_of("openimages", folder, ("validation", "valid", "val", "clean_val"), ORIGIN)
