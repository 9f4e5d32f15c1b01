"""Config files: which function is meant, overrides, what a run writes down."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from made_experiments import HEAD, experiment, png_spec, trained, write

from cbench.bench import classical, loading
from cbench.bench.main import main
from cbench.bench.overrides import override, plain
from cbench.errors import ConfigError, DataNotFoundError


def test_which_function_of_a_file_is_meant(tmp_path):
    one = write(tmp_path / "one.py", HEAD + "def only() -> Experiment: return _make('only')\n")
    assert loading.load(str(one)).experiment.name == "only"
    two = write(tmp_path / "two.py", HEAD + "def a(): return _make('a')\ndef b(): return _make('b')\n")
    with pytest.raises(ConfigError, match=r"several.*\(a, b\)"):
        loading.load(str(two))
    assert loading.load(f"{two}:b").experiment.name == "b"
    with pytest.raises(ConfigError, match="did you mean 'config'"):
        both = write(tmp_path / "both.py", HEAD + "def config(): return _make('c')\ndef help(x): pass\n")
        assert loading.load(str(both)).reference.endswith("both.py:config")
        loading.load(f"{both}:confg")
    beside = write(tmp_path / "beside.py", "import one\ndef config(): return one.only()\n")
    assert loading.load(str(beside)).experiment.name == "only"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def config(:", "does not load"),
        ("import no_such_package_at_all", "does not load"),
        ("def config(): return 3", "returned int"),
        ("def config(): return 1 / 0", "ZeroDivisionError"),
        ("x = 3", "no experiment|several"),
    ],
)
def test_configs_that_do_not_work_say_why(tmp_path, text, message, capsys):
    path = write(tmp_path / "bad.py", text)
    with pytest.raises(ConfigError, match=message):
        loading.load(str(path))
    assert main([str(path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_references_that_are_not_there(tmp_path):
    with pytest.raises(DataNotFoundError):
        loading.load(str(tmp_path / "none.py"))
    with pytest.raises(ConfigError, match="Python file"):
        loading.load(str(write(tmp_path / "a.yaml", "x: 1")))
    with pytest.raises(ConfigError, match="not a run folder"):
        loading.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"reference": null, "overrides": []}')
    with pytest.raises(ConfigError, match="from Python"):
        loading.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"reference": "gone.py:config", "overrides": []}')
    with pytest.raises(DataNotFoundError, match=r"gone\.py"):
        loading.load(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("train.lr=2e-4", lambda e: e.train.lr, 2e-4),
        ("train.steps=1e4", lambda e: e.train.steps, 10000),
        ("train.ema=none", lambda e: e.train.ema, None),
        ("train.ema=0.99", lambda e: e.train.ema, 0.99),
        ("train.flip=no", lambda e: e.train.flip, False),
        ("train.init=a/b.safetensors", lambda e: e.train.init, Path("a/b.safetensors")),
        ("train=none", lambda e: e.train, None),
        ("data.0.limit=4", lambda e: e.data[0].limit, 4),
        ("data.tiny.limit=4", lambda e: e.data[0].limit, 4),
        ("codecs.png.max_error=2", lambda e: e.codecs[1].max_error, 2),
        ("name=a=b", lambda e: e.name, "a=b"),
        ("codecs.0.build=cbench.bench.classical:qoi", lambda e: e.codecs[0].build, classical.qoi),
    ],
)
def test_overrides_are_typed(text, read, value):
    assert read(override(trained(), text)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian.lr=1", "did you mean 'train'"),
        ("train.rl=1", "'train.rl' in TrainSpec; did you mean 'lr'"),
        ("train.steps=many", "train.steps takes int, not 'many'"),
        ("train.steps=1.5", "whole number"),
        ("train.flip=maybe", "true or false"),
        ("train.steps=0", "at least 1"),
        ("train.config.width=3", "train.config is None"),
        ("data.2.limit=1", "no item '2'"),
        ("data.0.limit=0", "at least 1"),
        ("measure=3", "set its fields"),
        ("measure.threads", "looks like"),
        ("=3", "looks like"),
        ("name.x=3", "name is a str"),
        ("codecs.0.build=no.such.module:f", "No module"),
    ],
)
def test_overrides_that_do_not_fit_say_why(text, message):
    with pytest.raises(ConfigError, match=message):
        override(trained(), text)


def test_config_json_names_functions_and_bound_arguments():
    values = json.loads(json.dumps(plain(experiment(png_spec(build=partial(classical.png, level=3))))))
    bound = values["codecs"][0]["build"]
    assert bound == {"function": "cbench.bench.classical:png", "keywords": {"level": 3}}
    assert values["data"][0]["source"].endswith("made_experiments:tiny")
