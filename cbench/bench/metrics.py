"""Rates and qualities, each with its unit; arrays are (C, H, W) integers of one shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cbench.errors import ConfigError

MS_SSIM_SMALLEST = 161
"""Smallest side that five scales of an 11-sample window allow."""


def bpd(file_bytes: int, array: np.ndarray) -> float:
    """Bits per sample (sub-pixel, or pixel-and-band)."""
    return 8 * file_bytes / array.size


def bpp(file_bytes: int, array: np.ndarray) -> float:
    """Bits per pixel: all channels or bands of a position together."""
    return 8 * file_bytes / (array.shape[1] * array.shape[2])


def ratio(file_bytes: int, raw_bytes: int) -> float:
    """Compressed size over the size of the raw integers: smaller is better."""
    return file_bytes / raw_bytes


def max_error(x: np.ndarray, y: np.ndarray) -> int:
    """Largest |x - y|; 0 means exact."""
    if np.array_equal(x, y):
        return 0
    # Python integers, so that 64-bit samples cannot wrap around.
    low, high = np.minimum(x, y), np.maximum(x, y)
    width = np.dtype(f"u{x.dtype.itemsize}")
    return int(np.subtract(high.astype(width), low.astype(width)).max())


def mse(x: np.ndarray, y: np.ndarray) -> float:
    """Mean squared error, in squared sample units."""
    return float(np.mean(np.square(x.astype(np.float64) - y.astype(np.float64))))


def peak(dtype: np.dtype) -> int:
    """Peak that PSNR uses unless told otherwise: the largest value of the dtype (255, 65535, ...)."""
    return int(np.iinfo(dtype).max)


def psnr(x: np.ndarray, y: np.ndarray, peak_value: float | None = None) -> float | None:
    """Peak signal-to-noise ratio in dB over all channels; None: the arrays are equal (infinite).

    Args:
        x: original.
        y: reconstruction.
        peak_value: None: `peak(x.dtype)`.
    """
    error = mse(x, y)
    return 10 * float(np.log10((peak_value or peak(x.dtype)) ** 2 / error)) if error else None


def ms_ssim(x: np.ndarray, y: np.ndarray) -> float | None:
    """Multi-scale structural similarity in 0..1, mean over channels; None: a side is too small for it.

    Raises:
        ConfigError: pytorch-msssim is not installed.
    """
    if min(x.shape[1:]) < MS_SSIM_SMALLEST:
        return None
    try:
        import pytorch_msssim
        import torch
    except ModuleNotFoundError as error:
        raise ConfigError(f"MS-SSIM needs the package {error.name}: pip install pytorch-msssim") from None
    pair = (torch.from_numpy(np.ascontiguousarray(a, np.float32))[None] for a in (x, y))
    return float(pytorch_msssim.ms_ssim(*pair, data_range=peak(x.dtype)))


def sam(x: np.ndarray, y: np.ndarray) -> float:
    """Mean spectral angle between the pixels of two cubes, in degrees; black pixels of both count as 0."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (x, y))
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    same = norms == 0
    cosine = np.where(same, 1.0, (a * b).sum(axis=0) / np.where(same, 1.0, norms))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def bd_rate(
    rate: Sequence[float],
    quality: Sequence[float],
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    *,
    method: str = "pchip",
) -> float | None:
    """Bjontegaard rate difference in %: -20 means 20 % fewer bits than the anchor at equal quality.

    The logarithm of the rate is interpolated over the quality and integrated where both curves are.

    Args:
        rate: of the tested codec, any unit, any order, positive.
        quality: of the tested codec (dB).
        anchor_rate: in the unit of `rate`.
        anchor_quality: in the unit of `quality`.
        method: "pchip" (piecewise cubic, at least 2 points) or "cubic" (one polynomial, at least 4 points).

    Returns:
        None when the curves share no range of quality.

    Raises:
        ConfigError: an unknown method, too few points, or a rate that is not positive.
    """
    ours = _curve(quality, np.log(_positive(rate)), method)
    theirs = _curve(anchor_quality, np.log(_positive(anchor_rate)), method)
    difference = _mean_difference(ours, theirs, method)
    return None if difference is None else 100 * float(np.expm1(difference))


def bd_quality(
    rate: Sequence[float],
    quality: Sequence[float],
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    *,
    method: str = "pchip",
) -> float | None:
    """Bjontegaard quality difference in the unit of `quality` (dB): positive means better at equal rate.

    Arguments, None and errors as for `bd_rate`.
    """
    ours = _curve(np.log(_positive(rate)), quality, method)
    theirs = _curve(np.log(_positive(anchor_rate)), anchor_quality, method)
    return _mean_difference(ours, theirs, method)


_Curve = tuple[np.ndarray, np.ndarray]


def _positive(rate: Sequence[float]) -> np.ndarray:
    values = np.asarray(rate, np.float64)
    if not (values > 0).all():
        raise ConfigError("Bjontegaard differences need positive rates")
    return values


def _curve(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, method: str) -> _Curve:
    """Points by rising x; of points with one x only the first is kept."""
    least = {"pchip": 2, "cubic": 4}.get(method)
    if least is None:
        raise ConfigError(f'the method of a Bjontegaard difference is "pchip" or "cubic", not {method!r}')
    xs, first = np.unique(np.asarray(x, np.float64), return_index=True)
    if len(xs) < least:
        raise ConfigError(f"a {method} Bjontegaard difference needs at least {least} points, not {len(xs)}")
    return xs, np.asarray(y, np.float64)[first]


def _mean_difference(ours: _Curve, theirs: _Curve, method: str) -> float | None:
    low, high = max(ours[0][0], theirs[0][0]), min(ours[0][-1], theirs[0][-1])
    if high <= low:
        return None
    areas = [_integral(curve, low, high, method) for curve in (ours, theirs)]
    return (areas[0] - areas[1]) / (high - low)


def _integral(curve: _Curve, low: float, high: float, method: str) -> float:
    if method == "pchip":
        from scipy.interpolate import PchipInterpolator

        return float(PchipInterpolator(*curve).integrate(low, high))
    # Shifted to its middle, or the normal equations of a cubic over 25..45 dB are badly conditioned.
    middle = curve[0].mean()
    area = np.polynomial.Polynomial.fit(curve[0] - middle, curve[1], 3).integ()
    return float(area(high - middle) - area(low - middle))
