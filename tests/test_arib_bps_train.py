"""Training of ArIB-BPS: both models, one model, finetuning with coded latents, resuming."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cbench.bench.config import DataSpec, TrainSpec
from cbench.codec import Sample
from cbench.coding.container import content_check
from cbench.errors import ConfigError
from cbench.models.arib_bps import AribTraining, checkpoint, module
from cbench.models.arib_bps.config import tiny_split
from cbench.models.arib_bps.losses import Quantised, logistic_noise, sig_terms
from cbench.models.arib_bps.rates import qps_of
from cbench.models.arib_bps.train import AribModule, emphasise_differences, read_qps
from cbench.train.fit import fit

torch.set_num_threads(1)
MODEL = replace(
    tiny_split(),
    share=True,
    folded=True,
    n_layers=1,
    space_width_ins=None,
    entropy_width_ins=None,
    entropy_depth_ins=None,
)


MODES = ["sig", "ins", "finetune"]


def pictures(root=None):
    """Smooth random pictures, 8 x 8."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    out = []
    for number in range(12):
        slope = random.normal(0, 8, (3, 2, 1, 1))
        field = 128 + slope[:, 0] * (x - 4) + slope[:, 1] * (y - 4) + random.normal(0, 4, (3, 8, 8))
        out.append(Sample(f"p{number}", np.clip(np.rint(field), 0, 255).astype(np.uint8)))
    return out


def spec(**changes):
    base = TrainSpec(
        module=module,
        config=AribTraining(model=MODEL, high_pass=True),
        data=DataSpec(source=pictures),
        validation=DataSpec(source=pictures, limit=4),
        steps=4,
        batch_size=4,
        lr=2e-3,
        validate_every=2,
    )
    return replace(base, **changes)


