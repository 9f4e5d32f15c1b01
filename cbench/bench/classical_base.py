"""What all classical codecs share: native files where the format can hold the array, else our container."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cbench.bench.native import bare_codestream, check_whole, native_codec_of
from cbench.coding.container import Header, content_check, is_container, pack, unpack, verify_content
from cbench.coding.varint import Reader, varint
from cbench.errors import BitstreamError, UnsupportedInputError, WrongModelError

Channels = dict[str, tuple[int, ...]]
"""dtype -> channel counts."""
OPAQUE, DIFFERENCES = 1, 2
"""Bits of the container's private parameter: opaque alpha channel left out; bands minus their predecessor."""
_LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, OverflowError, OSError)


@dataclass(frozen=True, kw_only=True)
class ClassicalCodec(abc.ABC):
    """One format. Subclasses say what a file of it holds and how one is written and read."""

    name: str
    max_error: int | None = 0
    threads: int = 1
    differences: bool = False
    """Several bands: code each less the band before it, plus half the range, modulo 2^bits."""

    family: ClassVar[str]
    native: ClassVar[Channels]
    """dtype -> channel counts that one file holds."""
    banded: ClassVar[tuple[str, ...]] = ()
    """dtypes whose other channel counts are coded band by band."""
    longest: ClassVar[int] = 2**31 - 1
    """Largest height and width."""

    @abc.abstractmethod
    def write(self, picture: np.ndarray) -> bytes:
        """One file from (H, W) or (H, W, C)."""

    @abc.abstractmethod
    def read(self, data: bytes) -> np.ndarray:
        """(H, W) or (H, W, C) from one file."""

    def compress(self, array: np.ndarray) -> bytes:
        """Bytes of `array` (C, H, W): a file of the format, or a container where the format cannot hold it.

        Raises:
            UnsupportedInputError: a shape or dtype that this codec does not take.
        """
        array = np.asarray(array)
        dtype, channels = array.dtype.name, array.shape[0] if array.ndim == 3 else 0
        if array.ndim != 3 or array.size == 0:
            raise UnsupportedInputError(f"{self.name} takes (C, H, W) arrays, not shape {array.shape}")
        if max(array.shape[1:]) > self.longest:
            raise UnsupportedInputError(f"{self.name} pictures are at most {self.longest} samples high and wide")
        single = channels in self.native.get(dtype, ()) and not (self.differences and channels > 1)
        if single and not self._loses_alpha(array):
            return self._write(array)
        if not (single or dtype in self.banded):
            raise UnsupportedInputError(f"{self.name} does not take {channels} channels of {dtype}")
        return self._contain(array, OPAQUE if single else DIFFERENCES if self.differences else 0)

    def decompress(self, data: bytes) -> np.ndarray:
        """The array (C, H, W).

        Raises:
            BitstreamError: damaged, truncated, or another format.
            WrongModelError: a container that another codec made.
        """
        data = bytes(data)
        if not is_container(data):
            if native_codec_of(data) != self.family:
                raise BitstreamError(f"this is not {self.family} data")
            return self._read(data)
        head, sections = unpack(data)
        if head.codec != self.name:
            raise WrongModelError(f"this file was made by {head.codec}, not by {self.name}")
        flags = head.params[0] if head.params else 0
        if flags & OPAQUE:
            colour = self._read(sections[0])
            array = np.concatenate([colour, np.full_like(colour[:1], np.iinfo(colour.dtype).max)])
        else:
            array = self._read_bands(head, sections[0], bool(flags & DIFFERENCES))
        verify_content(head, array)
        return array

    def _loses_alpha(self, array: np.ndarray) -> bool:
        """Whether a file of this format would forget that the picture has an (opaque) alpha channel."""
        return False

    def _contain(self, array: np.ndarray, flags: int) -> bytes:
        check = content_check(array) if self.max_error == 0 else None
        params = bytes([flags]) if flags else b""
        channels, height, width = array.shape
        shape = (channels, height, width)
        head = Header(codec=self.name, shape=shape, dtype=array.dtype.name, params=params, check=check)
        if flags & OPAQUE:
            return pack(head, self._write(array[:-1]))
        bands = _as_unsigned(array)
        if flags & DIFFERENCES:
            bands = np.concatenate([bands[:1], np.diff(bands, axis=0) + _middle(bands.dtype)])
        files = [bare_codestream(self._write(band[None])) for band in bands]
        return pack(head, files[0] if len(files) == 1 else b"".join(varint(len(f)) + f for f in files))

    def _read_bands(self, head: Header, section: bytes, differences: bool) -> np.ndarray:
        bands, height, width = head.shape
        reader = Reader(section)
        unsigned = np.empty(head.shape, _unsigned(head.dtype))
        for band in unsigned:
            data = section if bands == 1 else reader.take(reader.varint("band length"), "bands")
            # Grey that was written as R = G = B: green is the channel that lossy formats keep best.
            picture = self._read(data)
            plane = picture[1 if len(picture) > 2 else 0]
            if plane.shape != (height, width) or plane.dtype != unsigned.dtype:
                raise BitstreamError(f"a band decoded to {plane.shape} {plane.dtype}, unlike the header")
            band[:] = plane
        if differences:
            unsigned[1:] -= _middle(unsigned.dtype)
            np.cumsum(unsigned, axis=0, dtype=unsigned.dtype, out=unsigned)
        return _as_signed(unsigned, np.dtype(head.dtype))

    def _write(self, array: np.ndarray) -> bytes:
        channels = len(array)
        # A fresh copy, because the libraries refuse the odd strides that numpy allows on axes of length one.
        picture = (array[0] if channels == 1 else np.moveaxis(array, 0, -1)).copy(order="C")
        if channels == 1 and 1 not in self.native.get(picture.dtype.name, ()):
            picture = np.repeat(picture[..., None], 3, axis=-1)
        try:
            return bytes(self.write(picture))
        except _LIBRARY_ERRORS as error:
            raise UnsupportedInputError(f"{self.name} cannot code {array.shape} {array.dtype}: {error}") from error

    def _read(self, data: bytes) -> np.ndarray:
        check_whole(self.family, data)
        try:
            picture = np.asarray(self.read(data))
        except _LIBRARY_ERRORS as error:
            raise BitstreamError(f"the {self.family} data is damaged ({error})") from error
        if picture.ndim not in (2, 3) or picture.size == 0:
            raise BitstreamError(f"the {self.family} data holds {picture.ndim} dimensions, not one picture")
        return picture[None] if picture.ndim == 2 else np.ascontiguousarray(np.moveaxis(picture, -1, 0))


def _unsigned(dtype: str) -> np.dtype:
    """The unsigned dtype of the same width."""
    return np.dtype("u" + dtype.lstrip("u"))


def _middle(dtype: np.dtype) -> np.unsignedinteger:
    """Half the range of an unsigned dtype."""
    return dtype.type(1 << (8 * dtype.itemsize - 1))


def _as_unsigned(array: np.ndarray) -> np.ndarray:
    """Signed samples moved to the unsigned range of the same width, keeping their order."""
    if array.dtype.kind == "u":
        return array
    unsigned = _unsigned(array.dtype.name)
    return array.astype(unsigned) ^ _middle(unsigned)


def _as_signed(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return array if dtype.kind == "u" else (array ^ _middle(array.dtype)).astype(dtype)
