"""Classical codecs ready for an experiment, so that every config compares with the same peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from cbench.bench import classical
from cbench.bench.config import CodecSpec
from cbench.codec import Codec

_CURVES: tuple[tuple[str, str, Callable[..., Codec], str, Sequence[float]], ...] = (
    ("JPEG", "jpeg", classical.jpeg, "quality", (5, 10, 20, 30, 50, 70, 80, 90, 95)),
    ("WebP", "webp-lossy", classical.webp_lossy, "quality", (1, 10, 25, 50, 75, 85, 90, 95)),
    ("JPEG 2000", "jpeg2000-lossy", classical.jpeg2000_lossy, "psnr", (26, 28, 30, 32, 34, 36, 38, 40, 42)),
    ("JPEG XL", "jpegxl-lossy", classical.jpegxl_lossy, "distance", (13, 9, 6, 4.5, 3, 2, 1.5, 1, 0.5)),
    ("AVIF", "avif", classical.avif, "quality", (10, 20, 30, 40, 50, 60, 70, 80, 90)),
)
"""Curve, codec, builder, the keyword that moves along the curve, and its values from coarse to fine."""


def lossless() -> tuple[CodecSpec, ...]:
    """Lossless codecs for 8-bit pictures with the settings that people use."""
    names = ("png", "webp", "jpegls", "jpeg2000", "jpegxl", "qoi", "zstd")
    return tuple(CodecSpec(codec=name) for name in names)


def lossy(points: int | None = None) -> tuple[CodecSpec, ...]:
    """Quality sweeps of lossy codecs, one curve each; JPEG first, the anchor of BD-rates.

    Args:
        points: that many points of each curve, spread over its range; None: all (8 or 9).
    """
    specs = []
    for series, codec, build, keyword, values in _CURVES:
        for value in _spread(values, points):
            bound = partial(build, **{keyword: value})
            specs.append(CodecSpec(codec=codec, label=f"{series} {value:g}", build=bound, series=series))
    return tuple(specs)


def cubes(max_errors: Sequence[int] = (0,)) -> tuple[CodecSpec, ...]:
    """Codecs for 16-bit cubes, band by band, with and without differences of neighbouring bands.

    Args:
        max_errors: bounds for JPEG-LS beside the lossless codecs; 0 is among those already.
    """
    specs = [CodecSpec(codec=name) for name in ("jpegls", "jpeg2000", "jpegxl", "zstd")]
    for name, build in (
        ("jpegls", classical.jpegls),
        ("jpeg2000", classical.jpeg2000),
        ("jpegxl", classical.jpegxl),
    ):
        bound = partial(build, differences=True)
        specs.append(CodecSpec(codec=name, label=f"{name} band differences", build=bound))
    near = [k for k in max_errors if k]
    specs += [CodecSpec(codec="jpegls", label=f"jpegls error {k}", max_error=k) for k in near]
    return tuple(specs)


def _spread(values: Sequence[float], points: int | None) -> Sequence[float]:
    if points is None or points >= len(values):
        return values
    step = (len(values) - 1) / max(points - 1, 1)
    return [values[round(i * step)] for i in range(points)]
