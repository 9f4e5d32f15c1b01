"""The commands that measure BaSIC, on tiny models."""

import importlib.util
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.bench.tables import aligned
from cbench.codec import Sample
from cbench.models.basic import checkpoint
from cbench.models.basic.codec import BasicCodec
from cbench.models.basic.config import CoderConfig, tiny
from cbench.models.basic.network import BasicNetwork
from cbench.models.basic.timing import waves

TOOLS = Path(__file__).resolve().parent.parent / "tools"
torch.set_num_threads(1)


@cache
def tool(name):
    specification = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where dataclasses look for their module
    specification.loader.exec_module(module)
    return module


@cache
def weights() -> checkpoint.Weights:
    torch.manual_seed(0)
    network = BasicNetwork(replace(tiny(), coders=(CoderConfig(), CoderConfig(order="checkerboard"))))
    with torch.no_grad():
        network.edges["x_y"].layers[-1].weight.mul_(100)
    return checkpoint.build(network.state_dict(), network.config)


def test_tables_of_levels_and_control():
    measure, own = tool("measure_basic"), BasicCodec("basic.test", weights())
    levels = measure.levels(own, [waves((64, 64)), waves((64, 128))])
    assert [level.number for level in levels] == list(range(8))
    assert levels[0].widths == "8 8 8 8 scanline"
    assert levels[0].steps == 141
    assert all(level.bpp > 0 and level.psnr > 0 and level.decode > 0 for level in levels)
    assert "8 8 8 8 scanline" in aligned(measure.LEVEL_COLUMNS, levels)
    worse = [replace(level, bpp=1.01 * level.bpp, psnr=level.psnr + 1) for level in levels]
    curves = [levels, worse]
    assert measure.steps_up([[table[3]] * 8 for table in curves]) == pytest.approx([0] * 7)
    dearer = [[replace(table[3], bpp=(1.1 - 0.1 * (n > 0)) * table[3].bpp) for n in range(8)] for table in curves]
    assert measure.steps_up(dearer) == pytest.approx([10, *[0] * 6])
    rows = measure.control(own, [waves((64, 64))])
    assert (rows[0].asked, rows[-1].asked) == pytest.approx((rows[0].counted, rows[-1].counted))
    assert all(row.predicted > 0 and row.measured > 0 for row in rows)
    assert "%" in aligned(measure.CONTROL_COLUMNS, rows)


def test_searching_a_weights_file_again(tmp_path, monkeypatch, capsys):
    measure = tool("measure_basic")
    monkeypatch.setattr(measure.photos, "validation", lambda root: [Sample("waves", waves((64, 64)))])
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    checkpoint.save(source, weights(), {"rd_lambda": "100"})
    monkeypatch.setattr("sys.argv", ["measure_basic", "front", str(source), str(target)])
    assert measure.main() == 0
    assert "structures" in capsys.readouterr().out
    assert checkpoint.load(target).front
    checkpoint.save(source, weights(), {})
    assert measure.main() == 1
    assert "rd_lambda" in capsys.readouterr().err


def test_estimates_of_the_start():
    training = tool("basic_training")
    pictures = [torch.from_numpy(waves((64, 64)))[None].float() / 255]
    rows = training.estimates("tiny", weights().network, pictures, 100.0)
    assert [row.structure.choices for row in rows] == [(0, 0, 0, 0, 0), (2, 2, 2, 2, 0)]
    assert all(row.loss > row.bpp > 0 for row in rows)
    assert "tiny" in aligned(training.ESTIMATE_COLUMNS, rows)


def test_what_slimming_costs():
    training, own = tool("basic_training"), BasicCodec("basic.test", weights())
    level = training.coded("tiny", own.with_complexity(7), [waves((64, 64))], 100.0)
    assert level.structure == own.front[-1]
    assert level.loss > level.bpp > 0
    dearer = replace(level, loss=level.loss + 0.1 * level.bpp)
    assert training.slimming_cost(dearer, level) == pytest.approx(0.1)


def test_both_searches_are_timed():
    fast, slow, same, count = tool("measure_basic").search(replace(tiny(), widths=(4, 8)), (64, 64))
    assert same
    assert count == 16
    assert fast > 0 < slow


def test_speed_and_matrix_of_the_engine(tmp_path):
    engine = tool("basic_engine")
    rows = engine.speed(replace(tiny(), widths=(4, 8)), (64, 128))
    assert [(row.order, row.labels, row.steps) for row in rows[:2]] == [("scanline", 32, 17), ("checkerboard", 2, 2)]
    assert "narrowest" in aligned(engine.COLUMNS, rows)
    model = replace(engine.MATRIX, widths=(4, 8), latent=8, hyper=8)
    engine.write(tmp_path, model)
    assert engine.mismatches(tmp_path, model, 2) == 0
    with np.load(tmp_path / "0.npz") as kept:
        np.savez(tmp_path / "1.npz", y_hat=kept["y_hat"], stream=kept["stream"])
    assert engine.mismatches(tmp_path, model, 1) == 1
