"""Any folder of ENVI cubes, and the small set of EnMAP and AVIRIS cubes with its fixed roles."""

from __future__ import annotations

from pathlib import Path

from cbench import files
from cbench.data.base import LazySamples, data_folder, missing, read_array

ORIGIN = "ENVI cubes (NAME.raw with NAME.hdr), see data/README.md"
TRAIN = ("enmap_potsdam_a", "abu_airport_2", "abu_beach_1", "abu_beach_3")
VALIDATION = ("abu_urban_5",)
TEST = ("enmap_potsdam_c", "abu_airport_4")


def cubes(root: Path | str = Path("data")) -> LazySamples[Path]:
    """All ENVI cubes below a folder, memory-mapped as (C, H, W), sorted and named by path without suffix.

    Raises:
        DataNotFoundError: no such folder, or no header in it.
    """
    folder = Path(root)
    paths = files.find(folder, (".hdr",))
    if not paths:
        raise missing("cubes", folder, "no ENVI header (.hdr)", ORIGIN)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    return LazySamples(names, paths, read_array)


def hyperspectral_train(root: Path | str | None = None) -> LazySamples[Path]:
    """One EnMAP and three AVIRIS cubes, uint16.

    Raises:
        DataNotFoundError: no folder hyperspectral/, or one of the cubes is not in it.
    """
    return _cubes(TRAIN, root)


def hyperspectral_validation(root: Path | str | None = None) -> LazySamples[Path]:
    """One AVIRIS cube, for choosing models; raises as `hyperspectral_train`."""
    return _cubes(VALIDATION, root)


def hyperspectral_test(root: Path | str | None = None) -> LazySamples[Path]:
    """One EnMAP and one AVIRIS cube: never train or tune on them; raises as `hyperspectral_train`."""
    return _cubes(TEST, root)


def _cubes(names: tuple[str, ...], root: Path | str | None) -> LazySamples[Path]:
    folder = data_folder("hyperspectral", root, ORIGIN)
    paths = [folder / f"{name}.hdr" for name in names]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise missing("hyperspectral", folder, f"no {absent[0]}", ORIGIN)
    return LazySamples(names, paths, read_array)
