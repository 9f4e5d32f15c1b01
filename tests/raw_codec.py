"""The smallest codec with archives: stores samples as they are. Tests register it under the name "raw"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import Header, content_check, pack, unpack, verify_content

PLACE = "raw_codec:build"


class Raw:
    """No compression at all."""

    name = "raw"
    max_error = 0

    def compress(self, array: np.ndarray) -> bytes:
        return pack(Header(self.name, array.shape, array.dtype.name, check=content_check(array)), array.tobytes())

    def decompress(self, data: bytes) -> np.ndarray:
        head, (payload,) = unpack(data)
        array = np.frombuffer(payload, head.dtype).reshape(head.shape)
        verify_content(head, array)
        return array

    def compress_many(self, arrays: Sequence[np.ndarray]) -> bytes:
        head = Header(self.name, arrays[0].shape, arrays[0].dtype.name)
        payloads, shapes = [array.tobytes() for array in arrays], [array.shape for array in arrays]
        return pack_archive(head, payloads, shapes, list(map(content_check, arrays)))

    def decompress_many(self, data: bytes) -> list[np.ndarray]:
        archive = unpack_archive(data)
        found = []
        for i in range(len(archive)):
            array = np.frombuffer(archive.item(i), archive.head.dtype).reshape(archive.shapes[i])
            archive.verify(i, array)
            found.append(array)
        return found


def build(weights: Path | None, device: str, threads: int) -> Raw:
    return Raw()
