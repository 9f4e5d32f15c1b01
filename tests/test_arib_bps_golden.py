"""ArIB-BPS against vectors made by the original code: both networks, losses, gradients, latents, streams."""

import json

import numpy as np
import pytest
import torch
from arib_bps_original import Stream, decode_planes
from shared import SHARED, needs_shared

from cbench.errors import ConfigError, DataNotFoundError
from cbench.models.arib_bps import checkpoint, config
from cbench.models.arib_bps.losses import Continuous, Quantised, hyperprior, ins_terms, sig_terms
from cbench.models.arib_bps.network import AribNetwork, logits, parameter_count
from cbench.models.arib_bps.planes import STEPS, bit, known, signs, sub_image, top

pytestmark = needs_shared
torch.set_num_threads(1)
PUBLISHED = {
    "cifar10": 44_271_774,
    "imagenet32": 328_277_990,
    "imagenet64": 146_339_238,
    "imagenet64_small": 44_126_246,
}


def folder():
    return SHARED / "fixtures" / "arib_bps"


@pytest.fixture(scope="module", params=["share", "split"])
def model(request):
    state = torch.load(folder() / f"tiny_{request.param}.pt", weights_only=True)
    weights = checkpoint.from_original(state["sig"], state["ins"])
    vectors = dict(np.load(folder() / f"tiny_{request.param}_io.npz"))
    assert weights.network.config == getattr(config, f"tiny_{request.param}")()
    return weights, vectors, state


