"""Published curves: named as such, drawn, and never shown beside another data set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cbench.bench.config import Reference
from cbench.bench.report import Report, bd_table, write_report
from cbench.bench.rows import Row

POINTS = {"a": (0.25, 30.0), "b": (0.5, 33.0), "c": (1.0, 36.0)}


def row(codec: str, item: int) -> Row:
    bpp, psnr = POINTS[codec]
    sizes = {"raw_bytes": 300, "file_bytes": 100, "payload_bytes": 90, "encode_s": 0.1, "decode_s": 0.1}
    return Row(codec=codec, item=str(item), dataset="Kodak", bpd=bpp / 3, bpp=bpp, psnr=psnr, max_error=9, **sizes)


REFERENCE = Reference(
    label="M",
    dataset="Kodak",
    items=2,
    points=((0.125, 30.0, None), (0.5, 36.0, 0.99), (9.0, 60.0, 0.999)),
    source="a paper",
)
REPORT = Report(
    name="test",
    description="",
    rows=tuple(row(codec, item) for codec in POINTS for item in range(2)),
    series=dict.fromkeys(POINTS, "JPEG"),
    references=(REFERENCE,),
)


def test_published_curves_are_in_the_table_and_named():
    text = REPORT.text()
    assert "M, published" in text
    assert "Published, not measured here: a paper." in text
    table = bd_table(REPORT.summaries("Kodak"), REPORT.references_of("Kodak"))
    assert [line[0] for line in table] == ["JPEG", "M, published"]
    assert table[1][1] == pytest.approx(-50, abs=5)
    assert table[1][2] is None


def test_they_belong_to_their_data_set():
    for other in (replace(REFERENCE, items=24), replace(REFERENCE, dataset="CLIC")):
        report = replace(REPORT, references=(other,))
        assert report.references_of("Kodak") == ()
        assert "published" not in report.text()


def test_they_are_drawn(tmp_path):
    write_report(replace(REPORT, out=tmp_path))
    svg = (tmp_path / "rate-distortion-Kodak.svg").read_text()
    assert "dashed: published" in svg
    assert ">M<" in svg
