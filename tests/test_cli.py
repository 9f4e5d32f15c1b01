import argparse
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import raw_codec

import cbench
from cbench import cli, files, transcode, zoo
from cbench.coding.archive import pack_archive
from cbench.coding.container import Header, pack
from cbench.coding.envelope import unwrap, wrap
from cbench.errors import CbenchError

FLAGS = {
    "compress": {
        *("-o", "--output", "--codec", "--delta", "--weights", "--threads", "--force"),
        *("--complexity", "--max-kmac", "--max-ms", "--quality", "--bpp", "--psnr"),
    },
    "decompress": {"-o", "--output", "--weights", "--threads", "--force"},
    "info": {"--json"},
    "verify": {"--weights", "--threads"},
    "list": {"--json"},
    "bench": set(),
    "train": set(),
}
"""All of them: a new knob belongs into an experiment, not into the shell."""

ROOT = Path(__file__).parents[1]


def picture(bands: int = 3, dtype: str = "uint8", height: int = 20, width: int = 31) -> np.ndarray:
    return (np.arange(bands * height * width) * 7 % 253).astype(dtype).reshape(bands, height, width)


def write_cube(path: Path, interleave: str = "bil") -> np.ndarray:
    array = picture(7, "int16") - np.int16(90)
    header = "ENVI\nsamples = 31\nlines = 20\nbands = 7\ndata type = 2\nbyte order = 1\n"
    header += f"interleave = {interleave}\n"
    header += "wavelength = { 400, 500, 600,\n 700, 800, 900, 1000 }\nremark = kept word for word\n"
    files.write(path, array, {"format": "envi", "header": header})
    return array


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    files.write(path, picture())
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_verbs_and_flags_are_the_documented_ones():
    verbs = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    found = {
        verb: {flag for action in sub._actions for flag in action.option_strings} - {"-h", "--help"}
        for verb, sub in verbs.choices.items()
    }
    assert found == FLAGS


def test_there_and_back(photo, capsys):
    original = photo.read_bytes()
    assert cli.main(["compress", str(photo)]) == 0
    line = capsys.readouterr().out
    assert "photo.cb" in line
    assert "bpd" in line
    assert "jpegxl" in line
    coded = photo.with_suffix(".cb")
    assert np.array_equal(cbench.decompress(coded.read_bytes()), picture())
    assert cli.main(["verify", str(photo), str(coded)]) == 0
    assert "exact" in capsys.readouterr().out
    photo.unlink()
    assert cli.main(["decompress", str(coded)]) == 0
    assert np.array_equal(files.read(photo).array, picture())
    assert len(original) > 0


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_header_and_bytes_come_back(tmp_path, interleave):
    write_cube(tmp_path / "cube.hdr", interleave)
    before = content(tmp_path)
    assert set(before) == {"cube.hdr", "cube.raw"}
    assert cli.main(["compress", str(tmp_path / "cube.hdr"), "-o", str(tmp_path / "out.cb")]) == 0
    (tmp_path / "back").mkdir()
    assert cli.main(["decompress", str(tmp_path / "out.cb"), "-o", str(tmp_path / "back" / "cube.hdr")]) == 0
    assert content(tmp_path / "back") == before


def test_folders_are_mirrored(tmp_path, capsys):
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    files.write(tree / "a.png", picture())
    files.write(tree / "deep" / "b.pgm", picture(1))
    files.write(tree / "deep" / "b.png", picture(1))
    write_cube(tree / "deep" / "er" / "cube.hdr")
    (tree / "notes.txt").write_text("not a picture")
    out, back = tmp_path / "out", tmp_path / "back"
    assert cli.main(["compress", str(tree), "-o", str(out)]) == 0
    assert set(content(out)) == {"a.cb", "deep/b.pgm.cb", "deep/b.png.cb", "deep/er/cube.cb"}
    assert cli.main(["decompress", str(out), "-o", str(back)]) == 0
    expected = set(content(tree)) - {"notes.txt"}
    assert set(content(back)) == expected
    for name in expected - {"deep/er/cube.raw"}:
        assert np.array_equal(files.read(back / name).array, files.read(tree / name).array)
    assert "0/4" in capsys.readouterr().err


