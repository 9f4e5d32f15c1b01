"""Any of our codecs as the serialiser of zarr format 3 arrays.

    zarr.create_array(store, shape=..., chunks=(1, 8, 256, 256), dtype="uint16",
                      serializer=CbenchCodec(codec="jpegls"), compressors=None)

Chunks of any rank are coded as (C, H, W): leading axes are joined, missing ones are 1.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.registry import register_codec

from cbench import zoo
from cbench.errors import BitstreamError
from cbench.plugins import as_planes

NAME = "cbench"


@dataclass(frozen=True)
class CbenchCodec(ArrayBytesCodec):
    """`codec`: a name of `cbench.list_codecs()`, or None for the default of each chunk."""

    codec: str | None = None
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CbenchCodec:
        """From the metadata of an array."""
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> dict[str, Any]:
        """For the metadata of an array."""
        return {"name": NAME, "configuration": {"codec": self.codec}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Sizes depend on the content: never called."""
        raise NotImplementedError

    async def _encode_single(self, chunk: Any, spec: Any) -> Any:
        data = await asyncio.to_thread(zoo.compress, as_planes(chunk.as_numpy_array()), self.codec)
        return spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        array = await asyncio.to_thread(zoo.decompress, data.to_bytes())
        if array.size != int(np.prod(spec.shape)):
            raise BitstreamError(f"a chunk of shape {spec.shape} decoded to an array of shape {array.shape}")
        return spec.prototype.nd_buffer.from_ndarray_like(array.reshape(spec.shape))


register_codec(NAME, CbenchCodec)
