"""The runner: rows that add up, failures that count, runs that survive a kill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from made_experiments import HEAD, Archiver, Broken, experiment, fixed, png_spec, tiny, trained, write

from cbench.bench import classical, loading, peers
from cbench.bench.config import CodecSpec, Measure
from cbench.bench.main import default_folder, main
from cbench.bench.rows import COLUMNS, Journal, Row
from cbench.bench.run import run
from cbench.errors import ConfigError, DataNotFoundError

ROOT = Path(__file__).resolve().parent.parent


def test_a_run_leaves_everything_that_is_promised(tmp_path):
    lossy = tuple(
        CodecSpec(codec="jpeg", label=f"j{q}", series="J", build=partial(classical.jpeg, quality=q)) for q in (20, 90)
    )
    spec = experiment(png_spec(), *lossy, measure=Measure(psnr=True), description="A test.")
    report = run(spec, tmp_path / "out", progress=False)
    assert len(report.rows) == 9 and not report.failures
    there = {path.name for path in (tmp_path / "out").iterdir()}
    wanted = "config.json env.json rows.jsonl rows.csv report.md lossless-tiny.png lossless-tiny.svg"
    assert there >= {*wanted.split(), "rate-distortion-tiny.png", "rate-distortion-tiny.svg", "pictures"}
    assert any(name.startswith("events.out.tfevents") for name in there)
    with (tmp_path / "out/rows.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert [row["codec"] for row in table] == ["png"] * 3 + ["j20"] * 3 + ["j90"] * 3
    first = report.rows[0]
    assert first.exact and first.max_error == 0 and first.raw_bytes == 3 * 24 * 24
    assert first.bpd == 8 * first.file_bytes / first.raw_bytes
    assert first.bpp == pytest.approx(3 * first.bpd)
    assert first.samples == 3 * 24 * 24 and first.pixels == 24 * 24
    assert report.rows[-1].psnr > report.rows[3].psnr > 20 and first.psnr is None
    text = (tmp_path / "out/report.md").read_text()
    assert "# t" in text and "A test." in text and "![lossless-tiny](lossless-tiny.png)" in text
    assert "3/3" in report.text()


def test_events_can_be_read(tmp_path):
    run(experiment(), tmp_path, progress=False)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert "test tiny bpd/png" in events.Tags()["scalars"]
    assert {"plots/lossless-tiny", "pictures tiny/item0 original"} <= set(events.Tags()["images"])


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("compress", "RuntimeError: no way (made_experiments.py:"),
        ("decode", "bad bits"),
        ("shape", "decoded to (3, 23, 24)"),
        ("value", "maximal error 4 exceeds the codec's bound 0"),
    ],
)
def test_failures_are_rows_and_the_run_goes_on(tmp_path, fault, text):
    broken = CodecSpec(codec="broken", build=fixed(Broken(fault)))
    report = run(experiment(broken, png_spec()), tmp_path, progress=False)
    assert len(report.rows) == 6 and report.failures
    assert all(row.codec == "broken" and text in row.error for row in report.failures)
    assert all(row.raw_bytes == 3 * 24 * 24 and not row.exact for row in report.failures)
    assert "FAILED" in report.text() and text in report.markdown()
    assert sum(1 for row in report.rows if row.exact) == 6 - len(report.failures)


def test_a_lossy_codec_may_be_inexact_and_a_bound_is_checked(tmp_path):
    specs = (
        CodecSpec(codec="lossy", build=fixed(Broken("value", max_error=None))),
        CodecSpec(codec="near4", build=fixed(Broken("value", max_error=4))),
        CodecSpec(codec="near3", build=fixed(Broken("value", max_error=3))),
        CodecSpec(codec="jpegls", build=classical.jpegls, max_error=2, label="near"),
    )
    report = run(experiment(*specs), tmp_path, progress=False)
    assert {row.codec for row in report.failures} == {"near3"}
    near = next(s for s in report.summaries() if s.codec == "near")
    assert near.bound == 2 and near.max_error == 2 and near.exact == 0
    summary = report.summaries()[0]
    assert summary.overhead_percent == pytest.approx(100 * (8 / 7.5 - 1))


def test_codecs_that_cannot_be_built_and_items_that_cannot_be_read_are_failures(tmp_path):
    class Damaged(list):
        def __getitem__(self, i):
            if i == 1:
                raise OSError("disk")
            return list.__getitem__(self, i)

        @property
        def names(self):
            return [sample.name for sample in self]

    specs = (
        CodecSpec(codec="no-such-codec"),
        replace(png_spec("bound"), max_error=3),
        png_spec(),
    )
    report = run(experiment(*specs, source=lambda: Damaged(tiny())), tmp_path, progress=False)
    errors = {(row.codec, row.item): row.error for row in report.failures}
    assert len(report.rows) == 9 and len(errors) == 7
    assert "no-such-codec" in errors["no-such-codec", "item0"]
    assert "takes no error bound" in errors["bound", "item0"]
    assert "disk" in errors["png", "item1"]


def test_archive_rows_add_up_to_the_bytes_of_the_archive(tmp_path, monkeypatch):
    spec = CodecSpec(codec="archiver", build=fixed(Archiver()))
    base = experiment(spec, png_spec(), source=partial(tiny, 10), measure=Measure(archive=True))
    report = run(replace(base, data=(replace(base.data[0], name="tiny"),)), tmp_path, progress=False)
    rows = [row for row in report.rows if row.codec == "archiver"]
    data = Archiver().compress_many([sample.array for sample in tiny(10)])
    assert sum(row.file_bytes for row in rows) == len(data)
    assert [row.payload_bytes for row in rows] == [100 + 7 * i for i in range(10)]
    assert not report.failures and sum(row.codec == "png" for row in report.rows) == 10
    # A partly written archive is coded again as a whole.
    journal = tmp_path / "rows.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:4]))
    again = run(replace(base, data=(replace(base.data[0], name="tiny"),)), tmp_path, progress=False, resume=True)
    assert [row.key for row in again.rows] == [row.key for row in report.rows]
    assert len(journal.read_text().splitlines()) == 20


def test_a_torn_line_is_dropped_and_damage_elsewhere_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    journal = Journal(path)
    rows = [Row(codec="c", item=str(i), dataset="d") for i in range(3)]
    journal.append(rows)
    whole = path.read_text()
    for cut in range(len(whole.splitlines(keepends=True)[-1])):
        path.write_text(whole[: len(whole) - cut] if cut else whole)
        assert Journal(path).rows == rows[: 3 if cut == 0 else 2]
    path.write_text("nonsense\n" + whole)
    with pytest.raises(ConfigError, match="line 1"):
        _ = Journal(path).rows


def test_resume_repeats_failures_and_only_those(tmp_path):
    class Flaky(Broken):
        calls = 0

        def compress(self, array):
            Flaky.calls += 1
            return super().compress(array)

    codec = Flaky("decode")
    spec = experiment(CodecSpec(codec="flaky", build=fixed(codec)), measure=Measure(warmup=0))
    first = run(spec, tmp_path, progress=False)
    assert len(first.failures) == 3
    codec.fault = ""
    second = run(spec, tmp_path, progress=False, resume=True)
    assert not second.failures and len(second.rows) == 3
    before = Flaky.calls
    run(spec, tmp_path, progress=False, resume=True)
    assert Flaky.calls == before
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


def test_runs_are_not_mixed_up(tmp_path):
    spec = experiment()
    run(spec, tmp_path, progress=False)
    with pytest.raises(ConfigError, match="already holds a run"):
        run(spec, tmp_path, progress=False)
    other = experiment(png_spec(build=partial(classical.png, level=1)))
    with pytest.raises(ConfigError, match="another 'png' in codecs"):
        run(other, tmp_path, progress=False, resume=True)
    with pytest.raises(ConfigError, match="other settings"):
        run(replace(spec, measure=Measure(threads=2)), tmp_path, progress=False, resume=True)
    more = experiment(png_spec(), CodecSpec(codec="qoi", build=classical.qoi))
    assert len(run(more, tmp_path, progress=False, resume=True).rows) == 6
    with pytest.raises(ConfigError, match="two items"):
        run(experiment(source=lambda: tiny() + tiny(1)), tmp_path / "twice", progress=False)
    with pytest.raises(DataNotFoundError, match="empty"):
        run(experiment(source=list), tmp_path / "empty", progress=False)
    with pytest.raises(ConfigError, match="nothing to train"):
        run(spec, tmp_path / "x", only="train")
    with pytest.raises(ConfigError, match="only"):
        run(spec, tmp_path / "x", only="tests")
    with pytest.raises(ConfigError, match="twice"):
        experiment(png_spec(), png_spec())


SLOW_CONFIG = '''
"""Slow enough to be killed half-way."""
import time
import numpy as np
from cbench.bench.config import CodecSpec, DataSpec, Experiment, Measure
from cbench.codec import Sample

class Slow:
    name, max_error = "slow", 0
    def compress(self, array):
        time.sleep(0.03)
        return array.tobytes()
    def decompress(self, data):
        return np.frombuffer(data, np.uint8).reshape(1, 4, 4)

def source():
    return [Sample(f"i{n}", np.full((1, 4, 4), n, np.uint8)) for n in range(12)]

def build(weights, device, threads):
    return Slow()

def config() -> Experiment:
    codecs = tuple(CodecSpec(codec="slow", label=label, build=build) for label in ("a", "b", "c"))
    return Experiment(name="slow", codecs=codecs, data=(DataSpec(source=source),), measure=Measure(warmup=0))
'''


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_resumes_without_losing_or_repeating_a_row(tmp_path):
    config, out = tmp_path / "slow.py", tmp_path / "out"
    config.write_text(SLOW_CONFIG)
    command = [sys.executable, str(ROOT / "tools/run_benchmark.py"), str(config), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = 0
    for _ in range(3):
        extra = ["--resume"] if out.exists() else []
        process = subprocess.Popen(
            [*command, *extra], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        journal = out / "rows.jsonl"
        while process.poll() is None:
            if journal.exists() and len(journal.read_bytes().splitlines()) >= finished + 7:
                os.kill(process.pid, signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
        finished = len(Journal(journal).rows)
    # What a write that was cut off leaves behind.
    with journal.open("a") as file:
        file.write('{"codec": "c", "it')
    result = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    wanted = [(label, "source", f"i{n}") for label in "abc" for n in range(12)]
    with (out / "rows.csv").open() as file:
        assert [(r["codec"], r["dataset"], r["item"]) for r in csv.DictReader(file)] == wanted
    assert sorted(row.key for row in Journal(journal).rows) == sorted(wanted)
    # The folder itself can be tested again.
    again = subprocess.run(
        [*command[:2], str(out), "--set", "data.0.limit=2"], env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert len((tmp_path / "out-again/rows.jsonl").read_text().splitlines()) == 6


def test_training_comes_first_and_its_weights_are_tested(tmp_path, monkeypatch):
    calls = []

    def fit(spec, out, *, resume=False, progress=True):
        calls.append(resume)
        (out / "weights.safetensors").write_bytes(b"x")
        return out / "weights.safetensors"

    module = type(sys)("cbench.train.fit")
    module.fit = fit
    monkeypatch.setitem(sys.modules, "cbench.train.fit", module)
    spec = trained()
    with pytest.raises(DataNotFoundError, match="train first"):
        run(spec, tmp_path / "none", only="test", progress=False)
    report = run(spec, tmp_path, only="train", progress=False)
    assert calls == [False] and not report.rows and len(report.validation) == 3
    assert "validation: tiny" in report.text()
    with pytest.raises(ConfigError, match="already holds"):
        run(spec, tmp_path, only="train", progress=False)
    report = run(spec, tmp_path, only="test", progress=False)
    assert len(report.rows) == 6 and calls == [False]
    run(spec, tmp_path, resume=True, progress=False)
    assert calls == [False, True]
    # Only the first process of a distributed training tests.
    monkeypatch.setenv("RANK", "1")
    assert not run(spec, tmp_path, resume=True, progress=False).rows


def test_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = loading.Loaded(experiment(), "x.py:config")
    base = Path("experiments/t")
    assert default_folder(loaded, None, False) == base
    base.mkdir(parents=True)
    assert default_folder(loaded, None, False) == base.with_name("t-2")
    assert default_folder(loaded, None, True) == base
    base.with_name("t-2").mkdir()
    assert default_folder(loaded, None, True) == base.with_name("t-2")
    assert default_folder(replace(loaded, experiment=trained()), "test", False) == base.with_name("t-2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert default_folder(loaded, None, False) == base
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert default_folder(loaded, None, False) == base.with_name("t-2")
    folder = replace(loaded, folder=base)
    assert default_folder(folder, None, False) == base.with_name("t-again")


def test_the_command_line_has_the_documented_arguments(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["--help"], prog="cbench bench")
    text = capsys.readouterr().out
    assert stop.value.code == 0 and text.startswith("usage: cbench bench")
    flags = {word.strip(",[]") for word in text.split() if word.startswith(("--", "[--"))}
    assert flags == {"--help", "--set", "--out", "--only", "--resume"}
    with pytest.raises(SystemExit) as stop:
        main(["--nonsense"])
    assert stop.value.code == 2


def test_a_failure_makes_the_exit_status_one(tmp_path, capsys):
    body = "def config():\n    e = _make('f')\n"
    path = write(
        tmp_path / "f.py",
        HEAD.replace("return []", "from tests.made_experiments import tiny; return tiny()")
        + body
        + "    from dataclasses import replace\n    return replace(e, codecs=(CodecSpec(codec='nope'),))\n",
    )
    assert main([str(path), "--out", str(tmp_path / "o")]) == 1
    assert "3 of 3 items FAILED" in capsys.readouterr().out


def test_peers_have_distinct_labels_and_spread_points():
    for specs in (peers.lossless(), peers.lossy(), peers.lossy(3), peers.cubes((0, 1, 2))):
        titles = [spec.title for spec in specs]
        assert len(set(titles)) == len(titles)
    three = [spec.title for spec in peers.lossy(3) if spec.series == "JPEG"]
    assert three == ["JPEG 5", "JPEG 50", "JPEG 95"]
    assert len(peers.lossy(1)) == 5
