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
from cbench.models.basic.augment import AUGMENTATIONS, augmented, from_linear, to_linear
from cbench.models.basic.codec import BasicCodec
from cbench.models.basic.config import BasicTraining, CoderConfig, tiny
from cbench.models.basic.network import BasicNetwork, Structure
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
    spread,
)
from cbench.models.basic.start import start_linear
from cbench.models.basic.train import BasicModule
from cbench.nn.components import components, covariances

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


def test_levels_are_spread_evenly():
    costs = [16.0, 15.9, 15.8, 8.1, 8.0, 4.1, 4.0, 2.0, 1.0]
    assert [costs[at] for at in spread(costs, 5)] == [16.0, 8.0, 4.0, 2.0, 1.0]
    assert len(set(spread(costs, 9))) == 9
    assert spread([4.0, 1.0], 8)[::7] == [0, 1]
    assert spread([3.0], 8) == [0] * 8


def test_components_of_the_model_picture():
    kernels = components([16, 16])
    assert [tuple(kernel.shape) for kernel in kernels] == [(12, 3, 2, 2), (16, 12, 2, 2)]
    for kernel in kernels:
        rows = kernel.flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)
    found = covariances([16, 16], 2)
    variance = found[:, 2, 2]
    assert (np.diff(variance) < 1e-9).all()
    # The first component is the mean of a block: its neighbours are alike, the less so the further away.
    assert variance[0] > found[0, 2, 3] > found[0, 2, 4] > 0
    assert np.allclose(found[0], found[0].T)
    assert (np.abs(found) <= variance[:, None, None] + 1e-9).all()


def test_a_linear_start_transforms_without_training():
    """Smooth pictures come back at every width, large coefficients first, at few bits."""
    model = replace(tiny(), widths=(16, 24), latent=24, hyper=16)
    torch.manual_seed(0)
    made = BasicNetwork(model)
    start_linear(made, 145.0)
    made.eval()
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    x = (0.5 + 0.3 * torch.sin(rows / 17) * torch.cos(columns / 13)).expand(1, 3, -1, -1)
    for structure in (Structure(), Structure(1, 1, 1, 1)):
        with torch.no_grad():
            parts = made(x, structure)
        assert float((parts.x_hat - x).square().mean()) < 0.1 * float(x.var())
        assert float(parts.bits) < 1.0 * x[0, 0].numel()
        deviations = parts.y[0].flatten(1).std(1)
        assert deviations[0] > 10 * deviations[-1]
    with pytest.raises(ConfigError, match="linear start"):
        start_linear(BasicNetwork(replace(config.hyperprior(), widths=(4,), latent=4, hyper=4)), 145.0)


def test_weights_of_another_lambda_are_scaled(tmp_path):
    torch.manual_seed(0)
    weights = checkpoint.build(network().state_dict(), network().config)
    checkpoint.save(tmp_path / "w.safetensors", weights, {"rd_lambda": "100"})
    module = BasicModule(BasicTraining(model=network().config, start="linear", rd_lambda=25.0))
    module.load(tmp_path / "w.safetensors")
    module.network.eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        y, z = (network().edges["x_y"](x), network().edges["y_z"](network().edges["x_y"](x)))
        half = module.network.edges["x_y"](x)
        assert torch.allclose(half, y / 2, atol=1e-5)
        assert torch.allclose(module.network.edges["y_z"](half), z, atol=1e-4)
        assert torch.allclose(module.network.edges["y_x"](half), network().edges["y_x"](y), atol=1e-4)
        prior = network().edges["z_y"](z)
        for own, other in zip(module.network.y_coders, network().y_coders, strict=True):
            for found, expected in zip(own(half, prior), other(y, prior), strict=True):
                assert torch.allclose(found, expected / 2, atol=1e-4)


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
        BasicTraining(model=tiny(), sampling="sandwich", start="linear"),
        BasicTraining(model=tiny(), sampling="relaxed", complexity_weight=1.0),
        BasicTraining(model=tiny(), sampling="relaxed", complexity_loss="relative", complexity_weight=1.0),
        BasicTraining(model=tiny(), augment=("tones", "light", "upside-down")),
        BasicTraining(model=replace(config.hyperprior(), widths=(4, 6), latent=8, hyper=8), distill=True),
        BasicTraining(model=replace(config.slim_cae(), widths=(4, 6), latent=6, hyper=6)),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(), CoderConfig(order="learned", groups=2, stages=3)))),
        BasicTraining(
            model=replace(tiny(), coders=(CoderConfig(order="learned", stages=3),)), estimator="thermodynamic"
        ),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(order="learned", stages=3),)), random_orders=100),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(order="random", groups=2, variant="B"),))),
        BasicTraining(model=replace(tiny(), coders=(CoderConfig(order="learned", stages=3, logits="continuous"),))),
    ],
    ids=[
        *("uniform", "sandwich", "relaxed", "relative", "augmented", "distilled", "slim-cae", "learned"),
        *("thermodynamic", "random-phase", "random", "continuous"),
    ],
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


