"""Arrays and files for the tests of readers and writers."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings

from cbench import files

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def check_back(path: Path, array: np.ndarray, meta: dict | None = None) -> files.ImageFile:
    files.write(path, array, meta)
    back = files.read(path)
    assert back.array.dtype == array.dtype
    assert np.array_equal(back.array, array)
    assert json.loads(json.dumps(dict(back.meta))) == dict(back.meta)
    assert [place.name for place in path.parent.iterdir() if place.name.endswith(".tmp")] == []
    return back


def png(width: int, height: int, depth: int, kind: int, raw: bytes, *extra: tuple[bytes, bytes], interlace=0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


def is_mapped(array: np.ndarray | None) -> bool:
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def make_pictures(place: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(place / name, noise((3, 8 + number, 9), seed=number))
