"""What a report shows of cubes: rates by error bound and by band, error maps."""

import json

import numpy as np
import pytest

import cbench
from cbench.bench.config import CodecSpec, DataSpec, Experiment, Measure
from cbench.bench.cubes import CountsBandBits, bound_table, error_map
from cbench.bench.run import run
from cbench.codec import Sample
from cbench.data import samples

CODECS = ("rls.fast", "ccsds123", "ccsds123.best", "linerwkv.xs", "linerwkv.xs-ccsds")


def cube() -> np.ndarray:
    return samples.make_cube(bands=12, lines=20, columns=24)


def one_cube() -> list[Sample]:
    return [Sample("scene", cube())]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("bound", [0, 3])
def test_bits_of_the_bands_add_up_to_the_stream(name, bound):
    codec, x = cbench.load_codec(name).with_max_error(bound), cube()
    assert isinstance(codec, CountsBandBits)
    bits = np.asarray(codec.band_bits(x))
    payload = 8 * len(codec.encode(x)[0])
    assert bits.shape == (12,) and (bits > 0).all()
    assert 0 <= payload - bits.sum() < 600, "framing, statistics of the standard's hybrid coder, the last byte"


def test_report_of_cubes(tmp_path):
    codecs = tuple(
        CodecSpec(codec=name, label=f"{name} error {bound}", max_error=bound, series=name)
        for name in ("rls.fast", "ccsds123")
        for bound in (0, 2, 9)
    )
    experiment = Experiment(
        name="cubes",
        codecs=(*codecs, CodecSpec(codec="jpegls")),
        data=(DataSpec(source=one_cube, name="one"),),
        measure=Measure(warmup=0, band_rates=True),
    )
    report = run(experiment, tmp_path / "run", progress=False)
    assert not report.failures
    columns, lines = bound_table(report.summaries("one"))
    assert [column.title for column in columns] == ["maximal error", "0", "2", "9"]
    rates = dict(lines)["rls.fast"]
    assert rates[0] > rates[2] > rates[9]
    there = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"rate-bound-one.png", "bands-one-scene.png"} <= there
    kept = json.loads((tmp_path / "run/bands/one/scene--ccsds123-error-9.json").read_text())
    assert kept["bound"] == 9 and len(kept["rates"]) == 12
    pictures = {path.name for path in (tmp_path / "run/pictures/one").iterdir()}
    assert pictures == {
        "scene.png",
        *(f"scene--{name}-error-{d}.png" for name in ("rls.fast", "ccsds123") for d in (2, 9)),
    }
    text = (tmp_path / "run/report.md").read_text()
    assert "bits a sample under each bound" in text and "bands-one-scene.png" in text


@pytest.mark.parametrize("shape", [(5, 1, 1), (7, 60, 8), (6, 8, 300)])
def test_error_maps_of_any_shape(shape, tmp_path):
    x = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    error_map(x, x + np.uint16(1), "a map").savefig(tmp_path / "map.png")
