"""Kodak PhotoCD PCD0992: 24 photographs, RGB of 8 bits, 768 x 512 or 512 x 768. Never train on it."""

from __future__ import annotations

from pathlib import Path

from cbench.data.base import LazySamples, data_folder, missing, read_array

COUNT = 24
ORIGIN = "kodim01.png ... kodim24.png from https://r0k.us/graphics/kodak/"


def kodak(root: Path | str | None = None) -> LazySamples[Path]:
    """`kodim01` ... `kodim24` from the folder kodak/.

    Raises:
        DataNotFoundError: the folder or one of the 24 files is not there.
    """
    folder = data_folder("kodak", root, ORIGIN)
    paths = [folder / f"kodim{number:02d}.png" for number in range(1, COUNT + 1)]
    there = sum(path.is_file() for path in paths)
    if there < COUNT:
        # A mean over some of them would be compared with published means over all.
        raise missing("kodak", folder, f"{there} of the {COUNT} pictures", ORIGIN)
    return LazySamples([path.stem for path in paths], paths, read_array)
