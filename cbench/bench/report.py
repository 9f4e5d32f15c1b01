"""What a run says: tables for the console and for report.md, rows.csv, plots and TensorBoard events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cbench.bench.config import Experiment, Reference
from cbench.bench.cubes import bound_table
from cbench.bench.metrics import bd_rate
from cbench.bench.rows import Row, write_csv
from cbench.bench.summary import Summary, by_rate, decibel, summarise, versus_best
from cbench.bench.tables import Column, aligned, markdown
from cbench.errors import ConfigError
from cbench.files.atomic import atomic_write

NOTES = """\
bpd: bits per sample, all file bits over all samples; bpd/item: mean of the items' own rates.
bpp: bits per pixel. ratio: file size over raw size.
Sizes are those of complete files, headers included, which were decoded and compared in this run.
overhead: file bits beyond what the codec's own model says. MB/s: raw megabytes (10^6 bytes) a second.
peak MB: memory taken beyond what the process had before an item, largest of all items.
PSNR and MS-SSIM are means over items; the peak of PSNR is the largest value of the dtype.
BD-rate: mean difference of bits at equal quality (piecewise cubic in log rate); negative saves bits.
"""


@dataclass(frozen=True)
class Report:
    """The result of a run."""

    name: str
    description: str
    rows: tuple[Row, ...]
    """Of the test stage."""
    validation: tuple[Row, ...] = ()
    """Of a few validation items, coded right after training."""
    series: dict[str, str] = field(default_factory=dict)
    """Label of a codec -> rate-distortion curve that it is a point of."""
    learned: frozenset[str] = frozenset()
    """Labels of codecs that come from a paper rather than from a standard."""
    references: tuple[Reference, ...] = ()
    """Published curves."""
    environment: dict[str, Any] = field(default_factory=dict)
    out: Path | None = None
    """Run folder."""

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        rows: Iterable[Row],
        *,
        validation: Iterable[Row] = (),
        environment: dict[str, Any] | None = None,
        out: Path | None = None,
    ) -> Report:
        """The report of an experiment's rows."""
        return cls(
            name=experiment.name,
            description=experiment.description,
            rows=tuple(rows),
            validation=tuple(validation),
            series={spec.title: spec.series for spec in experiment.codecs if spec.series},
            learned=frozenset(spec.title for spec in experiment.codecs if "." in spec.codec),
            references=experiment.references,
            environment=environment or {},
            out=out,
        )

    @property
    def failures(self) -> tuple[Row, ...]:
        """Rows of items that failed, in any stage."""
        return tuple(row for row in (*self.validation, *self.rows) if row.error is not None)

    def summaries(self, dataset: str | None = None) -> list[Summary]:
        """One line a codec, of one data set or of all."""
        found = summarise(self.rows, self.series)
        return [s for s in found if dataset in (None, s.dataset)]

    def references_of(self, dataset: str) -> tuple[Reference, ...]:
        """Published curves of a data set; none if only a part of it was coded."""
        items = max((len(s.rows) for s in self.summaries(dataset)), default=0)
        return tuple(r for r in self.references if (r.dataset, r.items) == (dataset, items))

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets, in order."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    def text(self) -> str:
        """Tables for a terminal."""
        return "\n".join(_sections(self, aligned)) + "\n" + _failures(self)

    def markdown(self, pictures: Sequence[Path] = ()) -> str:
        """The whole report as Markdown, with plots by their names in the run folder."""
        parts = [f"# {self.name}\n"]
        if self.description:
            parts.append(self.description + "\n")
        parts.append(_environment(self.environment))
        parts += _sections(self, markdown)
        parts += [f"![{path.stem}]({path.name})\n" for path in pictures]
        parts.append(_failures(self))
        parts.append(NOTES.replace("\n", "  \n"))
        return "\n".join(part for part in parts if part)


