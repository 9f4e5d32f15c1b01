"""Pixels coded one after the other with distributions that depend on those already decoded, inside C++."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from cbench import _core
from cbench.coding.tables import Tables
from cbench.errors import UnsupportedInputError

FEATURES = 24
"""Numbers that the network sees of the decoded neighbours; see csrc/engines/pixel_ar.hpp."""
MEAN_BITS = 10
"""Fraction bits of the means that `LinearModel` takes."""
LEVEL_SHIFT = 20
"""Where the level begins in its parameters."""


class PixelCoder(Protocol):
    """What `CodingIO.pixels` takes."""

    native: Any
    """The same inside the C++ core."""

    def arguments(self, parameters: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Check dtypes; the decoder writes into `picture`, so that is never converted."""
        ...

    def bits(self, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> float:
        """Code length in bits; arguments as `CodingIO.pixels`."""
        ...


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

    def arguments(self, parameters: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `PixelCoder.arguments`; parameters are the biases of the inner layer, (rows, W, 3, hidden) int16."""
        return _checked(parameters, picture, np.int16)

    def bits(self, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> float:
        """Code length of rows `first` .. of a picture in bits; arguments as `CodingIO.pixels`."""
        return self.native.bits(*self.arguments(parameters, picture), first)


class PixelMap(NamedTuple):
    """Which table belongs to a level and a mean: all int32, see csrc/engines/linear_ar.hpp."""

    drop: np.ndarray
    """(levels,) bits of the mean, which has MEAN_BITS after the point, that are below the level's step."""
    low: np.ndarray
    """(levels,) smallest mean, in steps."""
    high: np.ndarray
    """(levels,) largest mean, in steps."""
    first: np.ndarray
    """(levels,) place of the smallest mean."""
    row: np.ndarray
    """(places,) the table."""
    centre: np.ndarray
    """(places,) the pixel value that is coded as 0."""


class LinearModel:
    """Tables whose means move by a linear function of three decoded neighbours; csrc/engines/linear_ar.hpp defines it.

    Args:
        tables: the distributions.
        places: which one belongs to a level and a mean.
        weight: (3, 3) int32 weights of the three neighbours of each colour, in 2^-16.
        bias: (3,) int32 what is added, in 2^-16 pixel values.

    Raises:
        UnsupportedInputError: wrong shapes, or a map that leaves the tables.
    """

    def __init__(self, tables: Tables, places: PixelMap, weight: np.ndarray, bias: np.ndarray) -> None:
        levels = tuple(np.ascontiguousarray(array, np.int32) for array in places)
        whole = (np.ascontiguousarray(array, np.int32) for array in (weight, bias))
        self.native = _core.LinearModel(tables.native, levels[:4], *levels[4:], *whole)

    def arguments(self, parameters: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `PixelCoder.arguments`; parameters (H, W, C) int32 are level << LEVEL_SHIFT | mean of each sample."""
        return _checked(parameters, picture, np.int32)

    def bits(self, parameters: np.ndarray, picture: np.ndarray, first: int = 0) -> float:
        """Code length of a picture in bits; arguments as `CodingIO.pixels`, `first` must be 0."""
        return self.native.bits(*self.arguments(parameters, picture), first)


def _checked(parameters: np.ndarray, picture: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    if picture.dtype != np.uint8 or parameters.dtype != dtype:
        raise UnsupportedInputError(f"pixels are coded in uint8 pictures with {np.dtype(dtype)} parameters")
    return np.ascontiguousarray(parameters), picture
