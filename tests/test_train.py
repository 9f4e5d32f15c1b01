"""Training: schedule, averaging, checkpoints, resuming, several processes, several optimisers."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cbench.bench.config import DataSpec, TrainSpec
from cbench.codec import Sample
from cbench.errors import CbenchError, ConfigError, DataNotFoundError
from cbench.models.fsar import FsarTraining, checkpoint
from cbench.models.fsar import module as fsar_module
from cbench.models.fsar.config import FsarConfig
from cbench.nn.batch_norm import GlobalBatchNorm2d, globalise
from cbench.train.callbacks import Average
from cbench.train.fit import fit
from cbench.train.module import Group, PaperModule
from cbench.train.schedule import rate

ROOT = Path(__file__).parents[1]


def pictures(root=None):
    """Smooth random pictures, 8 x 8."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    out = []
    for number in range(48):
        slope = random.normal(0, 8, (3, 2, 1, 1))
        field = 128 + slope[:, 0] * (x - 4) + slope[:, 1] * (y - 4) + random.normal(0, 4, (3, 8, 8))
        out.append(Sample(f"p{number}", np.clip(np.rint(field), 0, 255).astype(np.uint8)))
    return out


def spec(**changes):
    base = TrainSpec(
        module=fsar_module,
        config=FsarTraining(model=FsarConfig(channels=8, groups=2, codes=8, edge_mass=True), soft_every=2),
        data=DataSpec(source=pictures),
        validation=DataSpec(source=pictures, limit=6),
        steps=6,
        batch_size=8,
        lr=3e-3,
        validate_every=3,
    )
    return replace(base, **changes)


def last(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def test_schedule():
    assert rate("constant", 0.3) == 1
    assert rate("one-cycle", 0) == pytest.approx(0.04)
    assert rate("one-cycle", 0.05) == pytest.approx(1)
    assert rate("one-cycle", 1) == pytest.approx(1e-3)
    rates = [rate("one-cycle", t / 100) for t in range(5, 101)]
    assert rates == sorted(rates, reverse=True)


def test_fit_writes_weights_that_code(tmp_path):
    path = fit(spec(ema=0.9, precision="bf16", schedule="one-cycle"), tmp_path, progress=False)
    from cbench.models.fsar.codec import cifar10

    codec = cifar10(path, "cpu", 1)
    x = pictures()[0].array
    np.testing.assert_array_equal(codec.decompress(codec.compress(x)), x)
    assert (tmp_path / "checkpoints" / "best.pt").is_file()
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_training_lowers_the_loss(tmp_path):
    fit(spec(steps=1, validate_every=1), tmp_path / "short", progress=False)
    fit(spec(steps=60, validate_every=60), tmp_path / "long", progress=False)
    assert last(tmp_path / "long")["best"] < last(tmp_path / "short")["best"] - 0.3


def test_resuming_gives_the_uninterrupted_run(tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    fit(spec(ema=0.9), whole, progress=False)

    class Stop(Exception):
        pass

    def stopping(config):
        made = fsar_module(config)
        after = made.after_step

        def stop(batch):
            after(batch)
            if made.step == 5:
                raise Stop

        made.after_step = stop
        return made

    with pytest.raises(Stop):
        fit(spec(ema=0.9, module=stopping), halves, progress=False)
    assert last(halves)["step"] == 3
    fit(spec(ema=0.9), halves, resume=True, progress=False)
    a, b = last(whole), last(halves)
    assert a["step"] == b["step"] == 6
    assert_same(a["network"], b["network"], rtol=0, atol=0)
    assert_same(a["average"], b["average"], rtol=0, atol=0)
    fit(spec(ema=0.9), halves, resume=True, progress=False)
    assert last(halves)["step"] == 6


def test_starting_from_weights(tmp_path):
    path = fit(spec(steps=1), tmp_path / "a", progress=False)
    fit(spec(steps=1, lr=0.0, init=path), tmp_path / "b", progress=False)
    before = checkpoint.load(path).network.state_dict()
    after = last(tmp_path / "b")["network"]
    torch.testing.assert_close(before["decoder.0.weight"], after["decoder.0.weight"])


def test_wrong_specs_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="PaperModule"):
        fit(spec(module=lambda config: nn.Identity()), tmp_path, progress=False)
    with pytest.raises(DataNotFoundError, match="empty"):
        fit(spec(data=DataSpec(source=lambda: [])), tmp_path, progress=False)


def test_divergence_is_an_error(tmp_path):
    with pytest.raises(CbenchError, match="diverged"):
        fit(spec(lr=1e30, clip=None, steps=3), tmp_path, progress=False)


class TwoOptimisers(PaperModule):
    """One weight for each group, all pulled towards 1."""

    def __init__(self, config):
        super().__init__(config)
        self.network = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in ("main", "aux", "late")})

    def loss(self, batch):
        loss = sum((1 - p).square() for p in self.network.values())
        return {"loss": loss, "bpd": loss}

    def groups(self):
        return [
            Group(name="main", parameters=(self.network["main"],)),
            Group(name="aux", parameters=(self.network["aux"],), lr=2.0, schedule="constant", clip=False),
            Group(name="late", parameters=(self.network["late"],), start=0.5, weight_decay=0.1),
        ]

    def codec(self):
        from cbench.zoo import load_codec

        return load_codec("png")

    def save(self, path, metadata):
        path.write_text(str(metadata))


