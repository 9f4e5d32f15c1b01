"""TBTC's tools on tiny models: speed, portability, export; training with two processes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from cbench.bench.loading import load
from cbench.errors import ConfigError, DataNotFoundError
from cbench.models.tbtc import checkpoint, swin
from cbench.models.tbtc.config import tiny
from cbench.models.tbtc.exact import GRID, TowerPair
from cbench.models.tbtc.network import TbtcNetwork, Tower
from cbench.nn.exact import ExactStack
from cbench.zoo.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]
CONFIG = f"{ROOT / 'configs/tbtc.py'}:tiny"


def tool(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def test_two_towers_are_one_product():
    torch.manual_seed(0)
    mean, scale = Tower(12, 9, 7, 4), Tower(12, 9, 7, 4)
    with torch.no_grad():
        scale.layers[0].weight.mul_(300)  # fewer fraction bits than the other tower
    x = torch.randint(-(1 << 18), 1 << 18, (1, 5, 6, 16)).double()
    found = TowerPair(mean, scale, 4)(x)
    own_mean, own_scale, before = x.split((4, 4, 8), -1)
    expected = [
        ExactStack(tower.layers, GRID)(torch.cat([own, before], -1))
        for tower, own in ((mean, own_mean), (scale, own_scale))
    ]
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    with torch.no_grad():
        close = nn.Sequential(*mean.layers).double()(torch.cat([own_mean, before], -1).permute(0, 3, 1, 2) / 2**14)
    assert float((found[0].permute(0, 3, 1, 2) / 2**14 - close).abs().max()) < 0.02


def test_straightforward_attention_is_the_same_function():
    speed = tool("tbtc_speed")
    torch.manual_seed(0)
    config = tiny("swin", "charm")
    x = torch.randn(1, 8, 12, 8)
    for shift in (0, 2):
        attention = swin.WindowAttention(8, 4, shift, config).eval()
        attention.relative_position_bias_table.data.normal_()
        with torch.no_grad():
            fused = attention(x)
            with speed.straightforward():
                assert float((attention(x) - fused).abs().max()) < 1e-5


def test_speed_reports_every_ratio():
    speed = tool("tbtc_speed")
    text = speed.report(speed.measure(TbtcNetwork(tiny("swin", "charm")), rounds=1))
    for words in ("portable arithmetic", "compress: ", "decompress: ", "bfloat16: "):
        assert words in text


def test_portability_counts_wrong_rows(tmp_path):
    portability = tool("tbtc_portability")
    network = TbtcNetwork(tiny("conv", "charm"))
    portability.encode(tmp_path, checkpoint.build(checkpoint.parameters_of(network), network.config), 1)
    found = portability.check(tmp_path, 1, True)
    assert (found["rows"], found["symbols"]) == (0, 0)
    with np.load(tmp_path / "0.npz") as record:
        blocks = [record[key] for key in record.files]
    blocks[2][:3] += 1
    np.savez(tmp_path / "0.npz", *blocks)
    assert portability.check(tmp_path, 1, True)["rows"] == 3
    with pytest.raises(ConfigError, match="swin-charm-m"):
        portability.weights_of("swin-charm-huge")


def test_sizes(capsys):
    assert tool("tbtc_sizes").main("tbtc.conv-xs-1") == 0
    assert "27.3%" in capsys.readouterr().out
    assert tool("tbtc_sizes").main("tbtc.none") == 1


def test_export(tmp_path, monkeypatch):
    export = tool("export_weights")
    spec = load(CONFIG).experiment.train
    network = spec.module(spec.config).network
    torch.save({"network": network.state_dict(), "average": None, "step": 7}, tmp_path / "last.pt")
    out = tmp_path / "w.safetensors"
    assert export.export(spec, tmp_path / "last.pt", out, "a note") == 7
    assert checkpoint.load(out).network.config == spec.config.model
    description = load_weights(out)[1]
    assert (description["note"], "7 steps" in description["trained_on"]) == ("a note", True)
    with pytest.raises(ConfigError, match="holds no state dict under ema"):
        export.export(spec, tmp_path / "last.pt", out, "", "ema")
    (tmp_path / "text.pt").write_text("no tensors")
    with pytest.raises(ConfigError, match="not a checkpoint"):
        export.export(spec, tmp_path / "text.pt", out, "")
    with pytest.raises(DataNotFoundError):
        export.export(spec, tmp_path / "none.pt", out, "")
    monkeypatch.setattr(sys, "argv", ["export_weights", CONFIG, str(tmp_path / "last.pt"), str(out)])
    assert export.main() == 0


@pytest.mark.slow
def test_two_processes_train(tmp_path):
    """The quantiles, which no optimiser moves, stay the same on both; real files of the result decode."""
    command = [sys.executable, str(ROOT / "tools/run_benchmark.py"), CONFIG, "--out", str(tmp_path)]
    for change in ("devices=2", "steps=4", "validate_every=4", "config.settle_every=2"):
        command += ["--set", f"train.{change}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "SwinT-ChARM tiny" in run.stdout
    assert checkpoint.load(tmp_path / "weights.safetensors").network.config == tiny("swin", "charm")
