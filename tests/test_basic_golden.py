"""BaSIC against vectors made by the original code."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from shared import SHARED, needs_shared

from cbench.bench.metrics import bd_quality, bd_rate
from cbench.coding import DecodeIO, EncodeIO
from cbench.models.basic import checkpoint, edges
from cbench.models.basic.codec import BasicCodec
from cbench.models.basic.complexity import Complexity, count
from cbench.models.basic.config import CoderConfig, tiny
from cbench.models.basic.context import ContextModel, Masks, OrderConv2d
from cbench.models.basic.integer import IntegerUnit
from cbench.models.basic.network import Structure, item_bits
from cbench.models.basic.order_learning import (
    SURROGATES,
    LogitGenerator,
    expected_labels,
    reinforce,
    soft_mask,
    thermodynamic,
    vimco,
)
from cbench.models.basic.orders import (
    ORDERS,
    compile_order,
    label_schedule,
    named_order,
    tiled_order,
    visible,
    visible_groups,
)
from cbench.models.basic.search import Entry, all_structures, find_levels
from cbench.nn.gaussian import gaussian_likelihood, scale_index

pytestmark = needs_shared
torch.set_num_threads(1)

WIDTHS = [4, 6, 8]
EDGES = {
    "analysis": lambda: edges.analysis(WIDTHS, [8]),
    "synthesis": lambda: edges.synthesis(WIDTHS, 8),
    "hyper_analysis": lambda: edges.hyper_analysis(WIDTHS, 8, [8], 0.0),
    "hyper_synthesis": lambda: edges.hyper_synthesis(WIDTHS, 8, [8]),
    "ms_hyper_analysis": lambda: edges.hyper_analysis(WIDTHS, 8, [8], 0.01),
    "ms_hyper_synthesis": lambda: edges.joint_hyper_synthesis(WIDTHS, 8, [16]),
    "cheng_noattn_analysis": lambda: edges.cheng_analysis(WIDTHS, [8]),
    "cheng_noattn_synthesis": lambda: edges.cheng_synthesis(WIDTHS, 8),
    "cheng_hyper_analysis": lambda: edges.cheng_hyper_analysis(WIDTHS, 8, [8]),
    "cheng_hyper_synthesis": lambda: edges.cheng_hyper_synthesis(WIDTHS, 8, [16]),
    "elic_noattn_analysis": lambda: edges.elic_analysis(WIDTHS, [8]),
    "elic_noattn_synthesis": lambda: edges.elic_synthesis(WIDTHS, 8),
    "elic_hyper_analysis": lambda: edges.hyper_analysis(WIDTHS, 8, [8], 0.0),
    "elic_hyper_synthesis": lambda: edges.joint_hyper_synthesis(WIDTHS, 8, [16], 0.0),
}
CASES = (
    "raster",
    "checkerboard",
    "raster2x2",
    "irregular_g1",
    "irregular_g2",
    "channelwise_checkerboard_g2",
    "irregular_g2_builtin",
    "raster_builtin",
)


@cache
def vectors(name):
    return torch.load(SHARED / "fixtures/basic" / name, weights_only=True)


def edge_of(name):
    """Our edge with the original's weights, and its entry in the fixtures."""
    given = vectors("slimmable.pt")[name]
    prefix = "latent_inference_modules.x_y."
    ours = checkpoint.from_original({prefix + key: value for key, value in given["state_dict"].items()})
    edge = EDGES.get(name, EDGES["synthesis"])()
    edge.load_state_dict({k.removeprefix("edges.x_y."): v for k, v in ours.items() if k.startswith("edges.x_y.")})
    return edge.requires_grad_(False), given


@pytest.mark.parametrize("name", EDGES)
def test_edges(name):
    edge, given = edge_of(name)
    for width in range(3):
        choice = 2 - width
        out = edge(given["input"], choice)
        assert (out - given["outputs_by_width_index"][width]).abs().max() < 5e-7
        assert count(edge, given["input"], choice) == given["true_macs_by_width_index"][width]
        published = count(edge, given["input"], choice, published=True)
        assert published == given["reference_ops_by_width_index"][width]
    soft = edge.mixture(given["input"], given["soft_weights"].flip(0))
    assert (soft - given["soft_output"]).abs().max() < 5e-7
    # The original has unused logits besides ours.
    assert sum(p.numel() for p in edge.parameters()) + edge.choices == given["n_params"]


def test_self_distillation():
    edge, given = edge_of("universal_decoder_self_distillation")
    for level in given["levels"]:
        out, losses = edges.distillation(edge, given["input"], 2 - level["level"])
        assert (out - level["output"]).abs().max() < 5e-7
        assert {f"{k}_loss": pytest.approx(float(v), rel=1e-5) for k, v in losses.items()} == level["losses"]


