"""What the data sets share: finding their folder, and sequences that read only what is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np

from cbench import files
from cbench.codec import Sample
from cbench.errors import DataNotFoundError, UnsupportedInputError

VARIABLE = "CBENCH_DATA"
"""Environment variable naming the folder that holds one folder per data set."""

Key = TypeVar("Key")
PartKey = TypeVar("PartKey", bound=Hashable)


def data_folder(name: str, root: Path | str | None, origin: str) -> Path:
    """The folder of a data set.

    Args:
        name: Of the data set and of its usual folder.
        root: That folder, or the one that holds it. None: `$CBENCH_DATA/name`, else `./data/name`.
        origin: Where to get the data; ends the error's sentence.

    Raises:
        DataNotFoundError: it is not there.
    """
    if root is not None:
        given = Path(root).expanduser()
        folder = given / name if (given / name).is_dir() else given
    else:
        folder = Path(os.environ.get(VARIABLE) or "data").expanduser() / name
    if not folder.is_dir():
        raise DataNotFoundError(
            f"data set {name}: there is no folder {folder}; pass root=, or set {VARIABLE} to the folder that "
            f"holds {name}/ (default ./data); to get it: {origin}"
        )
    return folder


def missing(name: str, folder: Path, what: str, origin: str) -> DataNotFoundError:
    """The error for a data set whose folder is there and does not hold what it should."""
    return DataNotFoundError(
        f"data set {name}: {folder} holds {what}; pass root= or set {VARIABLE}; to get it: {origin}"
    )


class LazySamples(Sequence[Sample], Generic[Key]):
    """Samples that are loaded one by one, each time they are asked for; slices load nothing."""

    def __init__(self, names: Sequence[str], keys: Sequence[Key], load: Callable[[Key], np.ndarray]) -> None:
        self.names = tuple(names)
        self._keys = tuple(keys)
        self._load = load

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> LazySamples[Key]: ...
    def __getitem__(self, index: int | slice) -> Sample | LazySamples[Key]:
        if isinstance(index, slice):
            return LazySamples(self.names[index], self._keys[index], self._load)
        return Sample(self.names[index], self._load(self._keys[index]))


class StackedSamples(Sequence[Sample], Generic[PartKey]):
    """Many pictures of one size that lie together in a few files.

    A file is read when its first picture is asked for, and stays in memory; slices share it. Samples are
    read-only.
    """

    def __init__(
        self,
        names: Sequence[str],
        parts: Sequence[PartKey],
        places: np.ndarray,
        load: Callable[[PartKey], np.ndarray],
        cache: dict[PartKey, np.ndarray] | None = None,
    ) -> None:
        """Describe the pictures.

        Args:
            names: One a picture.
            parts: What `load` takes to read one file.
            places: (N, 2) ints: for each picture the number of its part and its row in there.
            load: Reads a part as (n, C, H, W) integers.
            cache: Shared between slices.
        """
        self.names = tuple(names)
        self._parts = tuple(parts)
        self._places = places
        self._load = load
        self._cache: dict[PartKey, np.ndarray] = {} if cache is None else cache
        self._whole: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> StackedSamples[PartKey]: ...
    def __getitem__(self, index: int | slice) -> Sample | StackedSamples[PartKey]:
        if isinstance(index, slice):
            return StackedSamples(self.names[index], self._parts, self._places[index], self._load, self._cache)
        part, row = self._places[index]
        return Sample(self.names[index], self._part(part)[row])

    @property
    def nbytes(self) -> int:
        """Size of `array`, without making it."""
        return len(self) * self[0].array.nbytes if len(self) else 0

    @property
    def array(self) -> np.ndarray:
        """All pictures as one read-only array (N, C, H, W), made at first use."""
        if self._whole is None:
            blocks = [self._part(part)[self._places[self._places[:, 0] == part, 1]] for part in self._used()]
            self._whole = np.concatenate(blocks)
            self._whole.flags.writeable = False
        return self._whole

    def _used(self) -> list[int]:
        parts = self._places[:, 0]
        if (np.diff(parts) < 0).any():
            raise UnsupportedInputError("the pictures of a stacked data set must be in the order of its files")
        return [int(part) for part in np.unique(parts)]

    def _part(self, number: int) -> np.ndarray:
        key = self._parts[number]
        if key not in self._cache:
            block = self._load(key)
            block.flags.writeable = False
            self._cache[key] = block
        return self._cache[key]


def stacked(
    prefix: str, parts: Sequence[PartKey], counts: Sequence[int], load: Callable[[PartKey], np.ndarray]
) -> StackedSamples[PartKey]:
    """All pictures of several files in order, named `prefix-00000` and so on."""
    number = np.repeat(np.arange(len(parts)), counts)
    row = np.concatenate([np.arange(count) for count in counts]) if len(parts) else np.zeros(0, int)
    names = [f"{prefix}-{place:05d}" for place in range(len(row))]
    return StackedSamples(names, parts, np.stack([number, row], axis=1), load)


def read_tiles(path: Path, side: int) -> np.ndarray:
    """A sheet, that is one picture made of square tiles in row-major order -> (tiles, C, side, side)."""
    sheet = files.read(path).array
    channels, height, width = sheet.shape
    if height % side or width % side:
        raise UnsupportedInputError(f"{path}: {width} x {height} is not made of tiles of {side} x {side}")
    grid = sheet.reshape(channels, height // side, side, width // side, side).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(grid).reshape(-1, channels, side, side)


def read_array(path: Path) -> np.ndarray:
    """The samples of any file that `cbench.files` reads, (C, H, W)."""
    return files.read(path).array