def test_relative_loss_goes_from_none_to_all():
    """On the largest structure nothing is lost and all is spent; on the smallest it is the other way round."""
    torch.manual_seed(0)
    module = BasicModule(BasicTraining(model=tiny(), sampling="relaxed", complexity_loss="relative"))
    module.network.eval()
    x = BATCH.float() / 255
    (best, worst), (most, least) = module._extremes(x)
    assert most > least > 0
    shares = [module._relative_loss(x, torch.tensor(loss), torch.tensor(most)) for loss in (best, worst)]
    assert float(shares[0]) == pytest.approx(0, abs=1e-5)
    if worst > best:
        assert float(shares[1]) == pytest.approx(1, rel=1e-3)


def test_augmentations_do_what_they_say():
    torch.manual_seed(0)
    x = torch.rand(64, 3, 8, 8)
    for name in AUGMENTATIONS:
        before = x.clone()
        changed = augmented(x, (name,))
        assert torch.equal(x, before)
        assert changed.min() >= 0
        assert changed.max() <= 1
        share = float((changed != x).flatten(1).any(1).float().mean())
        assert 0.3 < share < 0.95, name
    assert torch.allclose(from_linear(to_linear(x)), x, atol=1e-5)
    assert float(to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-4)
    grey = torch.full((64, 3, 1, 1), 0.25)
    lit = augmented(grey, ("light",))
    warm, cold = lit[:, 0] > lit[:, 1], lit[:, 2] > lit[:, 1]
    assert 0 < int(warm.sum()) < 64
    assert torch.equal(warm, lit[:, 2] < lit[:, 1])
    assert int(cold.sum()) > 0
    assert torch.equal(lit[:, 1], grey[:, 1])
    with pytest.raises(ConfigError, match="augmentation"):
        augmented(x, ("blur",))


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


def shrunken(model: config.BasicConfig) -> config.BasicConfig:
    """The same kind of model with a few channels."""
    latent = 2 * max([4, *(coder.groups for coder in model.coders)])
    count = min(len(model.widths), 3)
    widths = tuple(latent // 2 * (1 + i) for i in range(count)) if count > 1 else (latent,)
    small = replace(model, coders=tuple(replace(coder, expand=1) for coder in model.coders))
    same = model.slim_latents or model.backbone == "groups"
    return replace(small, widths=widths, latent=widths[-1] if same else latent, hyper=widths[-1] if same else 8)


@pytest.mark.parametrize("name", [name for name, make in EXPERIMENTS.items() if make().train is not None])
def test_every_training_runs_when_shrunken(name):
    """A step of the experiment's recipe on a small model of its kind, then a file of it."""
    recipe = EXPERIMENTS[name]().train.config
    torch.manual_seed(0)
    module = BasicModule(replace(recipe, model=shrunken(recipe.model), search=None, distortion="mse"))
    module.train()
    parameters = module.groups()[0].parameters
    optimizer = torch.optim.Adam(parameters, 1e-4)
    found = module.loss(BATCH)
    found["loss"].backward()
    optimizer.step()
    assert all(torch.isfinite(value).all() for value in found.values())
    module.network.eval()
    module.calibrate([])
    own = module.codec()
    assert isinstance(own, BasicCodec)
    x = BATCH[0, :, :20, :30].numpy()
    assert own.decompress(own.compress(x)).shape == x.shape


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
