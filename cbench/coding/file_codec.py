"""What every codec does around its bytes: header, refusals, the check of the content, archives of many arrays."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import pack, unpack
from cbench.coding.environment import Environment
from cbench.coding.header import Header, verify_content
from cbench.errors import BitstreamError, UnsupportedInputError, WrongModelError


class FileCodec(abc.ABC):
    """A codec whose files are containers of one section. Subclasses set the attributes and write two methods."""

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

    @abc.abstractmethod
    def _encode(self, heads: Sequence[Header], arrays: Sequence[np.ndarray]) -> Sequence[tuple[bytes, int | None]]:
        """Payload and check of each array; no checks where payloads hold one of their own."""

    @abc.abstractmethod
    def _decode(self, heads: Sequence[Header], streams: Sequence[bytes]) -> Sequence[tuple[np.ndarray, int | None]]:
        """Array and check of each payload."""

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
            environment=None if self.exact else self.here(),
        )
        self.check_input(array)
        return head

    def here(self) -> Environment:
        """Where this codec runs."""
        return Environment.here(self.threads)

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
        verify_content(head, array, None if self.exact else self.here(), found)
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
        checks = [check for _, check in coded if check is not None]
        return pack_archive(heads[0], [payload for payload, _ in coded], shapes, checks or None)

    def decompress_many(self, data: bytes) -> list[np.ndarray]:
        """Inverse of `compress_many`; raises as `decompress`."""
        archive = unpack_archive(data)
        self._check_ours(archive.head)
        items = range(len(archive))
        decoded = self._decode([archive.header(i) for i in items], [archive.item(i) for i in items])
        for i, (array, found) in zip(items, decoded, strict=True):
            archive.verify(i, array, found)
        return [array for array, _ in decoded]

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
