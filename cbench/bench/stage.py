"""Code every item of some data sets with every codec; finished rows survive whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cbench.bench.config import CodecSpec, DataSpec, Experiment, Measure
from cbench.bench.cubes import CubeFolder
from cbench.bench.loading import WEIGHTS_FILE
from cbench.bench.measure import ARCHIVE_ITEMS, Bench, build, sentence
from cbench.bench.pictures import ITEMS
from cbench.bench.rows import Journal, Row
from cbench.codec import Sample
from cbench.errors import ConfigError, DataNotFoundError

CACHE_BYTES = 512_000_000
"""Items of one data set that stay in memory between codecs."""


class DataSets:
    """The data sets, opened once; items are read when they are needed and kept while they are small."""

    def __init__(self, specs: Sequence[DataSpec], at_most: int | None = None) -> None:
        self.specs = specs
        self.samples = [Samples(_open(spec), spec.limit or at_most) for spec in specs]

    def __iter__(self) -> Iterator[tuple[DataSpec, Samples]]:
        return iter(zip(self.specs, self.samples, strict=True))

    def __len__(self) -> int:
        """Number of items in all sets."""
        return sum(map(len, self.samples))


class Samples:
    """The first `limit` samples, contiguous and in native byte order; kept in memory up to a fixed total."""

    def __init__(self, source: Sequence[Sample], limit: int | None) -> None:
        self._source = source
        self._names: Sequence[str] | None = getattr(source, "names", None)
        self._kept: dict[int, Sample] = {}
        self._bytes = 0
        self._count = len(source) if limit is None else min(limit, len(source))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Sample:
        if i in self._kept:
            return self._kept[i]
        if not 0 <= i < self._count:
            raise IndexError(i)
        sample = self._source[i]
        # A file that is mapped into memory would be read while the clock runs.
        array = np.ascontiguousarray(sample.array, sample.array.dtype.newbyteorder("="))
        sample = Sample(sample.name, array)
        if self._bytes + array.nbytes <= CACHE_BYTES:
            self._kept[i] = sample
            self._bytes += array.nbytes
        return sample

    def name(self, i: int) -> str:
        """Name of an item, without reading it where the data set knows its names."""
        return self._names[i] if self._names is not None else self[i].name


def _open(spec: DataSpec) -> Sequence[Sample]:
    samples = spec.source() if spec.root is None else spec.source(spec.root)
    if len(samples) == 0:
        raise DataNotFoundError(f"data set {spec.title!r} is empty")
    return samples


@dataclass
class Stage:
    """Coding all items of some data sets with some codecs into one journal."""

    experiment: Experiment
    out: Path
    path: Path
    progress: bool
    keys: dict[tuple[str, str, str], None] = field(default_factory=dict)
    """Of the rows in the order of the experiment; a dictionary because it is searched, too."""

    def rows(self, sets: DataSets, resume: bool) -> list[Row]:
        """Every row of the stage, in the order of the experiment."""
        from tqdm import tqdm

        self.journal = Journal(self.path)
        self.journal.keep(row for row in self.journal.rows if resume and row.error is None)
        total = len(self.experiment.codecs) * len(sets)
        with tqdm(total=total, disable=None if self.progress else True, unit="item", dynamic_ncols=True) as self.bar:
            for spec, samples in sets:
                for codec in self.experiment.codecs:
                    self._code(codec, spec, samples)
        by_key = {row.key: row for row in self.journal.rows}
        return [by_key[key] for key in self.keys]

    def _code(self, codec: CodecSpec, data: DataSpec, samples: Samples) -> None:
        self.bar.set_description(f"{data.title} | {codec.title}")
        done = {row.key for row in self.journal.rows}
        opened = _Opened(codec, data, samples, self.experiment.measure, self.out)
        size = ARCHIVE_ITEMS if opened.archives else 1
        for start in range(0, len(samples), size):
            indices = range(start, min(start + size, len(samples)))
            keys = [(codec.title, data.title, samples.name(i)) for i in indices]
            for key in keys:
                if key in self.keys:
                    raise ConfigError(f"data set {data.title!r} has two items called {key[2]!r}")
                self.keys[key] = None
            if not done.issuperset(keys):
                # Bytes of an archive are shared out among its items, so it is coded whole or not at all.
                if not done.isdisjoint(keys):
                    self.journal.keep(row for row in self.journal.rows if row.key not in keys)
                self.journal.append(opened.rows(indices))
            self.bar.update(len(keys))


class _Opened:
    """A codec that is built when its first item comes, or the reason why it cannot be."""

    def __init__(self, spec: CodecSpec, data: DataSpec, samples: Samples, measure: Measure, out: Path) -> None:
        self._spec, self._data, self._samples, self._measure, self._out = spec, data, samples, measure, out
        self._bench: Bench | None = None
        self._error: Exception | None = None

    @property
    def archives(self) -> bool:
        """Whether items are coded together; needs the codec only where the experiment asks for archives."""
        bench = self._open() if self._measure.archive else None
        return bench is not None and bench.archives

    def rows(self, indices: range) -> list[Row]:
        """A row for each item; one archive where there are several."""
        good, rows = [], []
        for i in indices:
            try:
                good.append(self._samples[i])
            except Exception as error:
                rows.append(self._failed(self._samples.name(i), error))
        bench = self._open()
        if bench is None or not good:
            return rows + [self._failed(sample.name, self._error, sample) for sample in good]
        try:
            return rows + (bench.archive(good) if bench.archives else [bench.item(sample) for sample in good])
        except Exception as error:
            # Whatever a codec raises is a result about that codec; the run goes on and counts it.
            return rows + [self._failed(sample.name, error, sample) for sample in good]

    def _failed(self, item: str, error: Exception | None, sample: Sample | None = None) -> Row:
        """The row of an item that could not be read or coded."""
        return Row(
            codec=self._spec.title,
            dataset=self._data.title,
            item=item,
            raw_bytes=None if sample is None else sample.array.nbytes,
            error=sentence(error) if error is not None else "it could not be coded",
            threads=self._measure.threads,
            bound=self._bench.codec.max_error if self._bench else None,
        )

    def _open(self) -> Bench | None:
        if self._bench is None and self._error is None:
            try:
                codec = build(self._spec, self._measure, self._out / WEIGHTS_FILE)
                shown = [self._samples.name(i) for i in range(min(ITEMS, len(self._samples)))]
            except Exception as error:
                self._error = error
                return None
            counter = codec if self._measure.band_rates else None
            pictures = CubeFolder(self._out, self._data.title, self._spec.title, shown, counter)
            self._bench = Bench(codec, self._spec.title, self._data.title, self._measure, pictures.keep)
            first = range(min(self._measure.warmup, len(self._samples)))
            self._bench.warm_up(self._samples[i] for i in first)
        return self._bench