@pytest.mark.parametrize("name", ORDERS)
def test_named_orders(name):
    given = vectors("topo_order.pt")["named_orders_6x7"][name]
    assert np.array_equal(named_order(name, given["channel_groups"], 6, 7), given["order"][0].numpy())


def test_tiling_of_learned_orders():
    given = vectors("topo_order.pt")["tiling"]
    labels = given["logits"].reshape(2, 4, 2, 2).argmax(1).numpy()
    for size, order in given["orders"].items():
        assert np.array_equal(tiled_order(labels, *map(int, size.split("x"))), order[0].numpy())


def case_of(name):
    """Our context model with the original's weights, and its entry in the fixtures."""
    given = vectors("topo_order.pt")["cases"][name]
    prefix = "latent_node_entropy_coders.y."
    ours = checkpoint.from_original({prefix + key: value for key, value in given["state_dict"].items()})
    prefix = "y_coders.0.model."
    ours = {k.removeprefix(prefix): v for k, v in ours.items() if k.startswith(prefix)}
    hidden = ours["mix.0.bias"].numel(), ours["mix.1.bias"].numel()
    builtin = given["variant"] == "builtin"
    variant = {"variant": "B", "expand": 2} if builtin else {"hidden": hidden}
    model = ContextModel(4, CoderConfig(groups=given["channel_groups"], **variant))
    model.load_state_dict(ours)
    return model.requires_grad_(False), given