def write_report(report: Report) -> None:
    """rows.csv, report.md, plots (PNG and SVG) and TensorBoard events, into the report's folder."""
    if report.out is None:
        raise ConfigError("this report belongs to no run folder")
    from cbench.bench.cubes import write_cube_plots
    from cbench.bench.events import write_events
    from cbench.bench.plots import write_plots

    write_csv(report.out / "rows.csv", report.rows)
    plots = write_plots(report) + write_cube_plots(report)
    with atomic_write(report.out / "report.md", force=True) as temporary:
        temporary.write_text(report.markdown(plots))
    write_events(report, plots)


def bd_table(
    summaries: Sequence[Summary], references: Sequence[Reference] = ()
) -> list[tuple[str, float | None, float | None]]:
    """(curve, BD-rate by PSNR, BD-rate by MS-SSIM) in % of each curve against the first one; published curves last."""
    curves: dict[str, list[_Point]] = {}
    for summary in summaries:
        if summary.series and summary.good:
            point = mean_bpp(summary), _psnr(summary), _similarity(summary)
            curves.setdefault(summary.series, []).append(point)
    for reference in references:
        curves[f"{reference.label}, published"] = [(bpp, psnr, decibel(ssim)) for bpp, psnr, ssim in reference.points]
    if len(curves) < 2:
        return []
    (first, anchor), *others = curves.items()
    return [(first, 0.0, 0.0), *((name, _bd(curve, anchor, 1), _bd(curve, anchor, 2)) for name, curve in others)]


_Point = tuple[float | None, float | None, float | None]
"""Bits a pixel, PSNR in dB, MS-SSIM in dB."""


def mean_bpp(summary: Summary) -> float | None:
    """Rate of a point of a rate-distortion curve: mean over items, as its quality is."""
    return summary.mean(lambda row: row.bpp)


def _bd(curve: Sequence[_Point], anchor: Sequence[_Point], quality: int) -> float | None:
    points = [[(point[0], point[quality]) for point in c if point[quality] is not None] for c in (curve, anchor)]
    if min(map(len, points)) < 2:
        return None
    (rate, score), (anchor_rate, anchor_score) = (zip(*p, strict=True) for p in points)
    return bd_rate(rate, score, anchor_rate, anchor_score)


def _psnr(summary: Summary) -> float | None:
    return summary.mean(lambda row: row.psnr)


def _similarity(summary: Summary) -> float | None:
    return decibel(summary.mean(lambda row: row.ms_ssim))


def _sections(report: Report, render: Any) -> list[str]:
    """A heading and a table for each data set and kind of codec."""
    parts: list[str] = []
    for dataset in report.datasets:
        summaries = report.summaries(dataset)
        items = max(len(s.rows) for s in summaries)
        raw = max(s.raw_bytes for s in summaries) / 1e6
        threads = summaries[0].rows[0].threads
        plural = "" if threads == 1 else "s"
        about = f"{items} item{'' if items == 1 else 's'}, {raw:.2f} MB raw, {threads} thread{plural}"
        lossless = by_rate([s for s in summaries if s.lossless])
        lossy = [s for s in summaries if not s.lossless]
        if lossless:
            parts += _heading(render, dataset, about), render(_lossless_columns(lossless), lossless) + "\n"
            by_bound = bound_table(lossless)
            if by_bound:
                parts += _heading(render, dataset, "bits a sample under each bound"), render(*by_bound) + "\n"
        if lossy:
            parts += _heading(render, dataset, f"lossy, {about}"), render(_lossy_columns(lossy), lossy) + "\n"
        published = report.references_of(dataset)
        differences = bd_table(lossy, published)
        if differences:
            text = f"BD-rate against {differences[0][0]} (negative saves bits)"
            parts += _heading(render, dataset, text), render(_BD_COLUMNS, differences[1:]) + "\n"
        if published and lossy:
            sources = dict.fromkeys(reference.source for reference in published)
            parts.append(f"Published, not measured here: {'; '.join(sources)}.\n")
    if report.validation:
        lines = summarise(report.validation, {})
        parts += _heading(render, lines[0].dataset, f"{len(lines[0].rows)} items"), ""
        parts[-1] = render(_lossless_columns(lines), lines) + "\n"
    return parts


