"""FSAR's experiments, shrunken: every kind of model trains for two steps and the weights file that it writes codes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cbench.bench.config import DataSpec
from cbench.bench.loading import experiments_in, load
from cbench.data import samples
from cbench.models.fsar import FsarTraining, module
from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.recolour import gains, recoloured
from cbench.zoo import load_codec

FOLDER = Path(__file__).resolve().parent.parent / "configs"
KINDS = {
    "fsar": (
        "v2dvq_c2_o2s_catreduce_cifar10",
        "v2dvq_c2_maskconv_cifar10",
        "v2dvq_c2_checkerboard_imagenet32",
        "vqvae_c2_imagenet64",
        "entropy_bottleneck_cifar10",
        "bits_back_cifar10",
        "mcquic_imagenet32",
        "coder_ar_o2s_openimages",
    ),
    "fsar_ablations": (
        *("v2dvq_c2_nosth_cifar10", "v2dvq_em_c2_cifar10", "vqvae_ema_c2_cifar10", "softtohardvq_c2_cifar10"),
        *("softvq_gapcontrol_c2_cifar10", "sqvae_normal_c4_cifar10", "dsar_o1s_cifar10", "dsar_maskconv3x3_cifar10"),
        "dsar_o1s_table_cifar10",
    ),
    "fsar_paper_cpu": ("v2dvq_c2_o1s_cifar10", "coder_ar_cifar10"),
}


def tiles():
    return samples.small_photos(32)[:8]


def others():
    return samples.small_photos(32)[400:404]


@pytest.mark.parametrize(("file", "name"), [(file, name) for file in KINDS for name in KINDS[file]])
def test_training_to_a_working_codec(file, name, tmp_path):
    from cbench.train.fit import fit

    experiment = load(f"{FOLDER / file}.py:{name}").experiment
    config = experiment.train.config
    if isinstance(config.model, FsarConfig):
        config = replace(config, model=replace(config.model, channels=16, codes=32))
    elif config.model.form != "mlp":
        config = replace(config, every=16)
    train = replace(
        experiment.train,
        config=config,
        data=DataSpec(source=tiles),
        validation=DataSpec(source=others),
        steps=2,
        batch_size=4,
        crop=None,
        validate_every=2,
    )
    path = fit(train, tmp_path, progress=False)
    (spec,) = (spec for spec in experiment.codecs if spec.weights == "run")
    codec = load_codec(spec.codec, weights=path)
    pictures = [sample.array for sample in others()]
    data = codec.compress_many(pictures)
    np.testing.assert_array_equal(np.stack(codec.decompress_many(data)), np.stack(pictures))


def test_recoloured_pictures():
    whole = np.stack([sample.array for sample in samples.small_photos(32)[:64]])
    batch = torch.from_numpy(whole)
    changed = recoloured(batch, range(64))
    assert changed.dtype == torch.uint8
    assert changed.shape == batch.shape
    assert torch.equal(changed[10:20], recoloured(batch[10:20], range(10, 20)))
    different = (changed != batch).flatten(1).any(1)
    assert different.float().mean() > 0.9
    found = gains(torch.tensor([3000.0, 6500.0, 15000.0]))
    torch.testing.assert_close(found[1], torch.ones(3))
    assert found[0, 0] > 1.4 > 0.7 > found[0, 2]  # warm light
    assert found[2, 0] < 0.9 < 1.1 < found[2, 2]
    white = recoloured(torch.full((200, 3, 1, 1), 255, dtype=torch.uint8), range(200))[:, :, 0, 0]
    assert (white[:, 1] == 255).all()
    trained = module(FsarTraining(model=FsarConfig(channels=8, codes=8), recolour=True))
    first = trained.loss(batch[:2])["loss"]
    assert first == trained.loss(batch[:2])["loss"]
    trained.step = 1
    assert first != trained.loss(batch[:2])["loss"]


def test_every_experiment_of_the_paper_is_there():
    """The paper's lists of models, on their data sets."""
    main, more, slow = (set(experiments_in(FOLDER / f"{file}.py")) for file in KINDS)
    table = ["bits_back", "entropy_bottleneck", "vqvae_c2", "mcquic", "v2dvq_c2_maskconv", "v2dvq_c2_checkerboard"]
    table += ["v2dvq_c2", "v2dvq_c2_o1s", "v2dvq_c2_o2s", "v2dvq_c2_o2s_catreduce", "v2dvq_c2_o3s"]
    assert {f"{model}_{data}" for model in table for data in ("cifar10", "imagenet32", "imagenet64")} <= main
    coding = ("coder_ar_vq", "coder_ar", "coder_ar_o2s")
    sets = ("cifar10", "imagenet32", "imagenet64", "openimages", "openimages_plain")
    assert {f"{model}_{data}" for model in coding for data in sets} <= main
    shapes = ("shallow_c1", "shallow_c2", "shallow_c4", "normal_c4", "normal_c8", "normal_c16")
    assert {f"{kind}_{s}_cifar10" for kind in ("v2dvq", "vqvae", "softvqvae", "sqvae") for s in shapes} <= more
    assert {f"{model}_cifar10" for model in (*table, *coding)} == slow
    assert {f"v2dvq_c2_{name}_cifar10" for name in ("nosth", "noreg", "noanneal")} <= more
    others = ("softvqvae_c2", "sqvae_c2", "softtohardvq_c2", "vqvae_ema_c2", "v2dvq_em_c2", "softvq_gapcontrol_c2")
    assert {f"{model}_cifar10" for model in others} <= more
    assert {f"dsar_{name}_cifar10" for name in ("o1s", "o2s", "o3s", "maskconv3x3", "maskconv5x5")} <= more
