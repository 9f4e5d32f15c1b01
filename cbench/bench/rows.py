"""One result row for each codec and item, and the journal that survives an interruption."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cbench.errors import ConfigError
from cbench.files.atomic import atomic_write

COLUMNS = (
    "codec",
    "item",
    "dataset",
    "raw_bytes",
    "file_bytes",
    "payload_bytes",
    "theoretical_bits",
    "bpd",
    "bpp",
    "encode_s",
    "decode_s",
    "max_error",
    "psnr",
    "ms_ssim",
    "exact",
    "error",
    "threads",
)
"""Of rows.csv, in this order; rows.jsonl has the further fields of `Row`."""

SYNC_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one codec did with one item. Everything measured is None where coding failed before it."""

    codec: str
    """Label of the codec."""
    item: str
    dataset: str
    raw_bytes: int | None = None
    """Size of the raw integers."""
    file_bytes: int | None = None
    """Size of the file; in an archive, of the item's payload and its even share of all else."""
    payload_bytes: int | None = None
    """Of those, without header and checksums; equal to file_bytes for formats that we cannot look into."""
    theoretical_bits: float | None = None
    """What the codec's own model says the item costs; None: it does not say."""
    bpd: float | None = None
    """Bits per sample, of the file."""
    bpp: float | None = None
    """Bits per pixel, of the file."""
    encode_s: float | None = None
    decode_s: float | None = None
    max_error: int | None = None
    """Largest |x - x'|."""
    psnr: float | None = None
    """dB, peak: the largest value of the dtype; None: not measured, or exact."""
    ms_ssim: float | None = None
    exact: bool = False
    """Whether the decoded array equals the original."""
    error: str | None = None
    """Why the item failed; None: it did not."""
    threads: int = 1
    peak_mb: float | None = None
    """Memory taken beyond what the process had, MB; in an archive, by all its items together."""
    bound: int | None = None
    """The codec's promise: 0 lossless, k near-lossless, None lossy."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a row unique in a run."""
        return self.codec, self.dataset, self.item

    @property
    def samples(self) -> int:
        """Number of samples of the item; 0 where nothing was coded."""
        return round(8 * self.file_bytes / self.bpd) if self.file_bytes and self.bpd else 0

    @property
    def pixels(self) -> int:
        """Number of pixels of the item; 0 where nothing was coded."""
        return round(8 * self.file_bytes / self.bpp) if self.file_bytes and self.bpp else 0


class Journal:
    """rows.jsonl: one line a row, handed to the system before the next item starts.

    A process may be killed at any time; a line that it left half-written is dropped when it is opened again.
    The system is made to write to the disk once a second, so a power failure costs a second's rows: doing it
    after each of thousands of small pictures would take longer than coding them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = _read(path)
        self._synced = 0.0

    def keep(self, rows: Iterable[Row]) -> None:
        """Replace what is there, in one step."""
        self.rows = list(rows)
        with atomic_write(self.path, force=True) as temporary:
            temporary.write_text("".join(map(_line, self.rows)))

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows in one write."""
        new = list(rows)
        with self.path.open("a") as file:
            file.write("".join(map(_line, new)))
            file.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        self.rows += new


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """rows.csv: the columns of `COLUMNS`; an empty cell is None."""
    with atomic_write(path, force=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(getattr(row, column)) for column in COLUMNS])


def _cell(value: Any) -> Any:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def _line(row: Row) -> str:
    return json.dumps(asdict(row)) + "\n"


def _read(path: Path) -> list[Row]:
    """Rows of the journal, without the half line that a killed process may have left."""
    if not path.exists():
        return []
    names = {field.name for field in fields(Row)}
    lines = path.read_text().splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            values = json.loads(line)
            rows.append(Row(**{name: value for name, value in values.items() if name in names}))
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise ConfigError(f"line {number} of {path} is not a result row ({error})") from None
    return rows
