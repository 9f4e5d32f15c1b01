"""The usual way to get a codec: write one method, `script`, and run it in both directions.

Header, end-of-stream check and content check come from the base classes, so a codec cannot forget them.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np

from cbench.coding.file_codec import FileCodec
from cbench.coding.header import Header, content_check
from cbench.coding.io import CodingIO, CountIO, DecodeIO, EncodeIO
from cbench.coding.summed import SummedIO
from cbench.errors import CbenchError


class ScriptCodec(FileCodec):
    """A codec that is one coding script. Subclasses set the attributes of `FileCodec` and write `script`.

    A subclass whose network wants batches overrides `script_many` too; its result must not depend on the batch.
    """

    checks_symbols: bool = False
    """Whether files hold a check of the coded symbols instead of the decoded array: for lossy codecs whose last
    network may round a sample differently on another machine."""

    @abc.abstractmethod
    def script(self, io: CodingIO, head: Header, x: np.ndarray | None) -> np.ndarray:
        """Code one array through `io`; the same statements encode and decode.

        Args:
            io: the coder; `io.decoding` tells the direction, mostly without need.
            head: shape, dtype and params of the array.
            x: (C, H, W) the array, or None when decoding.

        Returns:
            (C, H, W) array of `head.dtype`: what the decoder gives.
        """

    def script_many(
        self, ios: Sequence[CodingIO], heads: Sequence[Header], xs: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """Code several arrays, each through its own io. The default runs `script` on one after the other."""
        return [self.script(io, head, x) for io, head, x in zip(ios, heads, xs, strict=True)]

    def bits(self, array: np.ndarray) -> float:
        """The theoretical size of an array in bits: the same script with a counter instead of a coder."""
        io = CountIO()
        self.script_many([io], [self.header(array)], [array])
        return io.total

    def _encode(self, heads: Sequence[Header], arrays: Sequence[np.ndarray]) -> list[tuple[bytes, int]]:
        """Stream and check of each array."""
        ios = [EncodeIO() for _ in heads]
        decoded, checks = self._run(ios, heads, arrays)
        for array, back in zip(arrays, decoded, strict=True):
            self._check_error(array, back)
        return [(io.finish(), check) for io, check in zip(ios, checks, strict=True)]

    def _decode(self, heads: Sequence[Header], streams: Sequence[bytes]) -> list[tuple[np.ndarray, int]]:
        """Array and check of each stream."""
        ios = [DecodeIO(stream) for stream in streams]
        arrays, checks = self._run(ios, heads, [None] * len(ios))
        for io in ios:
            io.finish()
        return list(zip(arrays, checks, strict=True))

    def _run(
        self, ios: Sequence[CodingIO], heads: Sequence[Header], xs: Sequence[np.ndarray | None]
    ) -> tuple[list[np.ndarray], list[int]]:
        """The script; what it decodes to, and the check of each array."""
        if not self.checks_symbols:
            arrays = self.script_many(ios, heads, xs)
            return arrays, [content_check(array) for array in arrays]
        summed = [SummedIO(io) for io in ios]
        return self.script_many(summed, heads, xs), [io.check for io in summed]

    def _check_error(self, array: np.ndarray, back: np.ndarray) -> None:
        if self.max_error is None:
            return
        error = 0 if back is array else int(np.abs(array.astype(np.int64) - back.astype(np.int64)).max())
        if error > self.max_error:
            raise CbenchError(
                f"{self.name} would lose up to {error} where it promises {self.max_error}; nothing was written "
                "(this is a fault of the codec)"
            )
