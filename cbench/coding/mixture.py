"""Distributions straight from parameters: every symbol has its own mixture of discretised logistics or Gaussians, which
the coder evaluates in integers. No rows of probabilities are made, and every machine gets the same ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cbench import _core
from cbench.errors import UnsupportedInputError

MEAN_UNIT, SCALE_STEP, SCALE_ZERO = 256, 16, 64
"""Means count 1/256 of a symbol; scale index i stands for 2^((i - 64) / 16)."""


class Mixture:
    """K-component mixtures for n symbols with values low .. low + size - 1, in the coder's integers.

    Args:
        mean: (K, n) int32 in 1/256 of a symbol.
        scale: (K, n) uint8; s = 2^((scale - 64) / 16), from 1/16 to 3,924.
        weight: (K, n) uint16, need not add up to anything; None: equal.
        low: smallest value.
        size: number of values, at most 32768; each gets at least one of 65,536 parts. The outermost values also get the
            mass beyond them.
        family: "logistic" or "gaussian".

    Raises:
        UnsupportedInputError: parameters of other shapes, dtypes or ranges.
    """

    def __init__(
        self,
        mean: np.ndarray,
        scale: np.ndarray,
        weight: np.ndarray | None = None,
        *,
        low: int = 0,
        size: int = 256,
        family: Literal["logistic", "gaussian"] = "logistic",
    ) -> None:
        if family not in ("logistic", "gaussian"):
            raise UnsupportedInputError(f'a mixture\'s family is "logistic" or "gaussian", not {family!r}')
        self.n = int(np.shape(mean)[-1]) if np.ndim(mean) else 0
        """How many symbols the parameters are for."""
        self.native = _core.MixtureModel(
            _as(mean, np.int32, "mean"),
            _as(scale, np.uint8, "scale"),
            None if weight is None else _as(weight, np.uint16, "weight"),
            low,
            size,
            family == "gaussian",
        )

    @classmethod
    def from_floats(
        cls,
        mean: ArrayLike,
        log_scale: ArrayLike,
        logits: ArrayLike | None = None,
        *,
        low: int = 0,
        size: int = 256,
        family: Literal["logistic", "gaussian"] = "logistic",
    ) -> Mixture:
        """Round floating-point parameters to the coder's grid.

        Encoder and decoder must round the same numbers: either compute them exactly alike (`cbench.nn.exact`) or store
        what this made.

        Args:
            mean: (K, n) in symbols.
            log_scale: (K, n) natural logarithm of s.
            logits: (K, n) logarithms of the weights, up to a constant; None: equal weights.
            low: see the class.
            size: see the class.
            family: see the class.

        Raises:
            UnsupportedInputError: parameters that are not finite.
        """
        mu, log_s = np.asarray(mean, np.float64), np.asarray(log_scale, np.float64)
        w = np.zeros_like(mu) if logits is None else np.asarray(logits, np.float64)
        if not (np.isfinite(mu).all() and np.isfinite(log_s).all() and np.isfinite(w).all()):
            raise UnsupportedInputError("mixture parameters must be finite")
        limit = float(1 << 29)
        return cls(
            np.clip(np.rint(mu * MEAN_UNIT), -limit, limit).astype(np.int32),
            np.clip(np.rint(log_s * (SCALE_STEP / np.log(2)) + SCALE_ZERO), 0, 255).astype(np.uint8),
            None if logits is None else np.rint(np.exp(w - w.max(axis=0)) * 65535).astype(np.uint16),
            low=low,
            size=size,
            family=family,
        )

    def encode(self, symbols: ArrayLike) -> bytes:
        """Code n symbols as one stream.

        Raises:
            UnsupportedInputError: a symbol outside low .. low + size - 1, or another number of symbols.
        """
        return self.native.encode(_as(np.reshape(symbols, -1), np.int32, "symbols"))

    def decode(self, data: bytes) -> np.ndarray:
        """Inverse of `encode`: (n,) int32.

        Raises:
            BitstreamError: damaged or truncated data, or other parameters.
        """
        return self.native.decode(data)

    def bits(self, symbols: ArrayLike) -> float:
        """Code length of n symbols with the coder's integers, in bits."""
        frequency = self.native.intervals(_as(np.reshape(symbols, -1), np.int32, "symbols"))[1]
        return float((16 - np.log2(frequency)).sum())


def _as(values: ArrayLike, dtype: type, what: str) -> np.ndarray:
    array = np.asarray(values)
    if array.size and array.dtype != dtype:
        limits = np.iinfo(dtype)
        if array.dtype.kind not in "iu" or array.min() < limits.min or array.max() > limits.max:
            raise UnsupportedInputError(f"{what} must be {limits.dtype}, not {array.dtype}")
    return np.ascontiguousarray(array, dtype)
