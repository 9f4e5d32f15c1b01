"""CIFAR-10: 32 x 32 photographs, RGB of 8 bits. Three layouts of the folder cifar10/ are understood.

| layout | files | train | validation | test |
|---|---|---|---|---|
| sheets | `index.npz`, `train_00.webp` ... | 29,000 | last 1,000 tiles | 5,000 |
| official binary | `cifar-10-batches-bin/data_batch_1.bin` ... | first 45,000 | last 5,000 | 10,000 |
| official Python | `cifar-10-batches-py/data_batch_1` ... | first 45,000 | last 5,000 | 10,000 |

A sheet is a lossless WebP of 50 x 50 tiles; `index.npz` has the row of each tile in the official order. The
official files may also lie directly in cifar10/.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cbench.data.base import StackedSamples, data_folder, missing, read_tiles, stacked
from cbench.errors import UnsupportedInputError
from cbench.files.base import reading

SIDE = 32
TILES_A_SHEET = 2500
SHEET_VALIDATION = 1000
ORIGIN = "the binary or Python version from https://www.cs.toronto.edu/~kriz/cifar.html"
_RECORD = 1 + 3 * SIDE * SIDE
_BATCH = 10_000


def train(root: Path | str | None = None) -> StackedSamples[Path]:
    """Training pictures (3, 32, 32) uint8, without the validation ones.

    Raises:
        DataNotFoundError: no folder cifar10/, or none of the three layouts in it.
        UnsupportedInputError: a file is damaged.
    """
    whole = _training(root)
    return whole[: -_held_out(whole)]


def validation(root: Path | str | None = None) -> StackedSamples[Path]:
    """The last training pictures, for choosing models; raises as `train`."""
    whole = _training(root)
    return whole[-_held_out(whole) :]


def test(root: Path | str | None = None) -> StackedSamples[Path]:
    """Test pictures: all of the official batch, or the half that the sheets hold; raises as `train`."""
    return _open("test", data_folder("cifar10", root, ORIGIN))


def _training(root: Path | str | None) -> StackedSamples[Path]:
    return _open("train", data_folder("cifar10", root, ORIGIN))


def _held_out(whole: StackedSamples[Path]) -> int:
    return SHEET_VALIDATION if isinstance(whole, _Sheets) else len(whole) // 10


class _Sheets(StackedSamples[Path]):
    """The sheet layout, whose validation part is smaller."""


def _open(part: str, folder: Path) -> StackedSamples[Path]:
    if (folder / "index.npz").is_file():
        return _sheets(part, folder)
    names = ["test_batch"] if part == "test" else [f"data_batch_{number}" for number in range(1, 6)]
    layouts: tuple[tuple[str, str, Callable[[Path], np.ndarray], Callable[[Path], int]], ...] = (
        ("cifar-10-batches-bin", ".bin", read_binary, lambda path: path.stat().st_size // _RECORD),
        ("cifar-10-batches-py", "", read_pickle, lambda path: _BATCH),
    )
    for inner, suffix, load, count in layouts:
        for place in (folder / inner, folder):
            paths = [place / f"{name}{suffix}" for name in names]
            if all(path.is_file() for path in paths):
                return stacked(part, paths, [count(path) for path in paths], load)
    raise missing("cifar10", folder, f"neither sheets nor {names[0]}.bin nor {names[0]}", ORIGIN)


def _sheets(part: str, folder: Path) -> _Sheets:
    with reading(folder / "index.npz"), np.load(folder / "index.npz", allow_pickle=False) as index:
        rows = index[f"{part}_index"]
    tile = np.arange(len(rows))
    sheets = [folder / f"{part}_{number:02d}.webp" for number in range(-(-len(rows) // TILES_A_SHEET))]
    absent = [path.name for path in sheets if not path.is_file()]
    if absent:
        raise missing("cifar10", folder, f"no {absent[0]}", ORIGIN)
    places = np.stack([tile // TILES_A_SHEET, tile % TILES_A_SHEET], axis=1)
    return _Sheets([f"{part}-{row:05d}" for row in rows], sheets, places, _read_sheet)


def _read_sheet(path: Path) -> np.ndarray:
    return read_tiles(path, SIDE)


def read_binary(path: Path) -> np.ndarray:
    """An official `.bin` file, memory-mapped -> (n, 3, 32, 32) uint8."""
    with reading(path):
        size = path.stat().st_size
        if size == 0 or size % _RECORD:
            raise UnsupportedInputError(f"{path}: {size} bytes are not whole records of {_RECORD}")
        records = np.memmap(path, np.uint8, "r").reshape(-1, _RECORD)
        return np.asarray(records)[:, 1:].reshape(-1, 3, SIDE, SIDE)


def read_pickle(path: Path) -> np.ndarray:
    """An official Python batch -> (n, 3, 32, 32) uint8, without running what a pickle might ask for."""
    with reading(path):
        batch = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        data = next((batch[key] for key in ("data", b"data") if key in batch), None)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (_BATCH, _RECORD - 1):
            raise UnsupportedInputError(f"{path} is not a CIFAR-10 batch of {_BATCH} pictures")
        return data.reshape(-1, 3, SIDE, SIDE).copy()


class _Unpickler(pickle.Unpickler):
    """Knows numpy arrays and nothing else: names in a pickle are functions it may call."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            # Where numpy keeps this function has changed; an array itself knows.
            ("multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
            ("_codecs", "encode"): _encode_latin1,
        }
        short = "multiarray" if module in ("numpy.core.multiarray", "numpy._core.multiarray") else module
        if (short, name) not in allowed:
            raise UnsupportedInputError(f"the pickle asks for {module}.{name}, which no CIFAR-10 batch needs")
        return allowed[short, name]


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise UnsupportedInputError(f"the pickle asks for the text encoding {encoding!r}")
    return text.encode("latin1")
