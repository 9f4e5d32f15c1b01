"""Pixels coded one after the other with a small integer network that looks at those already decoded, inside C++."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cbench import _core
from cbench.errors import UnsupportedInputError

FEATURES = 24
"""Numbers that the network sees of the decoded neighbours; see csrc/engines/pixel_ar.hpp."""


class Layer(NamedTuple):
    """out = (in @ weight + base) >> shift, for each of the three colours."""

    weight: np.ndarray
    """(3, inputs, outputs) int16."""
    base: np.ndarray
    """(3, outputs) int32."""
    shift: np.ndarray
    """(3, outputs) int32, 1 to 24."""


class PixelModel:
    """The network in integers; csrc/engines/pixel_ar.hpp defines what it computes.

    Args:
        inner: (3, FEATURES, hidden) int16; hidden is 8 to 256, a multiple of 8.
        inner_shift: 1 to 24.
        middle: the second hidden layer.
        outer: 3 K outputs: logarithms of the weights (base 2, times 16), means (1/256), scales (as in `Mixture`).
        linear: (3, FEATURES) int16, the linear part of the means, in 2^-linear_shift / 256.
        linear_shift: 1 to 24.

    Raises:
        UnsupportedInputError: wrong shapes, or weights so large that sums could leave 32 bits.
    """

    def __init__(
        self, inner: np.ndarray, inner_shift: int, middle: Layer, outer: Layer, linear: np.ndarray, linear_shift: int
    ) -> None:
        self.native = _core.PixelModel(inner, inner_shift, tuple(middle), tuple(outer), linear, linear_shift)

    @property
    def hidden(self) -> int:
        """Units of each hidden layer."""
        return self.native.hidden

    def bits(self, biases: np.ndarray, picture: np.ndarray, first: int = 0) -> float:
        """Code length of rows `first` .. of a picture in bits; arguments as `CodingIO.pixels`."""
        return self.native.bits(*pixel_arguments(biases, picture), first)


def pixel_arguments(biases: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check dtypes; the decoder writes into `picture`, so nothing is ever converted."""
    if picture.dtype != np.uint8 or biases.dtype != np.int16:
        raise UnsupportedInputError("pixels are coded in uint8 pictures with int16 biases")
    return np.ascontiguousarray(biases), picture