def noise(network, vectors, dtype=torch.float32):
    return [torch.from_numpy(vectors[f"eps_l{i}"]).to(dtype) for i in range(network.config.n_layers)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_keys_and_detection(name):
    expected = json.loads((folder() / "state_dict_shapes.json").read_text())[name]
    with torch.device("meta"):
        network = AribNetwork(getattr(config, name)())
    assert parameter_count(network) == PUBLISHED[name]
    for part in checkpoint.PARTS:
        model = getattr(network, part)
        names, state = checkpoint._names(network, part), model.state_dict()
        assert {names[key]: list(value.shape) for key, value in state.items()} == expected[part]
        assert parameter_count(model) == expected["params"][part]
    states = [{key: torch.empty(s, device="meta") for key, s in expected[part].items()} for part in checkpoint.PARTS]
    assert checkpoint.config_of(*states) == network.config


def test_losses(model):
    weights, vectors, _ = model
    network, x = weights.network, torch.from_numpy(vectors["images"])
    with torch.no_grad():
        found = [sig_terms(network.sig, x, Continuous(noise(network, vectors), x.numel())), ins_terms(network.ins, x)]
        np.testing.assert_allclose(torch.cat(found), vectors["inf_loss"], atol=1e-6)
        np.testing.assert_allclose(torch.cat(found), vectors["fwd_loss"], atol=1e-6)
        exact = AribNetwork(network.config).double().eval()
        exact.load_state_dict(network.state_dict())
        drawn = Continuous(noise(network, vectors, torch.float64), x.numel())
        found = [sig_terms(exact.sig, x, drawn), ins_terms(exact.ins, x)]
    np.testing.assert_allclose(torch.cat(found), vectors["inf_loss_f64"], atol=1e-7)


def test_gradients(model):
    _, vectors, state = model
    network = checkpoint.from_original(state["sig"], state["ins"]).network.requires_grad_(True)
    x = torch.from_numpy(vectors["images"])
    qps = torch.from_numpy(vectors["finetune_qps"])
    drawn = {
        "elbo": Continuous(noise(network, vectors), x.numel()),
        "finetune": Quantised(noise(network, vectors), x.numel(), qps),
    }
    for name, sample in drawn.items():
        network.zero_grad()
        terms = sig_terms(network.sig, x, sample)
        np.testing.assert_allclose(terms.detach(), vectors[f"{name}_sig_loss"], atol=1e-6)
        terms.sum().backward()
        for tensor, key in (
            (network.sig.lvae.head.weight, "lvae_head_w"),
            (network.sig.lvae.mean[2].v, "postmean_tail_v"),
        ):
            expected = vectors[f"{name}_grad_{key}"]
            # A quantised latent that lies close to the edge of a bin has gradients of 1e5 in single precision.
            limit = 1e-4 if name == "elbo" else 0.02
            assert np.abs(tensor.grad.numpy() - expected).max() <= limit * np.abs(expected).max(), (name, key)
    terms = ins_terms(network.ins, x)
    terms.sum().backward()
    np.testing.assert_allclose(terms.detach(), vectors["ins_loss"], atol=1e-6)
    np.testing.assert_allclose(network.ins.plane_context.first.weight.grad, vectors["ins_grad_unet_in_w"], atol=1e-6)


def test_layers(model):
    weights, vectors, _ = model
    network = weights.network
    first = torch.from_numpy(vectors["images"][:1])
    near = {"atol": 5e-5, "rtol": 0}
    with torch.no_grad():
        np.testing.assert_allclose(network.sig.contexts(first, [1])[0][0], vectors["sig_plane_context_t1"], **near)
        np.testing.assert_allclose(network.ins.contexts(first, [3])[0][0], vectors["ins_plane_context_t4"], **near)
        seen = known(signs(bit(first, 1)), 1)
        np.testing.assert_allclose(
            network.sig.space_contexts[0](seen)[0], vectors["sig_space_context_plane0_step1"], **near
        )
        gate = network.sig.entropys[0][0]
        np.testing.assert_allclose(gate(torch.from_numpy(vectors["eca_in"])), vectors["eca_out"], atol=1e-6)


def test_latents_of_continuous_noise(model):
    weights, vectors, _ = model
    network, x = weights.network, torch.from_numpy(vectors["images"])
    eps = noise(network, vectors)

    def sample(i, mu_q, mu_p):
        np.testing.assert_allclose(mu_q, vectors[f"inf_muq_l{i}"], atol=5e-5)
        np.testing.assert_allclose(mu_p, vectors[f"inf_mup_l{i}"], atol=5e-5)
        np.testing.assert_allclose(mu_q + eps[i], vectors[f"inf_z_l{i}"], atol=5e-5)
        return mu_q + eps[i]

    with torch.no_grad():
        f_z = hyperprior(network.sig, x, sample)
    np.testing.assert_allclose(f_z[0], vectors["inf_hyperprior_img0"], atol=5e-5)


def quantised(network, vectors, name):
    """z_i of the original's bin numbers, scale by scale from the coarsest: (sampler, remembered deltas)."""
    qp, ids, deltas, start = int(vectors[f"{name}_meta"][0]), vectors[f"{name}_zids"].astype(np.float64), {}, [0]

    def sample(i, mu_q, mu_p):
        k = ids[start[0] : start[0] + mu_p[0].numel()].reshape(mu_p.shape)
        start[0] += mu_p[0].numel()
        deltas[i] = (mu_q - mu_p).flatten()
        return mu_p + torch.from_numpy(np.log((k + 0.5) / ((1 << qp) - 0.5 - k))).to(mu_p)

    return sample, deltas


def codes(network, x, f_z):
    """The original's 8-bit probabilities (8, 4, 3, h, w), and ours in double precision."""
    found = []
    for model, latent in ((network.sig, [f_z]), (network.ins, [])):
        for plane, context in enumerate(model.contexts(x, range(model.planes))):
            own = signs(bit(x, model.first_plane + plane), f_z.dtype)
            parts = [*([] if context is None else [context]), *latent]
            for step in range(len(STEPS)):
                parameters = model.parameters_of(plane, step, parts, own, x)
                given = sub_image(own, step)
                found.append(torch.cat([logits(parameters, given, colour).sigmoid() for colour in range(3)]))
    return torch.stack(found).unflatten(0, (8, 4))


def test_probabilities_and_their_codes(model):
    weights, vectors, _ = model
    network = weights.network
    for name in ("img0", "img1", "black", "odd"):
        x = vectors["images"][int(name[3])] if name.startswith("img") else vectors[f"{name}_image"]
        x = torch.from_numpy(x)[None]
        sample, deltas = quantised(network, vectors, name)
        with torch.no_grad():
            p = codes(network, x, hyperprior(network.sig, x, sample))
        k = (256 * p).round().clamp(1, 255)
        # A probability in the middle between two codes may be rounded either way in single precision.
        assert np.abs(k.numpy() - vectors[f"{name}_i1"].astype(float)).sum() <= 2
        if name == "img0":
            np.testing.assert_allclose(p, vectors["img0_p1"], atol=1e-6)
            for i, delta in deltas.items():
                np.testing.assert_allclose(delta, vectors[f"img0_deltamu_l{i}"], atol=5e-5)


@pytest.mark.parametrize("name", ["img0", "img1", "img2", "img3", "const", "black", "odd"])
def test_streams_of_the_original_give_their_pictures(model, name):
    weights, vectors, _ = model
    config = weights.network.config
    x = vectors["images"][int(name[3])] if name.startswith("img") else vectors[f"{name}_image"]
    meta = vectors[f"{name}_meta"]
    stream = Stream(vectors[f"{name}_words"], meta[1:4])
    probability = vectors[f"{name}_i1"]
    qp = int(stream.get(3)) + 3
    assert qp == meta[0]
    ids = np.array([stream.get(qp) for _ in range(config.latents(*x.shape[1:]))])
    np.testing.assert_array_equal(ids, vectors[f"{name}_zids"])
    upper = decode_planes(stream, probability[: config.sig_num])
    posterior = zip(vectors[f"{name}_zstart"].tolist(), vectors[f"{name}_zfreq"].tolist(), strict=True)
    for start, frequency in reversed(list(posterior)):
        stream.push_back(start, frequency)
    stream.leave_latents()
    lower = decode_planes(stream, probability[config.sig_num :])
    bits = np.concatenate([upper, lower])
    np.testing.assert_array_equal(sum(bits[p].astype(int) << (7 - p) for p in range(8)), x)


def test_files_of_the_original_layout_load(tmp_path, model):
    weights, _, state = model
    for part in checkpoint.PARTS:
        torch.save({key: value.float() for key, value in state[part].items()}, tmp_path / f"{part}.pth")
    for path in (tmp_path, tmp_path / "sig.pth"):
        assert checkpoint.load(path).fingerprint() == weights.fingerprint()
    for part, back in zip(checkpoint.PARTS, checkpoint.to_original(weights), strict=True):
        assert back.keys() == state[part].keys()
        assert all(torch.equal(back[key], value.float()) for key, value in state[part].items())
    checkpoint.save(tmp_path / "w.safetensors", weights, {"note": "test"})
    assert checkpoint.load(tmp_path / "w.safetensors").fingerprint() == weights.fingerprint()
    (tmp_path / "ins.pth").unlink()
    with pytest.raises(DataNotFoundError, match="ins"):
        checkpoint.load(tmp_path)


def test_other_state_dicts_are_refused(model):
    _, _, state = model
    with pytest.raises(ConfigError, match="not the weights"):
        checkpoint.from_original({"a": torch.zeros(1)}, state["ins"])
    with pytest.raises(ConfigError, match="missing or left over"):
        checkpoint.from_original(state["sig"] | {"more": torch.zeros(1)}, state["ins"])


def test_top_is_one_division_of_integers():
    x = torch.arange(256, dtype=torch.uint8)
    for k in range(9):
        expected = torch.tensor([v >> (8 - k) << (8 - k) for v in range(256)], dtype=torch.float64) / 255
        assert torch.equal(top(x, k, torch.float64), expected)
