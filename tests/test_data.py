"""Data sets: where they are looked for, clear sentences when absent, samples that come with the package."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from cbench import data
from cbench.codec import Sample
from cbench.data import (
    cifar10,
    clic,
    envi_folder,
    hyspecnet,
    imagenet_small,
    openimages,
    photos,
    samples,
)
from cbench.errors import ConfigError, DataNotFoundError

NAMED: list[tuple[str, Callable[..., Sequence[Sample]]]] = [
    ("kodak", data.kodak),
    ("cifar10", cifar10.train),
    ("cifar10", cifar10.validation),
    ("cifar10", cifar10.test),
    ("imagenet32", imagenet_small.imagenet32_train),
    ("imagenet64", imagenet_small.imagenet64_validation),
    ("imagenet64", imagenet_small.sheet64_test),
    ("photos", photos.train),
    ("openimages", openimages.train),
    ("clic", clic.test),
    ("hyspecnet", hyspecnet.train),
    ("hyperspectral", envi_folder.hyperspectral_test),
]


# SHA-256 of the samples, little-endian, first 16 digits.
CUBE = "6b7b262d500f331b"
PNG_PHOTOS = ["9d1263ba0e684c99", "9c717786308ef130", "9b3e037f9cd32e3a", "036a8bd5572f98b7"]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("name", "source"), NAMED)
def test_absent_data_says_where_and_how(tmp_path, monkeypatch, name, source):
    monkeypatch.setenv("CBENCH_DATA", str(tmp_path / "sets"))
    with pytest.raises(DataNotFoundError) as caught:
        source()
    text = str(caught.value)
    for part in (str(tmp_path / "sets" / name), "CBENCH_DATA", "root=", "to get it: "):
        assert part in text
    assert "\n" not in text
    (tmp_path / "sets" / name).mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match=name):
        source()
    with pytest.raises(DataNotFoundError, match="elsewhere"):
        source(tmp_path / "elsewhere")


def test_order_of_places(tmp_path, monkeypatch):
    for place in ("env/kodak", "here/data/kodak", "given", "holder/kodak"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("CBENCH_DATA", raising=False)
    assert data.data_folder("kodak", None, "x") == Path("data/kodak")
    monkeypatch.setenv("CBENCH_DATA", str(tmp_path / "env"))
    assert data.data_folder("kodak", None, "x") == tmp_path / "env/kodak"
    assert data.data_folder("kodak", tmp_path / "given", "x") == tmp_path / "given"
    assert data.data_folder("kodak", str(tmp_path / "holder"), "x") == tmp_path / "holder/kodak"


def test_import_is_light():
    heavy = ("torch", "skimage", "PIL", "scipy", "imagecodecs", "tifffile")
    code = f"import sys, cbench.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_photos_are_colour_photographs():
    found = samples.photos()
    assert [sample.name for sample in found] == [
        "astronaut",
        "chelsea",
        "coffee",
        "motorcycle_left",
        "rocket",
    ]
    for sample in found:
        assert sample.array.dtype == np.uint8
        assert sample.array.shape[0] == 3
        assert min(sample.array.shape[1:]) >= 300
    # The PNG ones are the same everywhere.
    assert [digest(sample.array) for sample in found[:4]] == PNG_PHOTOS


@pytest.mark.parametrize("side", [8, 32, 64, 300])
def test_small_photos(side):
    tiles = samples.small_photos(side)
    assert len(set(tiles.names)) == len(tiles) >= 5
    assert {name.rsplit("-", 2)[0] for name in tiles.names[:5]} == {photo.name for photo in samples.photos()}
    assert all(sample.array.shape == (3, side, side) for sample in tiles[:7])
    for bad in (7, 301):
        with pytest.raises(ConfigError):
            samples.small_photos(bad)


def test_cube_is_the_same_on_every_machine():
    (sample,) = samples.cube()
    assert sample.array.shape == (64, 48, 64)
    assert sample.array.dtype == np.uint16
    assert digest(sample.array) == CUBE
    assert digest(samples.make_cube(seed=2)) != CUBE
    assert samples.make_cube(1, 1, 1).shape == (1, 1, 1)


def test_cube_looks_like_a_spectrometers():
    cube = samples.cube()[0].array.astype(int)
    wavelength = np.linspace(420, 2450, 64)

    def band(nanometres: float) -> np.ndarray:
        return cube[np.abs(wavelength - nanometres).argmin()]

    assert band(940).mean() < 0.85 * min(band(870).mean(), band(1030).mean())
    assert band(1400).mean() < 0.2 * band(1300).mean()
    index = (band(800) - band(670)) / np.maximum(band(800) + band(670), 1)
    assert index.max() > 0.5  # vegetation
    assert index.min() < 0.1  # and others
    smooth = np.abs(np.diff(band(550), axis=1)).mean() / band(550).std()
    assert smooth < 0.5
    assert cube.max() > 4000
