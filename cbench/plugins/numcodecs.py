"""Any of our codecs as a numcodecs codec (and so as a compressor of zarr format 2 arrays).

    zarr.create_array(store, shape=..., chunks=(1, 8, 256, 256), dtype="uint16", zarr_format=2,
                      compressors=Cbench(codec="jpegls"))

Chunks of any rank are coded as (C, H, W): leading axes are joined, missing ones are 1.
"""

from __future__ import annotations

from typing import Any

from numcodecs.abc import Codec
from numcodecs.compat import ensure_ndarray, ndarray_copy
from numcodecs.registry import register_codec

from cbench import zoo
from cbench.plugins import as_planes


class Cbench(Codec):
    """`codec`: a name of `cbench.list_codecs()`, or None for the default of each chunk."""

    codec_id = "cbench"

    def __init__(self, codec: str | None = None, threads: int = 1) -> None:
        self.codec = codec
        self.threads = threads

    def encode(self, buf: Any) -> bytes:
        """Bytes of one chunk, an integer array."""
        return zoo.compress(as_planes(ensure_ndarray(buf)), self.codec, threads=self.threads)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk's samples, (C, H, W); written to `out` where one is given."""
        array = zoo.decompress(bytes(buf), threads=self.threads)
        return array if out is None else ndarray_copy(array, out)

    def get_config(self) -> dict[str, Any]:
        """What the array's metadata records: the thread count belongs to the machine, not to the data."""
        return {"id": self.codec_id, "codec": self.codec}


register_codec(Cbench)
