"""The usual way to get a codec: write one method, `script`, and run it in both directions.

Header, end-of-stream check and content check come from the base class, so a codec cannot forget them.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import pack, unpack
from cbench.coding.environment import Environment
from cbench.coding.header import Header, content_check, verify_content
from cbench.coding.io import CodingIO, CountIO, DecodeIO, EncodeIO
from cbench.coding.summed import SummedIO
from cbench.errors import BitstreamError, CbenchError, UnsupportedInputError, WrongModelError


class ScriptCodec(abc.ABC):
    """A codec that is one coding script. Subclasses set the attributes below and write `script`.

    A subclass whose network wants batches overrides `script_many` too; its result must not depend on the batch.
    """

    name: str
    """As in `cbench.load_codec`."""
    max_error: int | None
    """0 lossless, k near-lossless, None lossy."""
    format: int = 1
    """Version of the byte format, "paper/v1"."""
    fingerprint: bytes = b""
    """Four bytes that identify the weights; empty for codecs without."""
    exact: bool = True
    """Whether every machine decodes the same. If not, files record the environment that made them."""
    threads: int = 1
    """Threads that the codec uses; recorded in the environment."""
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

    def check_input(self, array: np.ndarray) -> None:  # noqa: B027 - accepting everything is a fine default
        """Raise `UnsupportedInputError` for an array that the script does not take."""

    def params(self) -> bytes:
        """Private parameters stored in the header (at most 255 bytes)."""
        return b""

    def header(self, array: np.ndarray) -> Header:
        """The header of a file that would hold `array`, without its check."""
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "iu":
            raise UnsupportedInputError("a codec takes an integer numpy array of shape (C, H, W)")
        head = Header(
            self.name,
            array.shape,
            array.dtype.name,
            self.format,
            self.fingerprint,
            self.params(),
            environment=None if self.exact else Environment.here(self.threads),
        )
        self.check_input(array)
        return head

    def compress(self, array: np.ndarray) -> bytes:
        """One (C, H, W) integer array -> one self-contained file.

        Raises:
            UnsupportedInputError: an array that this codec does not take.
        """
        head = self.header(array)
        payload, check = self._encode([head], [array])[0]
        return pack(replace(head, check=check), payload)

    def decompress(self, data: bytes) -> np.ndarray:
        """Inverse of `compress`.

        Raises:
            BitstreamError: damaged, truncated or extended data.
            WrongModelError: the file was made by another codec, with other weights or a newer byte format.
            DecodeMismatchError: intact data that decodes to something else here than where it was made.
        """
        head, sections = unpack(data)
        self._check_ours(head)
        if len(sections) != 1:
            raise BitstreamError(f"a file of {self.name} has one section, not {len(sections)}")
        array, found = self._decode([head], sections)[0]
        verify_content(head, array, None if self.exact else Environment.here(self.threads), found)
        return array

    def compress_many(self, arrays: Sequence[np.ndarray]) -> bytes:
        """Several arrays of one dtype -> one archive, at most 4 bytes an item beyond its stream (small pictures).

        Raises:
            UnsupportedInputError: an array that this codec does not take, or arrays of different dtypes.
        """
        if not len(arrays):
            raise UnsupportedInputError("an archive needs at least one array")
        heads = [self.header(array) for array in arrays]
        if len({head.dtype for head in heads}) > 1:
            raise UnsupportedInputError("the arrays of one archive must have one dtype")
        coded = self._encode(heads, arrays)
        shapes = [head.shape for head in heads]
        return pack_archive(heads[0], [payload for payload, _ in coded], shapes, [check for _, check in coded])

    def decompress_many(self, data: bytes) -> list[np.ndarray]:
        """Inverse of `compress_many`; raises as `decompress`."""
        archive = unpack_archive(data)
        self._check_ours(archive.head)
        items = range(len(archive))
        decoded = self._decode([archive.header(i) for i in items], [archive.item(i) for i in items])
        for i, (array, found) in zip(items, decoded, strict=True):
            archive.verify(i, array, found)
        return [array for array, _ in decoded]

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

    def _check_ours(self, head: Header) -> None:
        if head.codec != self.name:
            raise WrongModelError(f"the file was made by codec {head.codec}, not {self.name}")
        if head.format > self.format:
            raise WrongModelError(
                f"the file has byte format {head.format} of {self.name}; this version reads up to {self.format}"
            )
        if head.fingerprint != self.fingerprint:
            raise WrongModelError(
                f"the file was made with weights {head.fingerprint.hex() or 'none'} of {self.name}, these are "
                f"{self.fingerprint.hex() or 'none'}: pass the weights it was made with"
            )
