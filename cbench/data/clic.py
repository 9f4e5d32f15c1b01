"""CLIC 2020: photographs of about 2 megapixels. Folder clic/ with train/, valid/ and test/."""

from __future__ import annotations

from pathlib import Path

from cbench.data.base import LazySamples, data_folder
from cbench.data.folder import part_of

ORIGIN = "the 2020 archives from https://archive.compression.cc/tasks/ as clic/train/, clic/valid/, clic/test/"


def train(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures of clic/train/, professional and mobile together where both are there.

    Raises:
        DataNotFoundError: no such folder, or no picture in it.
    """
    return part_of("clic", data_folder("clic", root, ORIGIN), ("train",), ORIGIN)


def validation(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures of clic/valid/; raises as `train`."""
    return part_of("clic", data_folder("clic", root, ORIGIN), ("valid", "validation", "val"), ORIGIN)


def test(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures of clic/test/; raises as `train`."""
    return part_of("clic", data_folder("clic", root, ORIGIN), ("test",), ORIGIN)