def test_a_failing_file_does_not_stop_the_others(tmp_path, photo, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    names = [str(tmp_path / name) for name in ("broken.png", "absent.png", "photo.png")]
    assert cli.main(["compress", *names]) == 1
    err = capsys.readouterr().err
    assert "broken.png" in err
    assert "absent.png" in err
    assert "2 of 3" in err
    assert "Traceback" not in err
    assert set(content(tmp_path)) == {"broken.png", "photo.png", "photo.cb"}


def test_nothing_is_overwritten_without_force(photo, capsys):
    coded = photo.with_suffix(".cb")
    coded.write_bytes(b"precious")
    assert cli.main(["compress", str(photo)]) == 1
    assert "already exists" in capsys.readouterr().err
    assert coded.read_bytes() == b"precious"
    assert cli.main(["compress", "--force", str(photo)]) == 0
    before = photo.read_bytes()
    assert cli.main(["decompress", str(coded)]) == 1
    assert photo.read_bytes() == before
    assert cli.main(["decompress", str(coded), "--force"]) == 0
    assert [path.name for path in sorted(photo.parent.iterdir())] == ["photo.cb", "photo.png"]


def test_native_suffixes_hold_native_files(photo, tmp_path, capsys):
    out = tmp_path / "small.png"
    assert cli.main(["compress", str(photo), "--codec", "png", "-o", str(out)]) == 0
    assert np.array_equal(files.read(out).array, picture())
    assert cli.main(["compress", str(photo), "--codec", "jpegls", "-o", str(tmp_path / "x.jls")]) == 0
    assert (tmp_path / "x.jls").read_bytes().startswith(b"\xff\xd8\xff")
    assert cli.main(["compress", str(photo), "--codec", "jpegls", "-o", str(tmp_path / "x.png")]) == 1
    assert "would not hold" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
    assert cli.main(["decompress", str(tmp_path / "x.jls"), "-o", str(tmp_path / "y.png")]) == 0
    capsys.readouterr()
    assert cli.main(["info", "--json", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["codec"] == "png"


def test_near_lossless(photo, tmp_path, capsys):
    coded = tmp_path / "near.cb"
    assert cli.main(["compress", str(photo), "--delta", "3", "-o", str(coded)]) == 0
    assert unwrap(coded.read_bytes())[1]["max_error"] == 3
    assert cli.main(["verify", str(photo), str(coded)]) == 0
    assert "at most 3" in capsys.readouterr().out
    assert cli.main(["compress", str(photo), "--delta", "3", "--codec", "png"]) == 1
    assert "near-lossless" in capsys.readouterr().err


def test_verify_tells_lossy_from_wrong(photo, tmp_path, capsys):
    lossy, other, turned = (tmp_path / name for name in ("lossy.cb", "other.png", "turned.png"))
    assert cli.main(["compress", str(photo), "--codec", "jpeg", "-o", str(lossy)]) == 0
    assert cli.main(["verify", str(photo), str(lossy)]) == 0
    assert "lossy" in capsys.readouterr().out
    files.write(other, picture() + np.uint8(1))
    files.write(turned, np.ascontiguousarray(picture().transpose(0, 2, 1)))
    cli.main(["compress", str(photo)])
    for wrong, said in ((other, "max error 1, promised at most 0"), (turned, "original is")):
        assert cli.main(["verify", str(wrong), str(photo.with_suffix(".cb"))]) == 1
        assert said in capsys.readouterr().err


def test_info(photo, tmp_path, capsys):
    cli.main(["compress", str(photo), "--codec", "zstd"])
    capsys.readouterr()
    coded = photo.with_suffix(".cb")
    assert cli.main(["info", str(coded), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["codec"] == "zstd"
    assert found["shape"] == [3, 20, 31]
    assert found["dtype"] == "uint8"
    assert found["file_bytes"] == coded.stat().st_size
    assert found["raw_bytes"] == 3 * 20 * 31
    assert found["bpd"] == pytest.approx(8 * coded.stat().st_size / (3 * 20 * 31), abs=1e-5)
    assert found["source"]["format"] == "png"
    assert cli.main(["info", str(coded)]) == 0
    assert "3 x 20 x 31" in capsys.readouterr().out
    assert cli.main(["info", str(photo)]) == 0
    assert "png" in capsys.readouterr().out
    assert cli.main(["info", str(tmp_path / "absent.cb")]) == 1
    foreign = tmp_path / "foreign.cb"
    foreign.write_bytes(pack(Header("future.codec", (1, 2, 2), "uint8"), b"x"))
    assert cli.main(["info", str(foreign)]) == 0
    assert cli.main(["decompress", str(foreign)]) == 1
    assert "future.codec" in capsys.readouterr().err


def test_info_and_errors_for_archives(tmp_path, capsys):
    path = tmp_path / "many.cb"
    path.write_bytes(pack_archive(Header("future.codec", (1, 2, 2), "uint8"), [b"x", b"yy"]))
    assert cli.main(["info", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 2
    assert cli.main(["decompress", str(path)]) == 1
    assert set(content(tmp_path)) == {"many.cb"}


def test_archives_become_folders(tmp_path, monkeypatch):
    monkeypatch.setitem(zoo.BUILDERS, "raw", raw_codec.PLACE)
    arrays = [picture(), picture(1), picture(7)]
    path = tmp_path / "many.cb"
    path.write_bytes(zoo.load_codec("raw").compress_many(arrays))
    assert cli.main(["decompress", str(path)]) == 0
    assert set(content(tmp_path / "many")) == {"0.png", "1.png", "2.npy"}
    for name, array in zip(("0.png", "1.png", "2.npy"), arrays, strict=True):
        assert np.array_equal(files.read(tmp_path / "many" / name).array, array)
    assert cli.main(["decompress", str(path)]) == 1
    assert cli.main(["decompress", str(path), "-o", str(tmp_path / "else")]) == 0
    assert len(content(tmp_path / "else")) == 3


def test_list(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == cbench.list_codecs()
    assert cli.main(["list", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == cbench.list_codecs()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["compres"],
        ["compress"],
        ["compress", "x", "--threads", "0"],
        ["compress", "x", "--delta", "-1"],
        ["info"],
    ],
)
def test_wrong_usage_is_status_2(arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


def test_errors_are_one_sentence(photo, tmp_path, capsys):
    coded = photo.with_suffix(".cb")
    cli.main(["compress", str(photo)])
    coded.write_bytes(coded.read_bytes()[:-7])
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for arguments in (
        ["decompress", str(coded), "--force"],
        ["compress", str(tmp_path / "absent.png")],
        ["compress", str(tmp_path / "empty")],
        ["compress", str(photo), "--codec", "pgn", "--force"],
        ["compress", str(photo), "--weights", str(tmp_path / "none"), "--force"],
        ["compress", str(photo), str(photo), "-o", str(photo)],
        ["compress", str(photo), "-o", str(tmp_path / "no" / "such" / "folder.cb")],
    ):
        assert cli.main(arguments) == 1, arguments
        err = capsys.readouterr().err
        assert err.startswith("cbench: "), err
        assert err.count("\n") == 1, err


def test_a_codec_that_is_wrong_is_caught_before_the_file_exists(photo, monkeypatch, capsys):
    class Wrong:
        name, max_error = "wrong", 0

        def compress(self, array):
            return b"data"

        def decompress(self, data):
            return picture() + np.uint8(1)

    monkeypatch.setattr(transcode.zoo, "load_codec", lambda *a, **k: Wrong())
    assert cli.main(["compress", str(photo)]) == 1
    assert "different array" in capsys.readouterr().err
    assert set(content(photo.parent)) == {"photo.png"}


def test_forged_records_are_refused(tmp_path, capsys):
    data = cbench.compress(picture(), codec="png")
    path = tmp_path / "forged.cb"
    for record in (
        {"file": 3},
        {"file": {"format": ["png"]}},
        {"file": {"format": "envi", "header": 7, "encoding": "no such"}},
        {"file": {"format": "envi", "header": "ENVI\n", "suffix": "/../../up.raw"}},
        {"file": {"format": "tiff", "geo": 3}},
    ):
        path.write_bytes(wrap(data, record))
        status = cli.main(["decompress", str(path), "--force", "-o", str(tmp_path / "out") + "/"])
        assert status in (0, 1), record
        assert "Traceback" not in capsys.readouterr().err
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} <= {"out", tmp_path.name}


def test_interruption_leaves_nothing_behind(photo, monkeypatch, capsys):
    def interrupted(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert cli.main(["compress", str(photo)]) == 130
    assert set(content(photo.parent)) == {"photo.png"}


def test_control_c_in_a_real_process(tmp_path):
    for number in range(150):
        files.write(tmp_path / f"{number:03}.png", picture(3, "uint8", 160, 200))
    # a slow codec: the last file must not be done before the signal arrives
    command = [sys.executable, "-m", "cbench", "compress", str(tmp_path), "--codec", "jpegxl"]
    # shells start background jobs with the signal ignored, and children inherit that
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".cb"}
    for path in tmp_path.glob("*.cb"):
        assert np.array_equal(cbench.decompress(path.read_bytes()), picture(3, "uint8", 160, 200))


def test_as_a_module(photo):
    command = [sys.executable, "-m", "cbench", "--version"]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert out.strip() == f"cbench {cbench.__version__}"
    command = [sys.executable, "-m", "cbench", "list"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


def test_bench_and_train_share_the_runner(tmp_path, monkeypatch, capsys):
    from cbench.bench import main as runner

    calls = []
    monkeypatch.setattr(runner, "main", lambda argv, prog: calls.append((argv, prog)) or 0)
    assert cli.main(["bench", "config.py", "--set", "a=1"]) == 0
    assert cli.main(["train", "config.py"]) == 0
    assert calls == [
        (["config.py", "--set", "a=1"], "cbench bench"),
        (["config.py", "--only", "train"], "cbench train"),
    ]
    monkeypatch.undo()
    assert cli.main(["bench", str(tmp_path / "absent.py")]) == 1
    assert "absent.py" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench"])
    assert stop.value.code == 2


def test_difference_over_the_whole_range():
    low, high = np.full((2, 2, 2), -32768, np.int16), np.full((2, 2, 2), 32767, np.int16)
    assert transcode.difference(low, high) == transcode.Difference(65535, 0.0)
    assert transcode.difference(low, low).psnr == float("inf")
    with pytest.raises(CbenchError):
        transcode.difference(low, low.astype(np.int32))
