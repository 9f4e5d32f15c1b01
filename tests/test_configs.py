"""No experiment may rot: every public function in configs/ constructs, and runs when shrunken."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cbench.bench.config import RUN_WEIGHTS, DataSpec
from cbench.bench.loading import experiments_in, load
from cbench.bench.run import run
from cbench.codec import Sample
from cbench.errors import DataNotFoundError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
EXPERIMENTS = [
    (path, name) for path in sorted(CONFIGS.glob("*.py")) for name in experiments_in(path) if path.stem[0] != "_"
]


def shrunken(samples):
    """The middle of the first item, small."""
    array = samples[0].array
    top, left = (max(0, n - 32) // 2 for n in array.shape[1:])
    return [Sample("middle", np.ascontiguousarray(array[:24, top : top + 32, left : left + 32]))]


def small_data(spec):
    """One small item of the data set, or of none where it is not here."""
    try:
        samples = spec.source() if spec.root is None else spec.source(spec.root)
    except DataNotFoundError:
        # Any picture will do to see whether the experiment itself works.
        picture = np.broadcast_to(np.arange(32 * 32).reshape(32, 32) // 8, (3, 32, 32))
        samples = [Sample("ramp", picture.astype(np.uint8))]
    kept = shrunken(samples)
    return DataSpec(source=lambda: kept, name=spec.title)


@pytest.mark.parametrize(("path", "name"), EXPERIMENTS, ids=lambda value: getattr(value, "stem", value))
def test_experiment_constructs_and_runs_small(path, name, tmp_path):
    experiment = load(f"{path}:{name}").experiment
    codecs = tuple(spec for spec in experiment.codecs if spec.weights != RUN_WEIGHTS)
    if not codecs:
        pytest.skip("tests nothing but what it trains")
    data = tuple(map(small_data, experiment.data))
    report = run(replace(experiment, codecs=codecs, data=data, train=None), tmp_path, progress=False)
    # Trained weights may be absent from a source tree; this test is about the experiment.
    bad = [row for row in report.failures if "are not installed" not in row.error]
    assert not bad, bad[0].error
    assert len(report.rows) == len(codecs) * len(data)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_a_config_loads_without_torch(path):
    code = f"""
import sys
from pathlib import Path
from cbench.bench.loading import experiments_in
for make in experiments_in(Path({str(path)!r})).values():
    make()
print([m for m in ("torch", "matplotlib", "tensorboard", "skimage") if m in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CONFIGS.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
