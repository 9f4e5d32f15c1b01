"""What all readers and writers share: the result type, the integer types, and one way to report bad files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cbench.errors import CbenchError, DataNotFoundError, UnsupportedInputError

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
"""Sample types that are read and written; no file is ever converted from or to floats."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What a file holds: the samples, and what else is needed to write such a file again."""

    array: np.ndarray
    """(C, H, W) integers in the machine's byte order; a read-only memory map where the file allows it."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Small and JSON-able: "format", and what that format needs to come back as it was."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoding library raises into one sentence.

    Raises:
        DataNotFoundError: there is no such file.
        UnsupportedInputError: the file is damaged or of a kind that is not read.
    """
    if not path.is_file():
        raise DataNotFoundError(f"there is no file {path}")
    try:
        yield
    except CbenchError:
        raise
    # Decoders fail in a dozen ways on damaged input (OSError, SyntaxError, struct.error, MemoryError, ...).
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
        raise UnsupportedInputError(f"{path} cannot be read: {reason}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn whatever an encoding library or the system raises into one sentence.

    Raises:
        UnsupportedInputError: the library does not take the array or its metadata.
        CbenchError: the system does not let the file be written.
    """
    try:
        yield
    except CbenchError:
        raise
    except OSError as error:
        raise CbenchError(f"{path} cannot be written: {error.strerror or error}") from error
    # Metadata may come from a file that somebody else made: anything can be in it.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
        raise UnsupportedInputError(f"{path} cannot be written: {reason}") from error


def native(array: np.ndarray, path: Path) -> np.ndarray:
    """The array in the machine's byte order: itself when it already is, else a copy.

    Raises:
        UnsupportedInputError: floats, complex numbers, booleans, 64-bit integers, or an empty array.
    """
    kind = array.dtype.newbyteorder("=")
    if kind.name not in INTEGERS:
        raise UnsupportedInputError(
            f"{path} holds {kind.name} samples; cbench reads integers of 8, 16 and 32 bits only"
        )
    if array.size == 0:
        raise UnsupportedInputError(f"{path} holds no samples (shape {array.shape})")
    # asarray: a copy of a memory map would still call itself one.
    return array if array.dtype == kind else np.asarray(array).astype(kind)


def planes(array: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) or (H, W, C) samples of a picture library -> a contiguous (C, H, W) array."""
    if array.ndim == 2:
        array = array[:, :, None]
    return np.ascontiguousarray(native(array, path).transpose(2, 0, 1))


def check_array(array: np.ndarray, path: Path) -> np.ndarray:
    """The array to write, checked: three axes, an integer type, not empty; raises `UnsupportedInputError`."""
    array = np.asarray(array)
    if array.ndim != 3:
        raise UnsupportedInputError(f"{path}: an array (C, H, W) is needed, not one of shape {array.shape}")
    kind = array.dtype.newbyteorder("=").name
    if kind not in INTEGERS:
        raise UnsupportedInputError(f"{path}: {kind} samples cannot be written, only integers of 8 to 32 bits")
    if array.size == 0:
        raise UnsupportedInputError(f"{path}: an array of shape {array.shape} holds no samples")
    return array
