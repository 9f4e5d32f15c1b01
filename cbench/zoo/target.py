"""The setting of a lossy codec that meets a rate or a quality: all weights of a family, every quality of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cbench.codec import Adjustable, Codec
from cbench.errors import ConfigError, UnsupportedInputError


@dataclass(frozen=True)
class Target:
    """What a file must meet; exactly one of the two is set."""

    bpp: float | None = None
    """At most so many bits a pixel."""
    psnr: float | None = None
    """At least so many dB, for the full range of the dtype."""


@dataclass(frozen=True)
class _Trial:
    """One file that was written and decoded."""

    codec: Codec
    bpp: float
    psnr: float


def family(name: str, names: Sequence[str]) -> list[str]:
    """The codec `name`, or all whose names are `name` and a number, such as tbtc.conv-xs-1 for tbtc.conv-xs."""
    numbered = re.compile(re.escape(name) + r"-\d+")
    return [name] if name in names else [other for other in names if numbered.fullmatch(other)]


def meet(codecs: Sequence[Codec], array: np.ndarray, target: Target, overhead: int = 0) -> Codec:
    """The best picture within a rate, or the smallest file with a quality; real files decide.

    Args:
        codecs: lossy ones; an `Adjustable` one stands for all its qualities, which are searched by bisection.
        array: (C, H, W) integers.
        target: what to meet.
        overhead: bytes that will be added to a file.

    Raises:
        ConfigError: a codec that is not lossy.
        UnsupportedInputError: no setting meets the target.
    """
    for codec in codecs:
        if codec.max_error is not None:
            raise ConfigError(f"{codec.name} promises an error bound; a rate or PSNR can be asked of lossy codecs")
    tried = [trial for codec in codecs for trial in _bisect(codec, array, target, overhead)]
    good = [trial for trial in tried if _meets(trial, target)]
    if good:
        best = min(good, key=lambda trial: trial.bpp if target.bpp is None else -trial.psnr)
        return best.codec
    if target.bpp is None:
        found = max(trial.psnr for trial in tried)
        raise UnsupportedInputError(
            f"no setting reaches {target.psnr:g} dB on this picture; the best has {found:.2f} dB"
        )
    found = min(trial.bpp for trial in tried)
    raise UnsupportedInputError(
        f"no setting needs as little as {target.bpp:g} bits a pixel for this picture; the smallest file has {found:.3f}"
    )


def _bisect(codec: Codec, array: np.ndarray, target: Target, overhead: int) -> list[_Trial]:
    """Trials of one codec, among them its last setting that meets the target, if there is one.

    Rate and PSNR rise with the quality, so the settings that meet a rate come first, and those that meet a PSNR last.
    """
    if not isinstance(codec, Adjustable):
        return [_try(codec, array, overhead)]
    qualities, tried = codec.qualities, []
    low, high = 0, len(qualities) - 1
    while low <= high:
        middle = (low + high) // 2
        tried.append(_try(codec.with_quality(qualities[middle]), array, overhead))
        if _meets(tried[-1], target) == (target.psnr is None):
            low = middle + 1
        else:
            high = middle - 1
    return tried


def _try(codec: Codec, array: np.ndarray, overhead: int) -> _Trial:
    data = codec.compress(array)
    error = np.square(codec.decompress(data).astype(np.float64) - array).mean()
    limits = np.iinfo(array.dtype)
    peak = float(limits.max) - float(limits.min)
    psnr = float(10 * np.log10(peak**2 / error)) if error else float("inf")
    return _Trial(codec, 8 * (len(data) + overhead) / array[0].size, psnr)


def _meets(trial: _Trial, target: Target) -> bool:
    if target.bpp is not None:
        return trial.bpp <= target.bpp
    return target.psnr is not None and trial.psnr >= target.psnr
