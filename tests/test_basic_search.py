"""Search for structures, training, the preparation of training data, experiments."""

import importlib.util
import time
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cbench.bench.config import RUN_WEIGHTS, DataSpec, Measure
from cbench.bench.loading import experiments_in, load
from cbench.bench.run import run
from cbench.codec import Sample
from cbench.errors import ConfigError, DataNotFoundError
from cbench.models.basic import checkpoint, config
from cbench.models.basic.config import BasicTraining, CoderConfig, tiny
from cbench.models.basic.network import BasicNetwork
from cbench.models.basic.order_learning import draw_labels, mean_entropy
from cbench.models.basic.search import (
    Entry,
    all_structures,
    exhaustive_losses,
    find_levels,
    iterative_levels,
    losses,
    pareto_front,
    searched,
)
from cbench.models.basic.train import BasicModule

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@cache
def network() -> BasicNetwork:
    torch.manual_seed(0)
    made = BasicNetwork(replace(tiny(), coders=(CoderConfig(), CoderConfig(order="checkerboard"))))
    with torch.no_grad():
        made.edges["x_y"].layers[-1].weight.mul_(100)
    return made.eval().requires_grad_(False)


def test_factorised_search_equals_the_exhaustive_one(record_property):
    pictures = [torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(1))]
    start = time.thread_time()
    fast = losses(network(), pictures, 100.0)
    middle = time.thread_time()
    slow = exhaustive_losses(network(), pictures, 100.0)
    record_property("ratio", (time.thread_time() - middle) / (middle - start))
    assert list(fast) == list(slow) == all_structures((3, 3, 3, 3, 2))
    assert len(fast) == 162
    assert all(fast[s] == pytest.approx(slow[s], rel=1e-5) for s in fast)


def toy_entries():
    """Losses that fall with complexity, but not everywhere."""
    chance = np.random.default_rng(0)
    found = []
    for s in all_structures((3, 3, 3, 3, 1)):
        cost = 1 + sum((2 - choice) * weight for choice, weight in zip(s.choices, (3, 1, 1, 4), strict=False))
        found.append(Entry(s, cost, 10 - 0.3 * cost + float(chance.normal(0, 0.3)) * (0 < sum(s.choices) < 8)))
    return found


def test_levels_and_front():
    entries = toy_entries()
    levels = find_levels(entries, 8)
    assert (levels[0], levels[-1]) == (entries[1], entries[0])
    front = pareto_front(entries)
    assert [e.complexity for e in front] == sorted({e.complexity for e in front}, reverse=True)
    for entry in entries:
        assert any(e.complexity <= entry.complexity and e.loss <= entry.loss for e in front)
    # What the levels' rule finds for a target is the front's best within it.
    for target in (5.0, 9.0, 12.0):
        best = find_levels(entries, targets=[target])[0]
        assert best.loss == next(e.loss for e in front if e.complexity <= target)
    stepwise = iterative_levels(entries, 8)
    assert len(stepwise) == 8
    assert all(a.complexity >= b.complexity for a, b in pairwise(stepwise))
    with pytest.raises(ConfigError, match="no structure"):
        find_levels(entries, targets=[0.5])
    with pytest.raises(ConfigError, match="largest"):
        find_levels([entries[1], entries[0]], 3)


def test_searched_weights_keep_a_front():
    state = network().state_dict()
    weights = checkpoint.build(state, network().config)
    picture = np.random.default_rng(0).integers(0, 256, (3, 70, 300)).astype(np.uint8)
    found = searched(weights, [picture], 100.0)
    assert found.front
    assert found.fingerprint() != weights.fingerprint() or found.front == weights.front


