"""Little-endian integers and LEB128 varints: the alphabet that our byte formats are written in."""

from __future__ import annotations

from cbench.errors import BitstreamError

MAX_VARINT_BYTES = 9
"""Nine groups of seven bits hold every length and dimension up to 2^63 - 1."""


def varint(value: int) -> bytes:
    """The shortest LEB128 form of `value` (0 .. 2^63 - 1): seven bits a byte, low bits first.

    Raises:
        ValueError: the value is negative or needs more than nine bytes.
    """
    if not 0 <= value < 1 << (7 * MAX_VARINT_BYTES):
        raise ValueError(f"{value} does not fit a varint of {MAX_VARINT_BYTES} bytes")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Reads fields from the front of `data`; a missing field is a `BitstreamError` that names it."""

    def __init__(self, data: bytes | memoryview, start: int = 0, end: int | None = None) -> None:
        self.data = memoryview(data)
        self.position = start
        self.end = len(self.data) if end is None else end

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.position

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if count > self.left:
            raise BitstreamError(f"the data ends inside its {what}: {count} bytes are announced, {self.left} are left")
        start = self.position
        self.position += count
        return bytes(self.data[start : self.position])

    def uint(self, size: int, what: str) -> int:
        """The next unsigned little-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def varint(self, what: str) -> int:
        """The next varint; only the shortest form of a number is accepted: a file has one spelling."""
        value = 0
        for group in range(MAX_VARINT_BYTES):
            byte = self.uint(1, what)
            value |= (byte & 0x7F) << (7 * group)
            if byte < 0x80:
                if byte == 0 and group > 0:
                    raise BitstreamError(f"the {what} is written with superfluous bytes")
                return value
        raise BitstreamError(f"the {what} is longer than {MAX_VARINT_BYTES} bytes")
