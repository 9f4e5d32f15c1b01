"""Rows of one codec on one data set added up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cbench.bench.rows import Row


@dataclass(frozen=True)
class Summary:
    """What a line of the report says; rates are over all items that did not fail."""

    codec: str
    dataset: str
    rows: tuple[Row, ...]
    series: str = ""
    """Rate-distortion curve that the codec is a point of."""

    @property
    def good(self) -> tuple[Row, ...]:
        """Rows without an error."""
        return tuple(row for row in self.rows if row.error is None)

    @property
    def failed(self) -> int:
        """Number of items that failed."""
        return len(self.rows) - len(self.good)

    @property
    def exact(self) -> int:
        """Number of items that came back exactly."""
        return sum(row.exact for row in self.good)

    @property
    def bound(self) -> int | None:
        """The codec's promise: 0 lossless, k near-lossless, None lossy (or never built)."""
        return next((row.bound for row in self.rows if row.bound is not None), None)

    @property
    def lossless(self) -> bool:
        """Whether the codec belongs among those with a bounded error; one that never worked does, too."""
        return self.bound is not None or not self.good

    @property
    def raw_bytes(self) -> int:
        """Raw size of the items that did not fail."""
        return sum(row.raw_bytes or 0 for row in self.good)

    @property
    def file_bytes(self) -> int:
        """Size of their files."""
        return sum(row.file_bytes or 0 for row in self.good)

    @property
    def payload_bytes(self) -> int:
        """Size of their files without headers."""
        return sum(row.payload_bytes or 0 for row in self.good)

    @property
    def bpd(self) -> float | None:
        """All bits over all samples."""
        return _divided(8 * self.file_bytes, sum(row.samples for row in self.good))

    @property
    def bpp(self) -> float | None:
        """All bits over all pixels."""
        return _divided(8 * self.file_bytes, sum(row.pixels for row in self.good))

    @property
    def ratio(self) -> float | None:
        """File size over raw size."""
        return _divided(self.file_bytes, self.raw_bytes)

    @property
    def overhead_percent(self) -> float | None:
        """File bits beyond what the codec's model says the items cost; None where a codec does not say."""
        theory = [row.theoretical_bits for row in self.good if row.theoretical_bits is not None]
        if not theory or len(theory) < len(self.good):
            return None
        share = _divided(8 * self.file_bytes, math.fsum(theory))
        return None if share is None else 100 * (share - 1)

    @property
    def encode_mb_s(self) -> float | None:
        """Raw megabytes (10^6 bytes) a second of encoding."""
        return _divided(self.raw_bytes / 1e6, sum(row.encode_s or 0 for row in self.good))

    @property
    def decode_mb_s(self) -> float | None:
        """Raw megabytes (10^6 bytes) a second of decoding."""
        return _divided(self.raw_bytes / 1e6, sum(row.decode_s or 0 for row in self.good))

    @property
    def max_error(self) -> int | None:
        """Largest error of any item."""
        return max((row.max_error for row in self.good if row.max_error is not None), default=None)

    @property
    def peak_mb(self) -> float | None:
        """Largest memory of any item."""
        return max((row.peak_mb for row in self.good if row.peak_mb is not None), default=None)

    def mean(self, value: Callable[[Row], float | None]) -> float | None:
        """Mean over items of one of their figures; None where no item has it."""
        values = [v for v in map(value, self.good) if v is not None]
        return math.fsum(values) / len(values) if values else None


def summarise(rows: Iterable[Row], series: dict[str, str]) -> list[Summary]:
    """One summary for each data set and codec, in the order in which they first occur."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.codec), []).append(row)
    return [
        Summary(codec, dataset, tuple(members), series.get(codec, "")) for (dataset, codec), members in groups.items()
    ]


def by_rate(summaries: Sequence[Summary]) -> list[Summary]:
    """Lossless before near-lossless, each by size; those with failures last: their rate is not of all items."""
    return sorted(summaries, key=lambda s: (s.failed > 0, s.bound or 0, math.inf if s.bpd is None else s.bpd))


def versus_best(summary: Summary, summaries: Iterable[Summary]) -> float | None:
    """How much larger than the smallest with the same error bound, in %; 0 for that one; None after failures."""
    rivals = [s.bpd for s in summaries if s.bound == summary.bound and not s.failed and s.bpd]
    if not rivals or summary.failed or summary.bpd is None:
        return None
    return 100 * (summary.bpd / min(rivals) - 1)


def decibel(similarity: float | None) -> float | None:
    """MS-SSIM on the usual scale -10 log10(1 - x), where equal steps look about equal."""
    return None if similarity is None or similarity >= 1 else -10 * math.log10(1 - similarity)


def _divided(a: float, b: float) -> float | None:
    return a / b if b else None
