"""Code one item, or one archive of items, for real: compress, decompress, compare, and say what it took."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cbench.bench import metrics
from cbench.bench.config import CodecSpec, Measure
from cbench.bench.rows import Row
from cbench.bench.timing import PeakMemory, median_seconds, set_threads
from cbench.codec import ArchiveCodec, Codec, CountsBits, NearLossless, Sample
from cbench.coding.archive import is_archive, unpack_archive
from cbench.coding.container import is_container, payload_size
from cbench.errors import CbenchError, ConfigError

ARCHIVE_ITEMS = 1000
"""Most items in one archive."""
QUICK_SECONDS = 0.1
"""Items that are coded faster are coded again for the clock alone."""

Watcher = Callable[[Sample, np.ndarray], None]
"""Called with each original and its reconstruction."""


@dataclass(frozen=True)
class Bench:
    """One codec on one data set."""

    codec: Codec
    label: str
    dataset: str
    measure: Measure
    watch: Watcher | None = None

    @property
    def archives(self) -> bool:
        """Whether items are coded together."""
        return self.measure.archive and isinstance(self.codec, ArchiveCodec)

    def warm_up(self, samples: Iterable[Sample]) -> None:
        """Code items without a stopwatch; what fails here fails again when it counts."""
        with suppress(Exception):
            for sample in samples:
                self.codec.decompress(self.codec.compress(sample.array))

    def item(self, sample: Sample) -> Row:
        """Code one item as one file."""
        x = sample.array
        with PeakMemory() as memory:
            encode_s, decode_s, data, y = self._both(x)
        if encode_s + decode_s < QUICK_SECONDS:
            # Looking at memory makes the system hand out fresh pages, which would be most of a short time.
            encode_s, decode_s, data, y = self._both(x)
        row = self._row(sample, y)
        return replace(
            row,
            **_rates(x, len(data), payload_size(data) if is_container(data) else len(data)),
            theoretical_bits=self._bits(x),
            encode_s=encode_s,
            decode_s=decode_s,
            peak_mb=memory.mb,
        )

    def archive(self, samples: Sequence[Sample]) -> list[Row]:
        """Code items as one archive; its bytes and seconds are shared out so that the rows add up to them."""
        codec: Any = self.codec
        arrays = [sample.array for sample in samples]
        with PeakMemory() as memory:
            encode_s, data = self._timed(lambda: codec.compress_many(arrays))
            decode_s, decoded = self._timed(lambda: codec.decompress_many(data))
        if len(decoded) != len(arrays):
            raise CbenchError(f"{len(arrays)} items were packed and {len(decoded)} came back")
        total = sum(x.size for x in arrays)
        rows = []
        for sample, y, (size, payload) in zip(samples, decoded, _shares(data, len(arrays)), strict=True):
            part = sample.array.size / total
            rows.append(
                replace(
                    self._row(sample, y),
                    **_rates(sample.array, size, payload),
                    theoretical_bits=self._bits(sample.array),
                    encode_s=encode_s * part,
                    decode_s=decode_s * part,
                    peak_mb=memory.mb,
                )
            )
        return rows

    def _both(self, x: np.ndarray) -> tuple[float, float, bytes, np.ndarray]:
        encode_s, data = self._timed(lambda: self.codec.compress(x))
        decode_s, y = self._timed(lambda: self.codec.decompress(data))
        return encode_s, decode_s, data, y

    def _timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        return median_seconds(work, self.measure.repeats, self.measure.device)

    def _bits(self, x: np.ndarray) -> float | None:
        return float(self.codec.bits(x)) if isinstance(self.codec, CountsBits) else None

    def _row(self, sample: Sample, y: np.ndarray) -> Row:
        """The comparison of original and reconstruction."""
        x, bound = sample.array, self.codec.max_error
        row = Row(
            codec=self.label,
            item=sample.name,
            dataset=self.dataset,
            raw_bytes=x.nbytes,
            threads=self.measure.threads,
            bound=bound,
        )
        if y.shape != x.shape or y.dtype != x.dtype:
            return replace(row, error=f"decoded to {y.shape} {y.dtype} instead of {x.shape} {x.dtype}")
        if self.watch is not None:
            self.watch(sample, y)
        error = metrics.max_error(x, y)
        broken = bound is not None and error > bound
        return replace(
            row,
            max_error=error,
            exact=error == 0,
            psnr=metrics.psnr(x, y) if self.measure.psnr else None,
            ms_ssim=metrics.ms_ssim(x, y) if self.measure.ms_ssim else None,
            error=f"maximal error {error} exceeds the codec's bound {bound}" if broken else None,
        )


def build(spec: CodecSpec, measure: Measure, run_weights: Path) -> Codec:
    """The codec that `spec` describes, with the thread count fixed.

    Args:
        spec: codec and weights.
        measure: device and threads.
        run_weights: what `weights="run"` stands for.

    Raises:
        ConfigError: unknown codec, or an error bound for a codec that takes none.
        DataNotFoundError: no such weights.
    """
    from cbench import zoo
    from cbench.bench.config import RUN_WEIGHTS

    set_threads(measure.threads)
    weights = run_weights if spec.weights == RUN_WEIGHTS else Path(spec.weights) if spec.weights else None
    if spec.build is not None:
        codec = spec.build(weights, measure.device, measure.threads)
    else:
        codec = zoo.load_codec(spec.codec, weights, measure.device, measure.threads)
    if spec.max_error is not None:
        if not isinstance(codec, NearLossless):
            raise ConfigError(f"{spec.title} takes no error bound (max_error={spec.max_error})")
        codec = codec.with_max_error(spec.max_error)
    set_threads(measure.threads)
    return codec


def _rates(x: np.ndarray, size: int, payload: int) -> dict[str, Any]:
    return {
        "file_bytes": size,
        "payload_bytes": payload,
        "bpd": metrics.bpd(size, x),
        "bpp": metrics.bpp(size, x),
    }


def _shares(data: bytes, count: int) -> list[tuple[int, int]]:
    """(file bytes, payload bytes) of each item: its payload and an even share of the rest of the archive."""
    if is_archive(data):
        archive = unpack_archive(data)
        payloads = [archive.payload_bytes(i) for i in range(count)]
    else:
        payloads = [0] * count
    each, left = divmod(len(data) - sum(payloads), count)
    sizes = [payload + each + (i < left) for i, payload in enumerate(payloads)]
    return list(zip(sizes, payloads if any(payloads) else sizes, strict=True))


def sentence(error: Exception) -> str:
    """One line; for an error that no codec should raise, with its kind and place."""
    text = " ".join(str(error).split())
    if isinstance(error, CbenchError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"
