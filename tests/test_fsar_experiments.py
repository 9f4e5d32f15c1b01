"""FSAR's experiments, shrunken: every kind of model trains for two steps and the weights file that it writes codes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cbench.bench.config import DataSpec
from cbench.bench.loading import experiments_in, load
from cbench.data import samples
from cbench.models.fsar.config import FsarConfig
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
        "coder_ar_o2s_openimages",
    ),
    "fsar_ablations": ("v2dvq_c2_nosth_cifar10", "sqvae_normal_c4_cifar10", "dsar_o1s_cifar10"),
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
        config = replace(config, model=replace(config.model, channels=16, codes=16))
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


def test_every_experiment_of_the_paper_is_there():
    """The paper's lists of models, on their data sets."""
    main, more = (set(experiments_in(FOLDER / f"{file}.py")) for file in KINDS)
    table = ["bits_back", "entropy_bottleneck", "vqvae_c2", "v2dvq_c2_maskconv", "v2dvq_c2_checkerboard"]
    table += ["v2dvq_c2", "v2dvq_c2_o1s", "v2dvq_c2_o2s", "v2dvq_c2_o2s_catreduce", "v2dvq_c2_o3s"]
    assert {f"{model}_{data}" for model in table for data in ("cifar10", "imagenet32", "imagenet64")} <= main
    coding = ("coder_ar_vq", "coder_ar", "coder_ar_o2s")
    sets = ("cifar10", "imagenet32", "imagenet64", "openimages", "openimages_plain")
    assert {f"{model}_{data}" for model in coding for data in sets} <= main
    shapes = ("shallow_c1", "shallow_c2", "shallow_c4", "normal_c4", "normal_c8", "normal_c16")
    assert {f"{kind}_{s}_cifar10" for kind in ("v2dvq", "vqvae", "softvqvae", "sqvae") for s in shapes} <= more
    assert {f"v2dvq_c2_{name}_cifar10" for name in ("nosth", "noreg", "noanneal")} <= more
    assert {f"dsar_o{order}s_cifar10" for order in (1, 2, 3)} <= more
