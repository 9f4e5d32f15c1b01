"""Cubes in a report: rates by error bound and by band, and what an error bound does to the picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from cbench.bench.pictures import PictureFolder, false_colour, slug
from cbench.bench.plots import FAINT, GRID, PALETTE, new_figure, save_figure, set_title
from cbench.bench.summary import Summary
from cbench.bench.tables import Column
from cbench.codec import Sample
from cbench.files.atomic import atomic_write

if TYPE_CHECKING:
    from cbench.bench.report import Report

FOLDER = "bands"
MOST_BANDS_OF_A_PICTURE = 4
PANELS = 3
"""Error bounds for which rates by band are drawn: the first, a middle and the last one of an experiment."""


@runtime_checkable
class CountsBandBits(Protocol):
    """A codec that can say what each band takes of the stream that it writes."""

    def band_bits(self, array: np.ndarray) -> np.ndarray:
        """(C, H, W) samples -> bits of each band, (C,)."""
        ...


@dataclass(frozen=True)
class BandRates:
    """What each band of one item cost with one codec."""

    codec: str
    """Label."""
    dataset: str
    item: str
    bound: int
    rates: tuple[float, ...]
    """Bits a sample of the real stream, band by band, without headers."""


class CubeFolder(PictureFolder):
    """A `PictureFolder` that shows cubes as maps and, where it is given a codec that can say, keeps rates by band."""

    def __init__(self, out: Path, dataset: str, label: str, items: Iterable[str], codec: object | None) -> None:
        super().__init__(out, dataset, label, items)
        self._out, self._dataset, self._label, self._counter = out, dataset, label, codec

    def keep(self, sample: Sample, decoded: np.ndarray) -> None:
        """See `PictureFolder.keep`."""
        if sample.name not in self._items:
            return
        if len(sample.array) <= MOST_BANDS_OF_A_PICTURE:
            super().keep(sample, decoded)
            return
        if isinstance(self._counter, CountsBandBits):
            self._keep_rates(sample, self._counter)
        if np.array_equal(sample.array, decoded):
            super().keep(sample, decoded)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{slug(sample.name)}--{self._codec}.png"
        error_map(sample.array, decoded, f"{sample.name}, {self._label}").savefig(path, dpi=110)

    def _keep_rates(self, sample: Sample, codec: CountsBandBits) -> None:
        x = sample.array
        rates = np.asarray(codec.band_bits(x), np.float64) / (x.shape[1] * x.shape[2])
        bound = getattr(codec, "max_error", None) or 0
        kept = BandRates(self._label, self._dataset, sample.name, bound, tuple(np.round(rates, 4).tolist()))
        folder = self._out / FOLDER / slug(self._dataset)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / f"{slug(sample.name)}--{self._codec}.json", force=True) as temporary:
            temporary.write_text(json.dumps(asdict(kept)) + "\n")


def error_map(x: np.ndarray, y: np.ndarray, text: str) -> Any:
    """A figure: original and reconstruction (C, H, W) in false colour, and each pixel's mean error over the bands.

    (Its largest error is the bound nearly everywhere and would show nothing.)
    """
    height, width = x.shape[1:]
    figure, panels = new_figure(9.6, min(max(3.0 * height / width, 1.0), 6.0) + 0.7, 3)
    for panel, cube, name in zip(panels, (x, y), ("original", "decoded"), strict=False):
        panel.imshow(false_colour(cube, like=x), interpolation="nearest")
        panel.set_title(f"{name}, false colour", loc="left", fontsize=9, color=FAINT)
    error = np.abs(x.astype(np.int64) - y)
    shown = panels[2].imshow(error.mean(axis=0), cmap="magma", vmin=0, interpolation="nearest")
    panels[2].set_title("mean error over the bands", loc="left", fontsize=9, color=FAINT)
    bar = figure.colorbar(shown, ax=panels[2], fraction=0.046 * min(1.0, height / width), pad=0.03)
    bar.ax.tick_params(labelsize=8, length=0)
    for panel in panels:
        panel.set_axis_off()
    set_title(figure, text, f"maximal error {error.max()}, mean {error.mean():.2f}")
    return figure


def write_cube_plots(report: Report) -> list[Path]:
    """Rates over error bounds and rates by band, where the run has them; returns the PNG files."""
    if report.out is None:
        return []
    written = []
    for dataset in report.datasets:
        points = [s for s in report.summaries(dataset) if s.bound is not None and s.good and not s.failed]
        if len({s.bound for s in points}) > 1:
            written.append(save_figure(_bounds_plot(dataset, points), report.out / f"rate-bound-{slug(dataset)}"))
    known = {row.codec for row in report.rows}
    found: dict[tuple[str, str], list[BandRates]] = {}
    for path in sorted((report.out / FOLDER).glob("*/*.json")):
        kept = BandRates(**json.loads(path.read_text()))
        if kept.codec in known:
            found.setdefault((kept.dataset, kept.item), []).append(kept)
    for (dataset, item), rates in found.items():
        stem = f"bands-{slug(dataset)}-{slug(item)}"
        written.append(save_figure(_bands_plot(report, item, rates), report.out / stem))
    return written


def bound_table(summaries: Sequence[Summary]) -> tuple[list[Column], list[Any]] | None:
    """Bits a sample, a line for each curve and a column for each error bound; None where there is one bound only."""
    bounds = sorted({s.bound for s in summaries if s.bound is not None})
    if len(bounds) < 2:
        return None
    lines: dict[str, dict[int | None, float | None]] = {}
    for s in summaries:
        if s.good and not s.failed:
            lines.setdefault(s.series or s.codec, {})[s.bound] = s.bpd
    columns = [Column("maximal error", lambda line: line[0])]
    columns += [Column(str(bound), _rate_at(bound), "{:.3f}") for bound in bounds]
    return columns, sorted(lines.items(), key=lambda line: (-len(line[1]), sum(v or 0 for v in line[1].values())))


def _rate_at(bound: int) -> Callable[[Any], float | None]:
    return lambda line: line[1].get(bound)


def _bounds_plot(dataset: str, points: Sequence[Summary]) -> Any:
    """Bits a sample over the error bound, one curve a series."""
    figure, (panel,) = new_figure(7.0, 4.4, 1)
    curves: dict[str, list[tuple[int, float]]] = {}
    for s in points:
        curves.setdefault(s.series or s.codec, []).append((s.bound or 0, s.bpd or 0.0))
    for number, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[number % len(PALETTE)]
        panel.plot(*zip(*sorted(curve), strict=True), color=colour, marker="o", markersize=4, linewidth=1.6, label=name)
    bounds = sorted({s.bound or 0 for s in points})
    panel.set_xscale("symlog", linthresh=1)
    panel.set_xticks(bounds, [str(bound) for bound in bounds])
    panel.minorticks_off()
    panel.set_ylim(bottom=0)
    _finish(panel, "maximal error", "bits per sample, complete files")
    set_title(figure, dataset, "rate under a bound of the error")
    return figure


def _bands_plot(report: Report, item: str, rates: Sequence[BandRates]) -> Any:
    """Bits a sample of each band, a panel for some of the error bounds."""
    bounds = sorted({r.bound for r in rates})
    bounds = sorted({bounds[0], bounds[len(bounds) // 2], bounds[-1]})[:PANELS]
    figure, panels = new_figure(5.2 * len(bounds) + 0.8, 4.0, len(bounds))
    names = list(dict.fromkeys(report.series.get(r.codec) or r.codec for r in rates))
    for panel, bound in zip(panels, bounds, strict=True):
        for r in (r for r in rates if r.bound == bound):
            name = report.series.get(r.codec) or r.codec
            colour = PALETTE[names.index(name) % len(PALETTE)]
            mean = sum(r.rates) / len(r.rates)
            panel.plot(range(1, len(r.rates) + 1), r.rates, color=colour, linewidth=1.1, label=f"{name} {mean:.3f}")
        panel.set_ylim(bottom=0)
        panel.set_title(f"maximal error {bound}" if bound else "lossless", loc="left", fontsize=9, color=FAINT)
        _finish(panel, "band", "bits per sample, real stream without headers" if panel is panels[0] else "")
    set_title(figure, item, "what each band costs")
    return figure


def _finish(panel: Any, horizontal: str, vertical: str) -> None:
    panel.grid(True, color=GRID)
    panel.set_xlabel(horizontal, color=FAINT, fontsize=9)
    panel.set_ylabel(vertical, color=FAINT, fontsize=9)
    panel.legend(fontsize=8, frameon=False)
