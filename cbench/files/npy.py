"""NumPy .npy files (memory-mapped) and MATLAB .mat files (through scipy).

A .npy file holds (C, H, W), or (H, W) for one channel. A .mat file holds cubes the way MATLAB users store
them, (H, W, C), and is transposed; when it holds several arrays, name one as `file.mat:name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cbench.errors import UnsupportedInputError
from cbench.files.atomic import atomic_write
from cbench.files.base import ImageFile, check_array, native, reading

SUFFIXES = (".npy", ".mat")


def split_variable(path: Path) -> tuple[Path, str | None]:
    """`cube.mat:radiance` -> (`cube.mat`, "radiance"); any other path -> (path, None)."""
    stem, colon, variable = str(path).rpartition(".mat:")
    return (Path(f"{stem}.mat"), variable) if colon and variable else (path, None)


def read(path: Path) -> ImageFile:
    """The array as (C, H, W); a .npy file stays on disk until it is used.

    Raises:
        DataNotFoundError: no such file.
        UnsupportedInputError: damaged, not integers, not two or three axes, or an unclear choice of variable.
    """
    file, variable = split_variable(path)
    with reading(file):
        if file.suffix.lower() == ".mat":
            return _read_mat(file, variable)
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.ndim not in (2, 3):
            raise UnsupportedInputError(f"{file} does not hold one array (C, H, W) or (H, W)")
        cube = array[None] if array.ndim == 2 else array
        return ImageFile(np.asarray(native(cube, file)), {"format": "npy", "axes": array.ndim})


def write(path: Path, array: np.ndarray, meta: Mapping[str, Any], force: bool = False) -> None:
    """Write .npy or .mat; a file that held (H, W) holds (H, W) again.

    Raises:
        UnsupportedInputError: an array that is not (C, H, W) integers.
        CbenchError: the file exists and `force` is false.
    """
    file, variable = split_variable(path)
    array = check_array(array, file)
    flat = meta.get("axes") == 2 and array.shape[0] == 1
    with atomic_write(file, force) as temporary, temporary.open("wb") as stream:
        if file.suffix.lower() == ".mat":
            from scipy.io import savemat

            name = variable or str(meta.get("variable", "cube"))
            savemat(stream, {name: array[0] if flat else array.transpose(1, 2, 0)}, do_compression=True)
        else:
            np.save(stream, array[0] if flat else array, allow_pickle=False)


def _read_mat(file: Path, variable: str | None) -> ImageFile:
    from scipy.io import loadmat, whosmat

    try:
        listed = {name: shape for name, shape, _ in whosmat(str(file))}
    except NotImplementedError as error:
        raise UnsupportedInputError(f"{file} is a MATLAB 7.3 (HDF5) file; save it with -v7") from error
    if variable is None:
        cubes = [name for name, shape in listed.items() if len(shape) == 3]
        pictures = [name for name, shape in listed.items() if len(shape) == 2]
        choice = cubes or pictures
        if len(choice) != 1:
            raise UnsupportedInputError(
                f"{file} holds {', '.join(sorted(listed)) or 'nothing'}: name one array as {file.name}:name"
            )
        variable = choice[0]
    if variable not in listed:
        raise UnsupportedInputError(f"{file} has no array {variable}, only {', '.join(sorted(listed)) or 'none'}")
    array = loadmat(str(file), variable_names=[variable])[variable]
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3):
        raise UnsupportedInputError(f"{file}: {variable} is not an array (H, W, C) or (H, W)")
    cube = array[:, :, None] if array.ndim == 2 else array
    meta = {"format": "mat", "variable": variable, "axes": array.ndim}
    return ImageFile(np.ascontiguousarray(native(cube, file).transpose(2, 0, 1)), meta)
