"""Any folder of pictures."""

from __future__ import annotations

from pathlib import Path

from cbench import files
from cbench.data.base import LazySamples, missing, read_array
from cbench.files import image

ORIGIN = "put pictures there (PNG, PGM, PPM, WebP or JPEG)"


def pictures(root: Path | str = Path("data")) -> LazySamples[Path]:
    """All pictures below a folder, sorted by path, named by their path inside it.

    Raises:
        DataNotFoundError: no such folder, or no picture in it.
    """
    return pictures_of("folder", Path(root), ORIGIN)


def pictures_of(name: str, folder: Path, origin: str) -> LazySamples[Path]:
    """`pictures` of the folder of a named data set."""
    paths = files.find(folder, image.SUFFIXES)
    if not paths:
        raise missing(name, folder, "no picture", origin)
    return LazySamples([path.relative_to(folder).as_posix() for path in paths], paths, read_array)


def part_of(name: str, folder: Path, parts: tuple[str, ...], origin: str) -> LazySamples[Path]:
    """`pictures` of the first of these subfolders that is there, for sets that come in parts."""
    for part in parts:
        if (folder / part).is_dir():
            return pictures_of(name, folder / part, origin)
    raise missing(name, folder, f"no folder {' or '.join(f'{part}/' for part in parts)}", origin)