def last(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def test_training_resumes_where_it_stopped(tmp_path):
    fit(spec(), tmp_path / "whole", progress=False)
    fit(spec(steps=2), tmp_path / "parts", progress=False)
    path = fit(spec(), tmp_path / "parts", resume=True, progress=False)
    whole, parts = (last(tmp_path / name)["network"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    weights = checkpoint.load(path)
    assert weights.network.config == MODEL
    assert path.stat().st_size < 2.2 * sum(value.numel() for value in whole.values()) + 200_000


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from test_arib_bps_train import module, spec, with_mode
from cbench.train.fit import fit

def dying(config):
    made = module(config)
    made.after_step = lambda batch: made.step < 3 or os.kill(os.getpid(), signal.SIGKILL)
    return made

for mode in sys.argv[2:]:
    if child := os.fork():
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    else:
        fit(replace(with_mode(mode), module=dying), Path(sys.argv[1]) / mode, progress=False)
        os._exit(0)
"""


def with_mode(mode):
    few = DataSpec(source=pictures, limit=1)
    return spec(config=AribTraining(model=MODEL, mode=mode, decay_rate=0.9), validation=few, ema=0.9)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with a run of each mode that was killed in its third step of four."""
    folder = tmp_path_factory.mktemp("killed")
    run([sys.executable, "-c", KILLED, str(folder), *MODES])
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_resumes_and_ends_like_any_other(killed, tmp_path, mode):
    assert last(killed / mode)["step"] == 2
    fit(with_mode(mode), killed / mode, resume=True, progress=False)
    fit(with_mode(mode), tmp_path, progress=False)
    whole, parts = last(tmp_path), last(killed / mode)
    assert whole["step"] == parts["step"] == 4
    for what in ("network", "average"):
        assert all(torch.equal(whole[what][name], parts[what][name]) for name in whole[what])


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    """The other model gets no gradients, which must not keep the processes waiting."""
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path; from test_arib_bps_train import *\n"
        "if __name__ == '__main__':\n"
        "    fit(replace(with_mode('sig'), devices=2), Path(sys.argv[1]) / 'two', progress=False)\n"
    )
    (tmp_path / "main.py").write_text(code)
    run([sys.executable, str(tmp_path / "main.py"), str(tmp_path)])
    assert last(tmp_path / "two")["step"] == 4


def run(command):
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent), str(tests)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert out.returncode == 0, out.stderr[-4000:]


@pytest.mark.parametrize("mode", MODES)
def test_one_model_learns_and_the_other_stays(mode):
    torch.manual_seed(0)
    trained = AribModule(AribTraining(model=MODEL, mode=mode, decay_rate=0.5, decay_interval=10))
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    groups = trained.groups()
    optimiser = torch.optim.Adam(groups[0].parameters, lr=1e-3)
    losses = trained.loss(torch.from_numpy(np.stack([s.array for s in pictures()[:4]])))
    losses["loss"].backward()
    optimiser.step()
    moved = {
        name.split(".")[0] for name, value in trained.network.state_dict().items() if (value != before[name]).any()
    }
    assert moved == {"ins" if mode == "ins" else "sig"}
    trained.step = 25
    assert trained.groups()[0].lr == 0.25


def test_finetuning_lowers_the_rate_of_coded_latents():
    torch.manual_seed(0)
    trained = AribModule(AribTraining(model=MODEL, mode="finetune"))
    x = torch.from_numpy(np.stack([s.array for s in pictures()]))

    def rate():
        noise = logistic_noise(trained.network.sig, x.shape, torch.Generator().manual_seed(5))
        with torch.no_grad():
            return float(sig_terms(trained.network.sig, x, Quantised(noise, x.numel(), torch.full((len(x),), 5))).sum())

    before = rate()
    optimiser = torch.optim.Adam(trained.groups()[0].parameters, lr=1e-3)
    for _ in range(8):
        optimiser.zero_grad()
        trained.loss(x)["loss"].backward()
        optimiser.step()
        trained.step += 1
    assert rate() < before - 0.05


def test_qp_lists_belong_to_pictures_not_to_places(tmp_path):
    torch.manual_seed(0)
    weights = checkpoint.Weights(AribModule(AribTraining(model=MODEL)).network)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    (tmp_path / "set").mkdir()
    for sample in pictures()[:3]:
        Image.fromarray(sample.array.transpose(1, 2, 0)).save(tmp_path / "set" / f"{sample.name}.png")
    tool = Path(__file__).parents[1] / "tools" / "list_qps.py"
    arguments = [str(tmp_path / name) for name in ("w.safetensors", "set", "qps.txt")]
    subprocess.run([sys.executable, str(tool), *arguments], check=True)
    found = read_qps(tmp_path / "qps.txt")
    network = checkpoint.load(tmp_path / "w.safetensors").network
    x = [s.array for s in pictures()[:3]]
    assert found == {content_check(a): int(qps_of(network, torch.from_numpy(a)[None])) for a in x}
    listed = AribModule(AribTraining(model=MODEL, mode="finetune", qps=tmp_path / "qps.txt"))
    assert listed._latents(torch.from_numpy(np.stack(x[::-1]))).qp.tolist() == [
        found[content_check(a)] for a in x[::-1]
    ]
    (tmp_path / "bad").write_text("hello\n")
    with pytest.raises(ConfigError, match="list"):
        read_qps(tmp_path / "bad")
    with pytest.raises(ConfigError, match="list"):
        read_qps(tmp_path / "none")


def test_starting_weights_must_be_of_the_same_model(tmp_path):
    weights = checkpoint.Weights(AribModule(AribTraining(model=MODEL)).network)
    checkpoint.save(tmp_path / "w.safetensors", weights, {})
    with pytest.raises(ConfigError, match="another"):
        AribModule(AribTraining(model=replace(MODEL, latent_width=8))).load(tmp_path / "w.safetensors")
    again = AribModule(AribTraining(model=MODEL))
    again.load(tmp_path / "w.safetensors")
    assert checkpoint.Weights(again.network).fingerprint() == weights.fingerprint()


def test_first_filters_see_differences():
    network = AribModule(AribTraining(model=MODEL)).network
    emphasise_differences(network.ins)
    filters = network.ins.plane_context.first.weight[:24]
    assert filters.sum((1, 2, 3)).abs().max() < 1e-4
    assert filters.std() > 0.5
