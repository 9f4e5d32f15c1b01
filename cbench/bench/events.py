"""TensorBoard events of a finished run, written without importing torch."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cbench.bench.pictures import FOLDER, slug
from cbench.bench.summary import Summary

if TYPE_CHECKING:
    from cbench.bench.report import Report

CURVES = "curves"
"""Sub-folder with one TensorBoard run for each rate-distortion curve."""
_SCALARS = (
    ("bpd", lambda s: s.bpd),
    ("bpp", lambda s: s.bpp),
    ("overhead percent", lambda s: s.overhead_percent),
    ("encode MB per s", lambda s: s.encode_mb_s),
    ("decode MB per s", lambda s: s.decode_mb_s),
    ("psnr", lambda s: s.mean(lambda row: row.psnr)),
    ("ms-ssim", lambda s: s.mean(lambda row: row.ms_ssim)),
    ("failed", lambda s: s.failed),
)


def write_events(report: Report, plots: Iterable[Path]) -> None:
    """Scalars of every codec, the plots, and the kept pictures, into the run folder.

    A rate-distortion curve is a run of its own whose steps are bits per pixel times 1000.
    """
    if report.out is None:
        return
    with _Writer(report.out) as writer:
        for summary in report.summaries():
            for name, value in _SCALARS:
                figure = value(summary)
                if figure is not None:
                    writer.scalar(f"test {summary.dataset} {name}/{summary.codec}", figure)
        for path in plots:
            writer.picture(f"plots/{path.stem}", path)
        for path in sorted((report.out / FOLDER).glob("*/*.png")):
            item, _, codec = path.stem.partition("--")
            writer.picture(f"pictures {path.parent.name}/{item} {codec or 'original'}", path)
    curves: dict[str, list[Summary]] = {}
    for summary in report.summaries():
        if summary.series:
            curves.setdefault(summary.series, []).append(summary)
    for name, points in curves.items():
        with _Writer(report.out / CURVES / slug(name)) as writer:
            for point in sorted(points, key=lambda s: s.bpp or 0):
                psnr = point.mean(lambda row: row.psnr)
                if psnr is not None and point.bpp is not None:
                    writer.scalar(f"psnr over 1000 bpp/{point.dataset}", psnr, round(1000 * point.bpp))


class _Writer:
    """An event file; those that an earlier report of this folder wrote are replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> _Writer:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("events.out.tfevents.*.report"):
            old.unlink()
        self._file = EventFileWriter(str(self._folder), filename_suffix=".report")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def scalar(self, tag: str, value: float, step: int = 0) -> None:
        """One figure."""
        from tensorboard.compat.proto.summary_pb2 import Summary as Record

        self._add(Record(value=[Record.Value(tag=tag, simple_value=float(value))]), step)

    def picture(self, tag: str, path: Path) -> None:
        """A PNG file."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary as Record

        data = path.with_suffix(".png").read_bytes()
        width, height = Image.open(io.BytesIO(data)).size
        image = Record.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._add(Record(value=[Record.Value(tag=tag, image=image)]), 0)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._file.add_event(Event(wall_time=time.time(), step=step, summary=summary))