def _heading(render: Any, dataset: str, about: str) -> str:
    return f"## {dataset}\n\n{about}\n" if render is markdown else f"{dataset}: {about}"


def _lossless_columns(summaries: Sequence[Summary]) -> list[Column]:
    def compared(s: Summary) -> str | None:
        more = versus_best(s, summaries)
        return None if more is None else f"+{more:.1f} %" if more else "best"

    columns = [
        Column("codec", lambda s: s.codec),
        Column("bpd", lambda s: s.bpd, "{:.4f}"),
        Column("bpd/item", lambda s: s.mean(lambda row: row.bpd), "{:.4f}"),
        Column("vs best", compared),
        Column("ratio", lambda s: s.ratio, "{:.3f}"),
    ]
    if any(s.overhead_percent is not None for s in summaries):
        columns.append(Column("overhead", lambda s: s.overhead_percent, "{:.2f} %"))
    if any(s.bound for s in summaries):
        columns.append(Column("max error", lambda s: s.max_error, "{}"))
    return columns + _COST_COLUMNS


def _lossy_columns(summaries: Sequence[Summary]) -> list[Column]:
    columns = [
        Column("codec", lambda s: s.codec),
        Column("bpp", lambda s: s.bpp, "{:.4f}"),
        Column("bpp/item", mean_bpp, "{:.4f}"),
    ]
    if any(_psnr(s) is not None for s in summaries):
        columns.append(Column("PSNR dB", _psnr, "{:.2f}"))
    if any(s.mean(lambda row: row.ms_ssim) is not None for s in summaries):
        columns.append(Column("MS-SSIM", lambda s: s.mean(lambda row: row.ms_ssim), "{:.5f}"))
    if any(s.overhead_percent is not None for s in summaries):
        columns.append(Column("overhead", lambda s: s.overhead_percent, "{:.2f} %"))
    return [*columns, Column("max error", lambda s: s.max_error, "{}"), *_COST_COLUMNS]


_COST_COLUMNS = [
    Column("enc MB/s", lambda s: s.encode_mb_s, "{:.3g}"),
    Column("dec MB/s", lambda s: s.decode_mb_s, "{:.3g}"),
    Column("peak MB", lambda s: s.peak_mb, "{:.1f}"),
    Column("exact", lambda s: f"{s.exact}/{len(s.rows)}"),
    Column("failed", lambda s: s.failed, "{}"),
]
_BD_COLUMNS = [
    Column("curve", lambda line: line[0]),
    Column("by PSNR", lambda line: line[1], "{:+.1f} %"),
    Column("by MS-SSIM", lambda line: line[2], "{:+.1f} %"),
]


def _failures(report: Report, at_most: int = 20) -> str:
    """The failures by codec and reason; an empty text where there is none."""
    failures = report.failures
    if not failures:
        return ""
    lines = [f"{len(failures)} of {len(report.rows) + len(report.validation)} items FAILED:", ""]
    reasons: dict[tuple[str, str, str | None], list[str]] = {}
    for row in failures:
        reasons.setdefault((row.codec, row.dataset, row.error), []).append(row.item)
    for (codec, dataset, error), names in list(reasons.items())[:at_most]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"- {codec}, {dataset}, {names[0]}{more}: {error}")
    left = len(reasons) - at_most
    return "\n".join([*lines, f"- and {left} more reasons, in rows.csv"] if left > 0 else lines) + "\n"


def _environment(values: dict[str, Any]) -> str:
    if not values:
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in values["packages"].items())
    commit = f", commit {values['commit'][:12]}" if values["commit"] else ""
    return (
        f"cbench {values['cbench']}{commit}, {values['date']}; {values['cpu']}, {values['cores']} cores, "
        f"{values['threads']} in use; Python {values['python']}, {packages}.\n"
    )
