"""Base of codecs for cubes whose whole coding loop is one engine: samples in, payload out, error bounded by a number.

Header, dtype and error checks live here; the bound travels in the file, so a codec decodes files made with any bound.
"""

from __future__ import annotations

import abc
import copy
from typing import ClassVar, Self

import numpy as np

from cbench.coding.container import Header, content_check, pack, unpack, verify_content
from cbench.coding.varint import Reader, varint
from cbench.errors import BitstreamError, CbenchError, ConfigError, UnsupportedInputError, WrongModelError

MAX_BOUND = 32767
"""Largest error bound: beyond it a 16-bit sample says nothing."""


class CubeCodec(abc.ABC):
    """A lossless or near-lossless codec for (C, H, W) cubes of 8 or 16 bits: bands, lines, columns."""

    name: str
    max_error: int
    """0 lossless, k: |x - x'| <= k everywhere."""
    format: int = 1
    fingerprint: bytes = b""
    threads: int = 1

    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "int8", "uint16", "int16")

    def __init__(self, name: str, max_error: int = 0, threads: int = 1) -> None:
        """Raises `ConfigError` for a bound that makes no sense."""
        if not 0 <= max_error <= MAX_BOUND:
            raise ConfigError(f"max_error (={max_error}) must lie in 0..{MAX_BOUND}")
        self.name, self.max_error, self.threads = name, max_error, threads

    @abc.abstractmethod
    def encode(self, x: np.ndarray) -> tuple[bytes, np.ndarray]:
        """(C, H, W) samples -> (payload, what the decoder makes of it)."""

    @abc.abstractmethod
    def decode(self, head: Header, max_error: int, payload: bytes) -> np.ndarray:
        """Inverse of `encode` for a file made with that bound: (C, H, W) of `head.dtype`."""

    def with_max_error(self, delta: int) -> Self:
        """The same codec with another bound."""
        other = copy.copy(self)
        CubeCodec.__init__(other, self.name, delta, self.threads)
        return other

    def compress(self, array: np.ndarray) -> bytes:
        """One (C, H, W) integer array -> one self-contained file.

        Raises:
            UnsupportedInputError: another number of axes, or a dtype of more than 16 bits.
        """
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.size == 0:
            raise UnsupportedInputError(f"{self.name} takes (C, H, W) arrays with at least one sample")
        if array.dtype.name not in self.dtypes:
            raise UnsupportedInputError(f"{self.name} codes samples of 8 or 16 bits, not {array.dtype}")
        payload, decoded = self.encode(array)
        error = int(np.abs(array.astype(np.int32) - decoded).max())
        if error > self.max_error:
            raise CbenchError(
                f"{self.name} would lose up to {error} where it promises {self.max_error}; nothing was written "
                "(this is a fault of the codec)"
            )
        head = Header(
            self.name,
            array.shape,
            array.dtype.name,
            self.format,
            self.fingerprint,
            varint(self.max_error),
            content_check(decoded),
        )
        return pack(head, payload)

    def decompress(self, data: bytes) -> np.ndarray:
        """Inverse of `compress`.

        Raises:
            BitstreamError: damaged, truncated or extended data.
            WrongModelError: the file was made by another codec, with other weights or a newer byte format.
            DecodeMismatchError: intact data that decodes to something else here than where it was made.
        """
        head, sections = unpack(data)
        if head.codec != self.name:
            raise WrongModelError(f"the file was made by codec {head.codec}, not {self.name}")
        if head.format != self.format:
            raise WrongModelError(
                f"the file has byte format {head.format} of {self.name}; this version reads {self.format}"
            )
        if head.fingerprint != self.fingerprint:
            raise WrongModelError(
                f"the file was made with weights {head.fingerprint.hex() or 'none'} of {self.name}, these are "
                f"{self.fingerprint.hex() or 'none'}: pass the weights it was made with"
            )
        if len(sections) != 1 or head.dtype not in self.dtypes:
            raise BitstreamError(f"a file of {self.name} has one section of 8- or 16-bit samples")
        reader = Reader(head.params)
        max_error = reader.varint("error bound")
        if reader.left or max_error > MAX_BOUND:
            raise BitstreamError(f"the parameters of {self.name} in the header make no sense")
        array = self.decode(head, max_error, sections[0])
        verify_content(head, array)
        return array