@pytest.mark.parametrize("name", CASES)
def test_masks(name):
    given = vectors("topo_order.pt")["cases"][name]
    order = given["order"][0].numpy()
    groups = len(order)
    masks = visible(order, 5).repeat(4 // groups, axis=1).reshape(groups, 100, 5, 6)
    assert np.array_equal(masks.transpose(1, 0, 2, 3), given["context_mask"][0].numpy())
    if "hidden_mask_1x1" in given:
        own = given["hidden_mask_1x1"][0].numpy()
        inside = visible_groups(order).repeat(len(own) // groups, axis=1)
        assert np.array_equal(inside.transpose(1, 0, 2, 3), own)


@pytest.mark.parametrize("name", CASES)
def test_context_model(name):
    model, given = case_of(name)
    masks = Masks.of(given["order"][0].numpy(), 5)
    means, scales = model(given["y_round"], given["prior"], masks)
    assert (means - given["means"]).abs().max() < 1e-5
    assert (scales - given["scales"]).abs().max() < 1e-5
    offset = (given["y"] - means).round()
    likelihood = gaussian_likelihood(offset, torch.zeros_like(means), scales).clamp_min(1e-7)
    assert (likelihood - given["likelihood"]).abs().max() < 1e-6
    # Float32 leaves few digits of a probability near one.
    assert float(item_bits(likelihood)) == pytest.approx(given["bits"], rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_table_indices(name):
    given = vectors("topo_order.pt")["cases"][name]
    scales = given["scales"].double().numpy()
    index = scale_index(np.rint(scales.clip(0) * 4096).astype(np.int64), 12).astype(int)
    table = vectors("topo_order.pt")["gaussian_tables"]["scale_table"].double().numpy()
    published = given["scale_indexes"].numpy()
    # Published: the nearest of 64 scales. Ours: the bins between those scales, each with a Gaussian in its middle.
    assert np.array_equal(np.abs(scales.clip(0)[..., None] - table).argmin(-1), published)
    assert set(np.unique(index - published)) <= {0, 1}


@pytest.mark.parametrize("name", CASES)
def test_coded_symbols(name):
    """Our integers against the original's floats: equal symbols unless y - mean lies on a rounding boundary."""
    model, given = case_of(name)
    unit = IntegerUnit(model)
    prior = (given["prior"][0].permute(1, 2, 0).double() * 4096).round()
    order = given["order"][0].numpy()
    for schedule in (compile_order(order), label_schedule(order)):
        io = EncodeIO()
        symbols, y_hat = unit.code(io, given["y"][0].numpy(), prior, schedule)
        stream = io.finish()
        assert abs(len(stream) - given["bytes"].numel()) < 24
        differ = symbols != given["symbols"][0].numpy()
        assert differ.sum() <= 1
        # A differing symbol moves the means of its neighbours a little.
        tolerance = 0.05 if differ.any() else 3e-3
        assert np.abs(y_hat / 256 - given["y_hat_decoded"][0].numpy())[~differ].max() < tolerance
        again, same = unit.code(DecodeIO(stream), None, prior, schedule)
        assert np.array_equal(again, symbols)
        assert np.array_equal(same, y_hat)


@cache
def graph(name):
    given = vectors(name)
    hidden = tuple(
        given["state_dict"][f"latent_node_entropy_coders.y.topo_group_context_model.param_merger_{part}.bias"].numel()
        for part in ("in", "out.1")
    )
    coder = CoderConfig(order=given["order_method"], groups=given["channel_groups"], hidden=hidden)
    config = replace(tiny(), coders=(coder,))
    return checkpoint.build(checkpoint.from_original(given["state_dict"]), config), given


def test_grouped_checkpoints_and_learned_labels(tmp_path):
    weights, given = graph("e2e_raster.pt")
    prefix = "model.codec_{}.entropy_coder."
    state = {prefix.format(1) + key: value for key, value in given["state_dict"].items()}
    state[prefix.format(0) + "latent_node_entropy_coders.y.lower_bound_scale.bound"] = torch.ones(1)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, path)
    assert checkpoint.load(path, weights.network.config, codec=1).fingerprint() == weights.fingerprint()
    tiling = vectors("topo_order.pt")["tiling"]
    key = "latent_node_entropy_coders.y.topo_group_predictor_cache"
    logits = checkpoint.from_original({key: tiling["logits"]})["y_coders.0.learned.labels"]
    config = replace(tiny(), coders=(CoderConfig(order="learned", groups=2, stages=4),))
    network = checkpoint.BasicNetwork(config)
    built = checkpoint.build(network.state_dict() | {"y_coders.0.learned.labels": logits}, config)
    order = built.network.y_coders[0].order(5, 7)
    assert np.array_equal(order, tiling["orders"]["5x7"][0].numpy())


@pytest.mark.parametrize("name", ["e2e_raster.pt", "e2e_cwcheck_g2.pt"])
def test_whole_graph(name):
    weights, given = graph(name)
    codec = BasicCodec("basic.test", weights)
    for level in given["levels"]:
        structure = Structure(*level["select"])
        with torch.no_grad():
            parts = weights.network(given["x"], structure)
        assert (parts.y - level["y"]).abs().max() < 1e-5
        assert (parts.z - level["z"]).abs().max() < 2e-6
        assert (parts.prior - level["prior"]).abs().max() < 1e-6
        assert (parts.x_hat - level["x_hat"]).abs().max() < 1e-6
        assert float(item_bits(parts.y_likelihood)) == pytest.approx(level["bits_y"], rel=2e-4)
        assert float(item_bits(parts.z_likelihood)) == pytest.approx(level["bits_z"], rel=1e-4)
        x = (given["x"][0] * 255).round().to(torch.uint8).numpy()
        data = codec.with_structure(structure).compress(x)
        assert codec.decompress(data).shape == x.shape
        # Ours stores a header besides; the coder's end is 4 bytes as in the original.
        assert abs(len(data) - level["stream"].numel()) < 0.1 * level["stream"].numel() + 60


@pytest.mark.parametrize("name", ["e2e_raster.pt", "e2e_cwcheck_g2.pt"])
def test_coded_latents(name):
    """From the original's y and z_hat to the original's coded y_hat."""
    weights, given = graph(name)
    codec = BasicCodec("basic.test", weights)
    for level in given["levels"]:
        structure = Structure(*level["select"])
        tables = weights.tables[0]
        symbols = tables.symbols(level["z"][0].numpy())
        z_hat = tables.values(symbols.astype(np.int64), 12) / 4096
        assert np.abs(z_hat - level["z_hat"][0].numpy()).max() < 2.0**-12
        prior = codec.prior(tables.values(symbols.astype(np.int64), 12), structure.z_y)
        assert np.abs(prior.permute(2, 0, 1).numpy() / 4096 - level["prior"][0].numpy()).max() < 2e-3
        y_hat = codec.code_y(EncodeIO(), 0, prior, level["y"][0].numpy()) / 256
        # Rounded means shift each other by some hundredths, and rarely a symbol over its rounding boundary.
        assert (np.abs(y_hat - level["y_hat_coded"][0].numpy()) > 0.3).mean() < 0.02


def test_published_complexity_of_all_structures():
    weights, given = graph("e2e_raster.pt")
    x = given["x"]
    sizes = {"x_y": x, "y_z": torch.zeros(1, 8, 8, 4), "z_y": torch.zeros(1, 8, 2, 1), "y_x": torch.zeros(1, 8, 8, 4)}
    network = weights.network
    cost = {
        name: [count(network.edges[name], value, choice, published=True) for choice in range(3)]
        for name, value in sizes.items()
    }
    for row in given["reference_ops_all_81"].tolist():
        assert sum(cost[name][int(choice)] for name, choice in zip(sizes, row[:4], strict=True)) == row[4]


def test_true_complexity_of_the_graph():
    weights, _ = graph("e2e_raster.pt")
    costs = Complexity(weights.network)
    full, least = costs.cost(Structure()), costs.cost(Structure(2, 2, 2, 2))
    assert full.total > 2 * least.total
    network, z = weights.network, torch.zeros(1, 8, 1, 1)
    hyper = count(network.edges["z_y"], z, 0) / 4096 / 1000
    assert full.decoder == pytest.approx(hyper + costs.coders[0] + costs.edges[3][0])


def test_level_search():
    given = vectors("level_search_toy.pt")
    known = {tuple(int(v) for v in row[:4]): row[4:] for row in given["table"].tolist()}
    entries = [Entry(s, *known[s.choices[:4]]) for s in all_structures((3, 3, 3, 3, 1))]
    for name, number in (("levels8_linear", 8), ("levels5_linear", 5)):
        assert [list(e.structure.choices[:4]) for e in find_levels(entries, number)] == given[name]["levels"]
    custom = given["custom_constraints"]
    targets = [target + 1e-3 for target in custom["metric_cache"][:, 0].tolist()]
    found = find_levels(entries, targets=targets)
    assert [list(e.structure.choices[:4]) for e in found] == custom["levels"]


def windows_of_equal_labels(labels, size, kind):
    below = labels - labels.detach().max().ceil() - 1
    windows = torch.nn.functional.unfold(below[None], size, padding=size // 2).view(2, -1, 20)
    return Masks(soft_mask(below.view(2, 1, 1, -1), windows[None], kind, same=True), None)


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("kind", SURROGATES)
def test_surrogates_of_continuous_labels(kind, same):
    given = vectors("order_learning.pt")
    expected = given["funcs"][f"{kind}/same" if same else kind]
    labels = given["topo"].clone().requires_grad_()
    size = given["kernel_size"]
    masks = Masks.soft(labels[0], size, kind)
    if same:
        # In the codec only 1 x 1 layers let equal labels see each other; the original's test had a window.
        masks = windows_of_equal_labels(labels[0], size, kind)
    layer = OrderConv2d(4, 6, size, 2)
    layer.load_state_dict(given["state_dict"])
    out = layer(given["input"], masks.context)
    assert (out - expected["output"]).abs().max() < 1e-5
    if "grad_topo_of_sum_sq" in expected:
        out.square().sum().backward()
        wanted = expected["grad_topo_of_sum_sq"]
        assert (labels.grad - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_label_generator():
    given = vectors("order_learning.pt")["order_predictor"]
    prefix = "latent_node_entropy_coders.y.topo_group_predictor."
    ours = checkpoint.from_original({prefix + k: v for k, v in given["state_dict"].items()})
    prefix = "y_coders.0.learned.generator."
    ours = {k.removeprefix(prefix): v for k, v in ours.items() if k.startswith(prefix)}
    generator = LogitGenerator(given["out_channels"])
    generator.load_state_dict(ours, strict=False)
    with torch.no_grad():
        trained = generator.train()(given["z_train"])
        generator.load_state_dict(ours, strict=False)
        settled = generator.eval()(given["z_eval"])
    assert (trained - given["logits_train"]).abs().max() < 1e-5
    assert (settled - given["logits_eval"]).abs().max() < 1e-5


def test_expected_labels():
    given = vectors("order_learning.pt")["expected_order"]
    labels = expected_labels(given["logits"].view(2, 4, 2, 2))
    tiled = labels.repeat(1, 2, 3)
    assert (tiled - given["train_continuous"][0]).abs().max() < 1e-4
    assert torch.equal(tiled.round(), given["eval_rounded"][0])


def test_monte_carlo_losses():
    given = vectors("topo_order.pt")["mc_losses"]
    log_weight, log_q = given["log_weight"].T, given["log_q"].T.clone().requires_grad_()
    loss = vimco(log_weight, log_q)
    assert float(loss.detach()) == pytest.approx(given["vimco"], rel=1e-5)
    loss.backward()
    assert (log_q.grad.T - given["vimco_grad_log_q"]).abs().max() < 1e-5
    assert float(reinforce(log_weight, log_q.detach())) == pytest.approx(given["reinforce"], rel=1e-5)
    assert float(thermodynamic(log_weight, log_q.detach())) == pytest.approx(given["thermo"], rel=1e-5)


def test_bjontegaard_sign_is_the_usual_one():
    given = json.loads((SHARED / "fixtures/basic/bd_metric.json").read_text(encoding="utf-8"))
    anchor = given["reference_hyperprior_kodak"]
    for case in given["cases"]:
        curves = case["bytes_mean"], case["psnr"], anchor["bytes_mean"], anchor["psnr"]
        rate, quality = bd_rate(*curves, method="cubic"), bd_quality(*curves, method="cubic")
        assert rate == pytest.approx(case["bd_rate_standard_percent"], abs=0.02)
        assert quality == pytest.approx(case["bd_psnr_standard_db"], abs=0.005)
        assert np.sign(rate) == -np.sign(case["bd_value_reference_code_reports"])
