"""Bars for lossless codecs and rate-distortion curves for lossy ones, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cbench.bench.pictures import slug
from cbench.bench.summary import Summary, by_rate, decibel, versus_best

if TYPE_CHECKING:
    from cbench.bench.report import Report

_INK, FAINT, GRID = "#22303c", "#6b7a89", "#e3e8ec"
_STANDARD, _NEAR, _LEARNED = "#9fb3c8", "#cfdae4", "#d1495b"
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#5f6b76")
"""Told apart by people of all kinds of colour vision; one colour a curve, in the order of the experiment."""
_PUBLISHED = ("#7f6a93", "#a8743f", "#4f8a76", "#b0586f", "#22303c")
_BEYOND = 1.1
"""Published curves end at this times the largest rate that was measured."""
_LEARNED_WIDTH, _STANDARD_WIDTH = 2.6, 1.7


def write_plots(report: Report) -> list[Path]:
    """One PNG and one SVG for each data set and kind of codec; returns the PNG files.

    Lossless codecs that failed on an item are left out, since their rate is not of the same items.
    """
    if report.out is None:
        return []
    written = []
    for dataset in report.datasets:
        summaries = report.summaries(dataset)
        lossless = [s for s in by_rate(summaries) if s.lossless and s.good and not s.failed]
        lossy = [s for s in summaries if not s.lossless and s.good]
        name = slug(dataset)
        if lossless:
            written.append(save_figure(_bars(report, dataset, lossless), report.out / f"lossless-{name}"))
        if any(_psnr(s) is not None for s in lossy):
            written.append(save_figure(_curves(report, dataset, lossy), report.out / f"rate-distortion-{name}"))
    return written


def save_figure(figure: Any, stem: Path) -> Path:
    """Write a figure as SVG and PNG; returns the PNG's path."""
    # Text stays text in the SVG, and no date is written: the same figures give the same file.
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cbench"}):
        figure.savefig(stem.with_name(stem.name + ".svg"), metadata={"Date": None})
    path = stem.with_name(stem.name + ".png")
    figure.savefig(path, dpi=160)
    return path


def new_figure(width: float, height: float, panels: int) -> tuple[Any, list[Any]]:
    """A figure that belongs to no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(FAINT)
        panel.tick_params(colors=_INK, labelsize=9, length=0)
        panel.set_axisbelow(True)
    return figure, axes


def _bars(report: Report, dataset: str, summaries: Sequence[Summary]) -> Any:
    """Bits per sample, smallest on top, every bar with its figure."""
    figure, (panel,) = new_figure(7.2, 1.1 + 0.34 * len(summaries), 1)
    places = range(len(summaries))
    rates = [s.bpd or 0 for s in summaries]
    colours = [_LEARNED if s.codec in report.learned else _NEAR if s.bound else _STANDARD for s in summaries]
    panel.barh(places, rates, color=colours, height=0.72)
    for place, (summary, rate) in enumerate(zip(summaries, rates, strict=True)):
        percent = versus_best(summary, summaries)
        more = f"  +{percent:.1f} %" if percent else ""
        panel.text(rate, place, f" {rate:.3f}", va="center", fontsize=9, color=_INK)
        panel.text(rate, place, f"            {more}", va="center", fontsize=8, color=FAINT)
        if summary.codec in report.learned:
            panel.text(0, place, "  learned", va="center", fontsize=8, color="white")
    panel.set_yticks(places, [s.codec for s in summaries])
    panel.invert_yaxis()
    panel.set_xlim(0, 1.22 * max(rates))
    panel.xaxis.grid(True, color=GRID)
    panel.spines["bottom"].set_visible(False)
    panel.set_xlabel("bits per sample, complete files (smaller is better)", color=FAINT, fontsize=9)
    items = len(summaries[0].rows)
    kind = "lossless and (paler) near-lossless" if any(s.bound for s in summaries) else "lossless"
    set_title(figure, dataset, f"{kind}, {items} item{'' if items == 1 else 's'}")
    return figure


def _curves(report: Report, dataset: str, summaries: Sequence[Summary]) -> Any:
    """Quality over bits per pixel, means over items, every curve with its name at its end."""
    panels = [("PSNR in dB", _psnr)]
    if any(_similarity(s) is not None for s in summaries):
        panels.append(("MS-SSIM in dB, -10 log10(1 - x)", _similarity))
    figure, axes = new_figure(6.4 * len(panels) + 0.6, 5.0, len(panels))
    names = list(dict.fromkeys(s.series or s.codec for s in summaries))
    for panel, (label, quality) in zip(axes, panels, strict=True):
        ends = []
        for number, name in enumerate(names):
            points = sorted(
                (rate, score)
                for s in summaries
                if (s.series or s.codec) == name
                and (rate := s.mean(lambda row: row.bpp)) is not None
                and (score := quality(s)) is not None
            )
            if points:
                learned = any(s.codec in report.learned for s in summaries if (s.series or s.codec) == name)
                _curve(panel, points, PALETTE[number % len(PALETTE)], learned)
                ends.append((*points[-1], name, PALETTE[number % len(PALETTE)]))
        published = report.references_of(dataset)
        reach = _BEYOND * max((rate for rate, *_ in ends), default=0)
        for number, reference in enumerate(published):
            points = sorted(
                (rate, score)
                for rate, psnr, ms_ssim in reference.points
                if rate <= reach and (score := psnr if quality is _psnr else decibel(ms_ssim)) is not None
            )
            if points:
                colour = _PUBLISHED[number % len(_PUBLISHED)]
                panel.plot(*zip(*points, strict=True), color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
                ends.append((*points[-1], reference.label, colour))
        panel.grid(True, color=GRID)
        panel.set_xlim(left=0)
        about = "bits per pixel, complete files" + ("; dashed: published" if published else "")
        panel.set_xlabel(about, color=FAINT, fontsize=9)
        panel.set_title(label, loc="left", fontsize=9, color=FAINT)
        _label_ends(panel, ends)
    items = len(summaries[0].rows)
    set_title(figure, dataset, f"lossy, mean of {items} item{'' if items == 1 else 's'}")
    return figure


def _curve(panel: Any, points: Sequence[tuple[float, float]], colour: str, learned: bool) -> None:
    panel.plot(
        *zip(*points, strict=True),
        color=colour,
        linewidth=_LEARNED_WIDTH if learned else _STANDARD_WIDTH,
        marker="o",
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.8,
    )


def _label_ends(panel: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right edge, in the order of the curves' ends and pushed apart, each with a thin leader."""
    right = max((x for x, *_ in ends), default=1)
    low, high = panel.get_ylim()
    panel.set_xlim(0, 1.3 * right)
    panel.set_ylim(low, high)
    gap, place = 0.052 * (high - low), high + 1
    for x, y, name, colour in sorted(ends, key=lambda end: -end[1]):
        place = min(y, place - gap)
        panel.plot([x, 1.045 * right], [y, place], color=colour, linewidth=0.6, alpha=0.5)
        panel.text(1.055 * right, place, name, color=colour, va="center", fontsize=9, fontweight="bold")


def set_title(figure: Any, dataset: str, about: str) -> None:
    """One bold line above a figure."""
    figure.suptitle(f"{dataset}: {about}", x=0.01, ha="left", fontsize=11, color=_INK, fontweight="bold")


def _psnr(summary: Summary) -> float | None:
    return summary.mean(lambda row: row.psnr)


def _similarity(summary: Summary) -> float | None:
    return decibel(summary.mean(lambda row: row.ms_ssim))
