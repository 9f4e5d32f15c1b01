"""`Image.open("photo.cb")` and `image.save("photo.cb")`, once this module is imported.

    import cbench.plugins.pillow
    from PIL import Image
    Image.open("photo.cb").show()

Grey, RGB and RGBA of 8 bits and grey of 16 bits, which are what Pillow's modes hold; all else is refused.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from PIL import Image

from cbench import zoo
from cbench.coding import container, envelope
from cbench.errors import UnsupportedInputError

FORMAT = "CBENCH"
MODES = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 1}
"""Pillow's modes that are arrays of ours, and their channels."""


def accept(start: bytes) -> bool:
    """Whether a file that starts like this is ours."""
    return start.startswith((container.MAGIC, envelope.MAGIC))


def open_image(file: IO[bytes], filename: str | bytes) -> Image.Image:
    """Decode an opened file; raises `UnsupportedInputError` for arrays that no mode of Pillow holds."""
    array = zoo.decompress(file.read())
    bands, depth = array.shape[0], array.dtype.name
    if (bands, depth) == (1, "uint16"):
        return Image.fromarray(array[0])
    if depth != "uint8" or bands not in (1, 3, 4):
        raise UnsupportedInputError(f"Pillow has no mode for {bands} channels of {depth}")
    return Image.fromarray(array[0] if bands == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def save_image(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Code an image; `image.save(path, codec="fsar.cifar10")` chooses the codec."""
    if image.mode not in MODES:
        raise UnsupportedInputError(f"convert the image first: mode {image.mode} is none of {', '.join(MODES)}")
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    codec = image.encoderinfo.get("codec")
    file.write(envelope.wrap(zoo.compress(np.ascontiguousarray(array), codec), {"file": {"format": "pillow"}}))


def _open(file: IO[bytes], filename: str | bytes) -> Any:
    image = open_image(file, filename)
    image.format = FORMAT
    return image


Image.register_open(FORMAT, _open, accept)
Image.register_save(FORMAT, save_image)
Image.register_extension(FORMAT, ".cb")
