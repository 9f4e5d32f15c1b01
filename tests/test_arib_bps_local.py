"""The local nets of ArIB-BPS, and training on one step of four."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cbench.models.arib_bps import checkpoint
from cbench.models.arib_bps.codec import AribCodec
from cbench.models.arib_bps.config import AribConfig, tiny_split
from cbench.models.arib_bps.local import BEND, differences
from cbench.models.arib_bps.losses import ins_terms
from cbench.models.arib_bps.network import AribNetwork
from cbench.models.arib_bps.planes import STEPS, bit, signs
from cbench.zoo.checkpoints import CONFIG, pack_config

torch.set_num_threads(1)
SMALL = replace(tiny_split(), n_layers=1, local=8, space_width_ins=None, entropy_width_ins=None, entropy_depth_ins=None)
MODELS = {"shared": replace(SMALL, share=True, folded=True), "split": SMALL}


def network(config: AribConfig) -> AribNetwork:
    """Random weights, also where training would start from zero."""
    torch.manual_seed(0)
    found = AribNetwork(config)
    with torch.no_grad():
        for value in found.parameters():
            if not value.any():
                value.normal_(0, 0.05)
    return checkpoint.rounded(found).eval()


@pytest.fixture(scope="module")
def pictures():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 8, 12), dtype=np.uint8))


@pytest.mark.parametrize("plane", (1, 4, 8))
@pytest.mark.parametrize("step", range(4))
def test_differences_see_what_the_decoder_knows(pictures, plane, step):
    below = 8 - plane
    found = differences(pictures, plane, step, signs(bit(pictures, plane)))
    other = pictures >> (below + 1) << (below + 1)
    assert torch.equal(found, differences(other, plane, step, signs(bit(pictures, plane))))
    unknown = signs(bit(pictures, plane))
    for row, column in STEPS[step:]:
        unknown[..., row::2, column::2] = 1
    assert torch.equal(found, differences(pictures, plane, step, unknown))


def test_differences_are_bent_numbers_of_intervals():
    x = torch.zeros((1, 3, 4, 4), dtype=torch.uint8)
    x[0, 1, 0, 0], x[0, 1, 0, 1] = 240, 16  # planes above the fifth: 15 and 1
    found = differences(x, 5, 3, signs(bit(x, 5)))[0].view(24, 3, 2, 2)  # step 3: rows 1, 3 and columns 0, 2
    above, above_right = found[7, 1, 0, 0], found[8, 1, 0, 0]
    assert above == pytest.approx((15 - 0.25) / (1 + (15 - 0.25) / BEND))
    assert above_right == pytest.approx((1 - 0.25) / (1 + (1 - 0.25) / BEND))


@pytest.mark.parametrize("kind", MODELS)
def test_codes_with_local_nets(kind, pictures):
    codec = AribCodec("arib_bps.local", checkpoint.Weights(network(MODELS[kind])))
    for array in (pictures[0].numpy(), pictures[1, :, :5, :7].numpy(), np.full((3, 1, 1), 9, np.uint8)):
        assert np.array_equal(codec.decompress(codec.compress(array)), array)


@pytest.mark.parametrize("kind", MODELS)
def test_four_turns_of_one_step_are_all_steps(kind, pictures):
    ins = network(MODELS[kind]).ins
    turns = sum(ins_terms(ins, pictures, turn) for turn in range(4)) / 4
    assert torch.allclose(turns, ins_terms(ins, pictures), atol=1e-6)


def test_a_network_without_local_nets_keeps_its_fingerprint(tmp_path):
    plain = replace(SMALL, local=0)
    assert "local" not in json.loads(bytes(pack_config(plain)))
    assert json.loads(bytes(pack_config(SMALL)))["local"] == 8
    for config in (plain, SMALL):
        weights = checkpoint.Weights(network(config))
        checkpoint.save(tmp_path / "w.safetensors", weights, {})
        read = checkpoint.load(tmp_path / "w.safetensors")
        assert read.network.config == config and read.fingerprint() == weights.fingerprint()
        assert CONFIG in read.state