BATCH = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "training",
    [
        BasicTraining(model=tiny()),
        BasicTraining(model=tiny(), sampling="sandwich", start="balanced"),
        BasicTraining(model=tiny(), sampling="relaxed", complexity_weight=1.0),
        BasicTraining(model=replace(config.hyperprior(), widths=(4, 6), latent=8, hyper=8), distill=True),
        BasicTraining(model=replace(config.slim_cae(), widths=(4, 6), latent=6, hyper=6)),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(), CoderConfig(order="learned", groups=2, stages=3)))),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(order="learned", stages=3),)), random_orders=100),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(order="random", groups=2, variant="B"),))),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(order="learned", stages=3, logits="continuous"),))),
    ],
    ids=["uniform", "sandwich", "relaxed", "distilled", "slim-cae", "learned", "random-phase", "random", "continuous"],
)
def test_a_step_moves_what_it_should(training):
    torch.manual_seed(0)
    module = BasicModule(training)
    module.train()
    parameters = module.groups()[0].parameters
    optimizer = torch.optim.Adam(parameters, 1e-3)
    for _ in range(2):
        found = module.loss(BATCH)
        assert torch.isfinite(found["loss"])
        assert {"bpd", "bpp", "psnr"} <= set(found)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        module.after_step(BATCH)
    learned = [coder.learned for coder in module.network.y_coders if coder.learned is not None]
    for order in learned:
        # Random orders teach the context model only.
        moved = order.table if order.config.logits == "continuous" else order.generator.final.weight
        assert (moved.grad is None) == bool(training.random_orders)
    if training.sampling == "relaxed":
        assert module.network.edges["x_y"].logits.grad.abs().sum() > 0
    module.network.eval()
    assert torch.isfinite(module.loss(BATCH[:1])["bpd"])


def test_frozen_parts_stay():
    model = replace(config.topo_group(config.ordered("checkerboard")), widths=(4,), latent=8, hyper=8)
    module = BasicModule(BasicTraining(model=model, frozen=(*config.EDGES, "z")))
    names = {id(p): name for name, p in module.network.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in module.groups()[0].parameters} == {"y_coders"}


def test_learned_orders_are_settled_once():
    coder = CoderConfig(order="learned", groups=2, stages=3)
    torch.manual_seed(0)
    made = BasicNetwork(replace(tiny(), coders=(coder,)))
    order = made.y_coders[0].learned
    order.settle()
    before = made.y_coders[0].order(5, 7)
    made.double().float().eval()
    assert np.array_equal(made.y_coders[0].order(5, 7), before)
    labels, log_q = draw_labels(order.logits(), 4)
    assert labels.shape == (4, 2, 2, 2)
    assert log_q.requires_grad
    assert 0 < float(mean_entropy(order.logits().detach())) < 0.5


EXPERIMENTS = experiments_in(ROOT / "configs/basic.py")


def test_every_experiment_constructs():
    experiments = [make() for make in EXPERIMENTS.values()]
    assert len({experiment.name for experiment in experiments}) == len(experiments) > 50
    for experiment in experiments:
        if experiment.train is not None:
            recipe = experiment.train.config
            with torch.device("meta"):
                assert BasicNetwork(recipe.model).config == recipe.model


def test_shrunken_run(tmp_path):
    experiment = load(f"{ROOT / 'configs/basic.py'}:photos_tiny").experiment
    chance = np.random.default_rng(0)
    rows, columns = np.indices((64, 64))
    items = [
        Sample(
            str(n), (128 + 90 * np.sin((rows * n + columns) / 20) + chance.normal(0, 3, (3, 64, 64))).astype(np.uint8)
        )
        for n in range(4)
    ]
    data = DataSpec(source=lambda: items, name="waves")
    recipe = replace(experiment.train.config, search=lambda: items, search_limit=1)
    train = replace(
        experiment.train, config=recipe, data=data, validation=data, steps=4, batch_size=4, validate_every=4
    )
    codecs = tuple(spec for spec in experiment.codecs if spec.weights == RUN_WEIGHTS)[:2]
    small = replace(experiment, train=train, data=(replace(data, limit=1),), codecs=codecs, measure=Measure(psnr=True))
    report = run(small, tmp_path, progress=False)
    assert not report.failures
    assert len(report.rows) == 2


@cache
def tool():
    specification = importlib.util.spec_from_file_location("prepare_dataset", ROOT / "tools/prepare_dataset.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_preparing_training_pictures(tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "a").mkdir(parents=True)
    sizes = {"a/large.png": (64, 48), "a/small.png": (10, 10), "middle.jpg": (30, 20)}
    for name, size in sizes.items():
        Image.effect_noise(size, 50).save(source / name)
    (source / "broken.png").write_bytes(b"no picture")
    assert tool().main([str(source), str(target), "--count", "2", "--limit", "30"]) == 0
    found = {path.name: Image.open(path) for path in target.iterdir()}
    assert {name: picture.size for name, picture in found.items()} == {"a_large.png": (32, 24), "middle.png": (30, 20)}
    assert all(picture.mode == "RGB" for picture in found.values())
    assert tool().prepare(source, target, 0) == 3
    assert tool().main([str(tmp_path / "none"), str(target)]) == 1
    assert "no pictures" in capsys.readouterr().err
    with pytest.raises(DataNotFoundError):
        tool().pictures(tmp_path / "none")