def test_groups_have_their_own_optimiser_and_their_own_time(tmp_path):
    pytest.importorskip("imagecodecs")
    seen = []

    class Watched(TwoOptimisers):
        def after_step(self, batch):
            seen.append({name: float(p.detach()) for name, p in self.network.items()})

    fit(spec(module=Watched, config=None, lr=0.01, steps=4, validate_every=4), tmp_path, progress=False)
    assert [round(now["main"], 3) for now in seen] == [0.01, 0.02, 0.03, 0.04]
    assert [round(now["aux"], 3) for now in seen] == [0.02, 0.04, 0.06, 0.08]
    assert [round(now["late"], 3) for now in seen] == [0, 0, 0.01, 0.02]


def test_average_follows_the_weights():
    module = TwoOptimisers(None)
    average = Average(0.5)
    average.on_fit_start(None, module)
    for step in range(1, 16):
        module.step = step
        module.network["main"].data.fill_(1.0)
        average.on_train_batch_end(None, module)
    with average.applied(module):
        assert 0.99 < float(module.network["main"]) < 1
        assert not module.network.training
    assert float(module.network["main"]) == 1
    assert module.network.training


def test_global_batch_norm_is_batch_norm_in_one_process():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    ours = globalise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    ours.load_state_dict(plain.state_dict())
    assert isinstance(ours[1], GlobalBatchNorm2d)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(ours(x), plain(x))


def test_lightning_and_compressai_can_be_imported():
    code = "from cbench.nn.torchvision_guard import guard; guard(); guard(); import compressai, timm, pytorch_lightning"
    run([sys.executable, "-c", code])


CONFIG = """
from test_train import spec
from cbench.bench.config import CodecSpec, DataSpec, Experiment
from test_train import pictures

def config() -> Experiment:
    return Experiment(
        name="ddp",
        codecs=(CodecSpec(codec="fsar.cifar10", weights="run"),),
        data=(DataSpec(source=pictures, limit=4),),
        train=spec(steps=8, validate_every=8),
    )
"""


def compare_with_one_process(tmp_path, folder):
    fit(spec(steps=8, validate_every=8), tmp_path / "one", progress=False)
    a, b = last(tmp_path / "one"), last(folder)
    assert b["step"] == 8
    assert b["best"] == pytest.approx(a["best"], abs=2e-3)
    # Adam divides by the gradient's size, so parameters whose gradient is nearly zero follow rounding noise.
    assert_same(
        {name: value for name, value in a["network"].items() if "running" in name},
        {name: value for name, value in b["network"].items() if "running" in name},
        rtol=2e-2,
        atol=2e-3,
    )


@pytest.mark.slow
def test_two_processes_started_by_lightning_reach_the_same_loss(tmp_path):
    code = (
        "import sys; from pathlib import Path; from test_train import spec; from cbench.train.fit import fit\n"
        "if __name__ == '__main__':\n"
        "    fit(spec(steps=8, validate_every=8, devices=2), Path(sys.argv[1]), progress=False)\n"
    )
    (tmp_path / "main.py").write_text(code)
    run([sys.executable, str(tmp_path / "main.py"), str(tmp_path / "two")])
    compare_with_one_process(tmp_path, tmp_path / "two")


@pytest.mark.slow
def test_two_processes_started_by_torchrun_reach_the_same_loss(tmp_path):
    (tmp_path / "ddp.py").write_text(CONFIG)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = [str(ROOT / "tools" / "run_benchmark.py"), str(tmp_path / "ddp.py"), "--out", str(tmp_path / "two")]
    run([*launcher, *program])
    compare_with_one_process(tmp_path, tmp_path / "two")
    assert len((tmp_path / "two" / "rows.jsonl").read_text().splitlines()) == 4


def run(command):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert out.returncode == 0, out.stderr[-4000:]
