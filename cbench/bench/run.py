"""Train, validate, test: everything one experiment does, into one run folder."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cbench.bench import host
from cbench.bench.config import RUN_WEIGHTS, Experiment, TrainSpec
from cbench.bench.loading import CONFIG_FILE, WEIGHTS_FILE, Loaded
from cbench.bench.overrides import plain
from cbench.bench.report import Report, write_report
from cbench.bench.rows import Row
from cbench.bench.stage import DataSets, Stage
from cbench.errors import ConfigError, DataNotFoundError
from cbench.files.atomic import atomic_write

ROWS_FILE, VALIDATION_FILE, ENVIRONMENT_FILE = "rows.jsonl", "validation.jsonl", "env.json"
VALIDATION_ITEMS = 64
"""Items coded for real after training, of a validation set that sets no limit of its own."""


def run(
    experiment: Experiment,
    out: Path,
    *,
    only: str | None = None,
    resume: bool = False,
    progress: bool = True,
    origin: Loaded | None = None,
) -> Report:
    """Train (if the experiment says so), code every item with every codec, compare, and write the report.

    Args:
        experiment: what to do.
        out: run folder; made if absent.
        only: "train" (and validate) or "test"; None: both.
        resume: continue what lies in `out`: finished rows stay, failed and missing ones are coded.
        progress: show progress bars on stderr.
        origin: where the experiment was loaded from, recorded so that the folder can be tested again.

    Returns:
        The report; `report.failures` counts items that failed. In a process of a distributed training that is
        not the first, an empty one.

    Raises:
        ConfigError: `out` holds another run, or `only` is unknown.
        DataNotFoundError: a data set or the weights to test are not there.
    """
    if only not in (None, "train", "test"):
        raise ConfigError(f'only (={only!r}) must be "train" or "test"')
    out = Path(out)
    train = experiment.train if only != "test" else None
    testing = only != "train"
    if only == "train" and train is None:
        raise ConfigError(f"experiment {experiment.name!r} has nothing to train")
    first = process_rank() == 0
    sets = None
    if first:
        # Before hours of training rather than after: what is missing is named now.
        sets = DataSets(experiment.data) if testing else None
        _open_folder(experiment, out, origin, resume, train is not None, testing)
    if train is not None:
        from cbench.train.fit import fit

        fit(train, out, resume=resume, progress=progress)
    if not first:
        return Report.of(experiment, [], out=None)
    validation = _validate(experiment, train, out, progress) if train is not None else []
    rows = Stage(experiment, out, out / ROWS_FILE, progress).rows(sets, resume) if sets is not None else []
    environment = json.loads((out / ENVIRONMENT_FILE).read_text())
    report = Report.of(experiment, rows, validation=validation, environment=environment, out=out)
    write_report(report)
    return report


def process_rank() -> int:
    """Number of this process in a distributed training, as its launcher set it; 0 where there is none."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def _validate(experiment: Experiment, train: TrainSpec, out: Path, progress: bool) -> list[Row]:
    """Code a few items of the validation set with what was just trained."""
    trained = tuple(spec for spec in experiment.codecs if spec.weights == RUN_WEIGHTS)
    if not trained:
        return []
    data = replace(train.validation, name=f"validation: {train.validation.title}")
    stage = Stage(replace(experiment, codecs=trained), out, out / VALIDATION_FILE, progress)
    return stage.rows(DataSets((data,), VALIDATION_ITEMS), resume=False)


def _open_folder(
    experiment: Experiment, out: Path, origin: Loaded | None, resume: bool, training: bool, testing: bool
) -> None:
    """Make the run folder and record the experiment; refuse to mix it with another run."""
    there = (training and (out / WEIGHTS_FILE).exists()) or (testing and (out / ROWS_FILE).exists())
    if there and not resume:
        raise ConfigError(f"{out} already holds a run: continue it with --resume, or give another --out")
    if testing and not training and any(spec.weights == RUN_WEIGHTS for spec in experiment.codecs):
        _need_weights(out)
    record: dict[str, Any] = {
        "name": experiment.name,
        "reference": origin.reference if origin else None,
        "overrides": list(origin.overrides) if origin else [],
        "experiment": plain(experiment),
    }
    if resume and (out / CONFIG_FILE).exists():
        _same_settings(json.loads((out / CONFIG_FILE).read_text())["experiment"], record["experiment"], out)
    out.mkdir(parents=True, exist_ok=True)
    environment = host.describe(experiment.measure.threads, experiment.measure.device)
    for name, values in ((CONFIG_FILE, record), (ENVIRONMENT_FILE, environment)):
        with atomic_write(out / name, force=True) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n")


def _need_weights(out: Path) -> None:
    if not (out / WEIGHTS_FILE).is_file():
        raise DataNotFoundError(f"there is nothing to test in {out}: it holds no {WEIGHTS_FILE} (train first)")


def _same_settings(old: dict[str, Any], new: dict[str, Any], out: Path) -> None:
    """Rows of other settings under the same names would be mixed up with new ones."""
    if old["measure"] != new["measure"]:
        raise ConfigError(f"{out} was measured with other settings (measure): give another --out")
    for what, keys in (("codecs", ("label", "codec")), ("data", ("name", "source"))):
        before = {str(spec[keys[0]] or spec[keys[1]]): spec for spec in old[what]}
        for spec in new[what]:
            name = str(spec[keys[0]] or spec[keys[1]])
            earlier = before.get(name, spec)
            if {**earlier, "limit": None} != {**spec, "limit": None}:
                raise ConfigError(f"{out} was made with another {name!r} in {what}: give another --out")
