"""Natural photographs with a long side of 512, RGB of 8 bits, reduced from large camera pictures.

The folder photos/ holds the pictures and `photos.csv` with the columns `file` and `split` (train or val).
"""

from __future__ import annotations

import csv
from pathlib import Path

from cbench.data.base import LazySamples, data_folder, missing, read_array
from cbench.files.base import reading

ORIGIN = "a folder of pictures and a photos.csv with the columns file and split, see data/README.md"


def train(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures that `photos.csv` marks train.

    Raises:
        DataNotFoundError: no folder photos/, or nothing of that kind in it.
    """
    return _part("train", root)


def validation(root: Path | str | None = None) -> LazySamples[Path]:
    """The pictures that `photos.csv` marks val; raises as `train`."""
    return _part("val", root)


def _part(split: str, root: Path | str | None) -> LazySamples[Path]:
    folder = data_folder("photos", root, ORIGIN)
    table = folder / "photos.csv"
    if not table.is_file():
        raise missing("photos", folder, "no photos.csv", ORIGIN)
    with reading(table), table.open(newline="", encoding="utf-8") as stream:
        paths = [folder / row["file"] for row in csv.DictReader(stream) if row["split"] == split]
    if not paths:
        raise missing("photos", folder, f"no picture marked {split}", ORIGIN)
    return LazySamples([path.stem for path in paths], paths, read_array)
