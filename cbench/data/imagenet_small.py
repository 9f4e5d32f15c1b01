"""Downsampled ImageNet (32 x 32 and 64 x 64), and sheets of ImageNet photographs of that size.

The published data set is a folder imagenet32/ or imagenet64/ with `train_data_batch_1.npz` ... `_10.npz`
(or one `train_data.npz`) and `val_data.npz`, perhaps in subfolders, each with a key `data`, (N, 3 S S)
uint8. A member stored without compression is memory-mapped: `np.savez` of the same data makes a set larger
than memory usable.

The sheets (`train_790.webp`, `test_200.webp` in imagenet64/) are other pictures, made with another filter:
rates on them are not comparable with published ones.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from cbench.data.base import StackedSamples, data_folder, missing, read_tiles, stacked
from cbench.errors import UnsupportedInputError
from cbench.files.base import reading

ORIGIN = "the npz files of downsampled ImageNet from https://image-net.org/download-images (needs an account)"
SHEET_ORIGIN = "the sheets train_790.webp and test_200.webp, see data/README.md"


def imagenet32_train(root: Path | str | None = None) -> StackedSamples[Path]:
    """Training pictures (3, 32, 32) uint8.

    Raises:
        DataNotFoundError: no folder imagenet32/, or no such files in it.
        UnsupportedInputError: a file is damaged or holds something else.
    """
    return _published("train", 32, root)


def imagenet32_validation(root: Path | str | None = None) -> StackedSamples[Path]:
    """The 50,000 validation pictures that papers report on; raises as `imagenet32_train`."""
    return _published("val", 32, root)


def imagenet64_train(root: Path | str | None = None) -> StackedSamples[Path]:
    """Training pictures (3, 64, 64) uint8; raises as `imagenet32_train`."""
    return _published("train", 64, root)


def imagenet64_validation(root: Path | str | None = None) -> StackedSamples[Path]:
    """The 50,000 validation pictures that papers report on; raises as `imagenet32_train`."""
    return _published("val", 64, root)


def sheet64_train(root: Path | str | None = None) -> StackedSamples[Path]:
    """790 photographs (3, 64, 64) uint8 from the sheet `train_790.webp`.

    Raises:
        DataNotFoundError: no folder imagenet64/, or no such sheet in it.
    """
    return _sheet("train", 64, root)


def sheet64_test(root: Path | str | None = None) -> StackedSamples[Path]:
    """200 photographs (3, 64, 64) uint8 from the sheet `test_200.webp`; raises as `sheet64_train`."""
    return _sheet("test", 64, root)


def sheet32_train(root: Path | str | None = None) -> StackedSamples[Path]:
    """`sheet64_train` at half the size, (3, 32, 32): means of 2 x 2 pixels, rounded half up."""
    return _sheet("train", 32, root)


def sheet32_test(root: Path | str | None = None) -> StackedSamples[Path]:
    """`sheet64_test` at half the size, (3, 32, 32): means of 2 x 2 pixels, rounded half up."""
    return _sheet("test", 32, root)


def _published(part: str, side: int, root: Path | str | None) -> StackedSamples[Path]:
    name = f"imagenet{side}"
    folder = data_folder(name, root, ORIGIN)
    found = [path for path in folder.rglob(f"{part}_data*.npz") if re.search(r"_data(_batch_\d+)?$", path.stem)]
    if not found:
        raise missing(name, folder, f"no {part}_data.npz and no {part}_data_batch_*.npz", ORIGIN)
    paths = sorted(found, key=lambda path: int((re.findall(r"\d+$", path.stem) or ["0"])[0]))
    load = _read_npz32 if side == 32 else _read_npz64
    return stacked(part, paths, [_npz_shape(path)[0] for path in paths], load)


def _sheet(part: str, side: int, root: Path | str | None) -> StackedSamples[Path]:
    folder = data_folder("imagenet64", root, SHEET_ORIGIN)
    count = {"train": 790, "test": 200}[part]
    path = folder / f"{part}_{count}.webp"
    if not path.is_file():
        raise missing("imagenet64", folder, f"no {path.name}", SHEET_ORIGIN)
    return stacked(part, [path], [count], _read_sheet64 if side == 64 else _read_sheet32)


def _read_sheet64(path: Path) -> np.ndarray:
    return read_tiles(path, 64)


def _read_sheet32(path: Path) -> np.ndarray:
    tiles = read_tiles(path, 64).astype(np.uint16)
    sums = tiles.reshape(-1, 3, 32, 2, 32, 2).sum(axis=(3, 5))
    return ((sums + 2) >> 2).astype(np.uint8)


def _read_npz32(path: Path) -> np.ndarray:
    return _read_npz(path, 32)


def _read_npz64(path: Path) -> np.ndarray:
    return _read_npz(path, 64)


def _read_npz(path: Path, side: int) -> np.ndarray:
    with reading(path):
        place = _stored_at(path)
        if place is None:
            with np.load(path, allow_pickle=False) as archive:
                data = archive["data"]
        else:
            data = np.asarray(np.memmap(path, np.uint8, "r", place, _npz_shape(path)))
        return data.reshape(len(data), 3, side, side)


def _npz_shape(path: Path) -> tuple[int, ...]:
    """Shape of the key `data`, from its header alone."""
    with reading(path), zipfile.ZipFile(path) as archive, archive.open("data.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype != np.uint8 or fortran or len(shape) != 2 or shape[1] not in (3 * 32 * 32, 3 * 64 * 64):
            raise UnsupportedInputError(f"{path}: its key data is not (N, 3 S S) uint8 but {shape} {dtype}")
        return tuple(shape)


def _stored_at(path: Path) -> int | None:
    """Where the samples begin in the file, if they are stored uncompressed."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("data.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        with path.open("rb") as stream:
            stream.seek(member.header_offset)
            local = stream.read(30)
            names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            count = int(np.prod(_npz_shape(path)))
            return member.header_offset + 30 + names + member.file_size - count
