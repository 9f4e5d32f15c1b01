"""Data sets: layouts, lazy reading, damage and hostile files."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_files import make_pictures, noise
from shared import SHARED, needs_shared

from cbench import data, files
from cbench.codec import Sample
from cbench.data import (
    cifar10,
    clic,
    envi_folder,
    folder,
    hyspecnet,
    imagenet_small,
    openimages,
    photos,
)
from cbench.errors import ConfigError, DataNotFoundError, UnsupportedInputError

# SHA-256 of the samples, little-endian, first 16 digits.
CUBE = "6b7b262d500f331b"
PNG_PHOTOS = ["9d1263ba0e684c99", "9c717786308ef130", "9b3e037f9cd32e3a", "036a8bd5572f98b7"]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


def test_folder_is_sorted_recursive_and_lazy(tmp_path):
    make_pictures(tmp_path, ["b.png", "a.ppm", "sub/c.webp"])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = folder.pictures(tmp_path)
    assert found.names == ("a.ppm", "b.png", "broken.png", "sub/c.webp")
    assert found[-1].name == "sub/c.webp"
    assert [sample.array.shape for sample in found[:2]] == [(3, 9, 9), (3, 8, 9)]
    assert isinstance(found[1:][0], Sample)
    with pytest.raises(UnsupportedInputError):
        found[2]
    with pytest.raises(IndexError):
        found[4]
    assert pickle.loads(pickle.dumps(found))[0].name == "a.ppm"
    with pytest.raises(DataNotFoundError, match="no picture"):
        (tmp_path / "empty").mkdir()
        folder.pictures(tmp_path / "empty")


def test_clic_and_openimages(tmp_path):
    make_pictures(tmp_path / "clic", ["train/mobile/a.png", "train/professional/b.png", "valid/c.png", "test/d.png"])
    assert clic.train(tmp_path).names == ("mobile/a.png", "professional/b.png")
    assert clic.validation(tmp_path / "clic").names == ("c.png",)
    assert clic.test(tmp_path).names == ("d.png",)
    make_pictures(tmp_path / "openimages", ["train/a.png", "validation/b.png"])
    assert openimages.train(tmp_path).names == ("a.png",)
    assert openimages.validation(tmp_path).names == ("b.png",)


def test_kodak_is_complete_or_refused(tmp_path):
    make_pictures(tmp_path, [f"kodim{number:02d}.png" for number in range(1, 24)])
    with pytest.raises(DataNotFoundError, match="23 of the 24"):
        data.kodak(tmp_path)
    make_pictures(tmp_path, ["kodim24.png"])
    assert [sample.name for sample in data.kodak(tmp_path)][::23] == ["kodim01", "kodim24"]


@needs_shared
def test_shared_pictures():
    found = data.kodak(SHARED / "data/kodak")
    assert len(found) == 24
    assert {found[3].array.shape, found[4].array.shape} == {(3, 768, 512), (3, 512, 768)}
    train, validation = photos.train(SHARED / "data"), photos.validation(SHARED / "data")
    assert (len(train), len(validation)) == (119, 20)
    assert not set(train.names) & set(validation.names)
    assert max(train[0].array.shape) == 512


def test_cifar_binary(tmp_path):
    inner = tmp_path / "cifar10/cifar-10-batches-bin"
    inner.mkdir(parents=True)
    whole = noise((60, 3, 32, 32))
    for number, part in enumerate(np.split(whole, 6)):
        records = np.concatenate([np.full((10, 1), 7, np.uint8), part.reshape(10, -1)], axis=1)
        (inner / ("test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin")).write_bytes(records.tobytes())
    train, validation, test = (source(tmp_path) for source in (cifar10.train, cifar10.validation, cifar10.test))
    assert np.array_equal(train.array, whole[:45])
    assert np.array_equal(validation.array, whole[45:50])
    assert np.array_equal(test.array, whole[50:])
    assert validation[0].name == "train-00045"
    assert np.array_equal(train[-1].array, whole[44])
    (inner / "test_batch.bin").write_bytes(bytes(5000))
    with pytest.raises(UnsupportedInputError, match="whole records"):
        cifar10.test(tmp_path)[0]


def python2_pickle(array: np.ndarray) -> bytes:
    """What Python 2 wrote for {"batch_label": ..., "data": array}: byte strings, protocol 2."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    shape = b"".join(b"M" + struct.pack("<H", size) for size in array.shape)
    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\0K\1\x87R(K\3"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
    body = b"T" + struct.pack("<I", array.nbytes) + array.tobytes()
    state = b"(K\1" + shape + b"\x86" + kind + b"\x89" + body + b"tb"
    return b"\x80\2}" + text(b"batch_label") + text(b"x") + b"s" + text(b"data") + head + state + b"s."


@pytest.mark.parametrize("style", ["python2", "protocol2", "protocol4"])
def test_cifar_pickles(tmp_path, style):
    pixels = noise((10_000, 3072))
    if style == "python2":
        content = python2_pickle(pixels)
    else:
        content = pickle.dumps({b"labels": [1, 2], b"data": pixels}, protocol=int(style[-1]))
    (tmp_path / "test_batch").write_bytes(content)
    found = cifar10.test(tmp_path)
    assert len(found) == 10_000
    assert np.array_equal(found.array, pixels.reshape(-1, 3, 32, 32))
    (tmp_path / "test_batch").write_bytes(content[:-1000])
    with pytest.raises(UnsupportedInputError):
        cifar10.test(tmp_path)[0]


class _Evil:
    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_cifar_pickles_run_nothing(tmp_path):
    import codecs

    mark = tmp_path / "mark"
    for evil in (
        _Evil(Path.touch, mark),
        _Evil(eval, f"open({str(mark)!r}, 'w')"),
        _Evil(codecs.encode, "a", "hex"),
        _Evil(np.load, "x"),
        [1, 2, 3],
        {"data": np.zeros((2, 3072), np.uint8)},
        {"data": np.zeros((10_000, 3072), np.int16)},
    ):
        (tmp_path / "test_batch").write_bytes(pickle.dumps(evil, protocol=2))
        with pytest.raises(UnsupportedInputError):
            cifar10.test(tmp_path)[0]
    assert not mark.exists()


def make_sheet(path: Path, tiles: np.ndarray, across: int) -> None:
    count, channels, side, _ = tiles.shape
    grid = tiles.reshape(count // across, across, channels, side, side).transpose(2, 0, 3, 1, 4)
    files.write(path, grid.reshape(channels, count // across * side, across * side))


def test_cifar_sheets(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "TILES_A_SHEET", 20)
    monkeypatch.setattr(cifar10, "SHEET_VALIDATION", 5)
    tiles = noise((60, 3, 32, 32))
    for number in range(2):
        make_sheet(tmp_path / f"train_{number:02d}.webp", tiles[number * 20 : number * 20 + 20], 5)
    make_sheet(tmp_path / "test_00.webp", tiles[40:], 5)
    np.savez(tmp_path / "index.npz", train_index=np.arange(38) * 2, test_index=np.arange(20))
    train, validation, test = (source(tmp_path) for source in (cifar10.train, cifar10.validation, cifar10.test))
    assert np.array_equal(train.array, tiles[:33])
    assert np.array_equal(validation.array, tiles[33:38])
    assert np.array_equal(test[19].array, tiles[59])
    assert validation.names == tuple(f"train-{row:05d}" for row in range(66, 76, 2))
    assert np.array_equal(train[18:22].array, tiles[18:22])
    with pytest.raises(ValueError, match="read-only"):
        train[0].array[0, 0, 0] = 1
    (tmp_path / "train_01.webp").unlink()
    with pytest.raises(DataNotFoundError, match=r"train_01\.webp"):
        cifar10.train(tmp_path)


@needs_shared
def test_shared_cifar():
    train, validation, test = (
        source(SHARED / "data/cifar10") for source in (cifar10.train, cifar10.validation, cifar10.test)
    )
    assert (len(train), len(validation), len(test)) == (29_000, 1_000, 5_000)
    assert len(set(train.names) | set(validation.names)) == 30_000
    assert train[0].name == "train-00000"
    # The first picture of the official batch 1 is a frog whose first red pixels are well known: 59 43 50 68.
    assert train[0].array[0, 0, :4].tolist() == [59, 43, 50, 68]
    means = validation.array.mean(axis=(0, 2, 3)) / 255
    assert np.allclose(means, [0.4914, 0.4821, 0.4464], atol=0.01)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_imagenet_npz(tmp_path, save):
    pixels = noise((25, 3072))
    inner = tmp_path / "imagenet32/Imagenet32_train_npz"
    inner.mkdir(parents=True)
    for number, part in enumerate(np.split(pixels[:20], 10), 1):
        save(inner / f"train_data_batch_{number}.npz", mean=np.zeros(3072), data=part, labels=np.arange(2))
    save(tmp_path / "imagenet32/val_data.npz", data=pixels[20:], labels=np.arange(5))
    train = imagenet_small.imagenet32_train(tmp_path)
    assert len(train) == 20
    assert np.array_equal(train.array, pixels[:20].reshape(-1, 3, 32, 32))  # batch 10 comes last
    assert np.array_equal(imagenet_small.imagenet32_validation(tmp_path)[4].array.ravel(), pixels[24])
    np.savez(tmp_path / "imagenet32/val_data.npz", data=pixels.astype(float))
    with pytest.raises(UnsupportedInputError):
        imagenet_small.imagenet32_validation(tmp_path)
    (tmp_path / "imagenet32/val_data.npz").write_bytes(b"PK no")
    with pytest.raises(UnsupportedInputError):
        imagenet_small.imagenet32_validation(tmp_path)


def test_imagenet_stored_npz_is_memory_mapped(tmp_path):
    np.savez(tmp_path / "val_data.npz", data=noise((4, 3 * 64 * 64)))
    base = imagenet_small.imagenet64_validation(tmp_path)[0].array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert base is not None


@needs_shared
def test_shared_imagenet_sheets():
    large, small = imagenet_small.sheet64_test(SHARED / "data"), imagenet_small.sheet32_test(SHARED / "data")
    assert (len(large), len(small)) == (200, 200)
    assert len(imagenet_small.sheet64_train(SHARED / "data")) == 790
    means = large[7].array.reshape(3, 32, 2, 32, 2).astype(float).mean(axis=(2, 4))
    assert small[7].array.shape == (3, 32, 32)
    assert np.abs(means - small[7].array).max() <= 0.5


def test_hyspecnet(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    root = tmp_path / "hyspecnet"
    cube = noise((224, 4, 5), "int16")
    names = [f"SCENE/SCENE-Y0{number}/SCENE-Y0{number}" for number in range(3)]
    for name in names:
        (root / "patches" / name).parent.mkdir(parents=True)
        path = root / "patches" / f"{name}-SPECTRAL_IMAGE.TIF"
        tifffile.imwrite(path, cube, photometric="minisblack", planarconfig="separate")
    np.save(root / "patches" / f"{names[1]}-DATA.npy", np.zeros((202, 4, 5), np.float32))
    for split in ("hard", "easy"):
        (root / "splits" / split).mkdir(parents=True)
    # A split file may name the GeoTIFF, the normalised copy, or the folder.
    lines = f"{names[0]}-SPECTRAL_IMAGE.TIF\n{names[1]}-DATA.npy\nSCENE/SCENE-Y02\n\n"
    (root / "splits/hard/train.csv").write_text(lines)
    (root / "splits/easy/test.csv").write_text(f"{names[0]}-SPECTRAL_IMAGE.TIF\nSCENE/none.TIF\n")
    found = hyspecnet.train(tmp_path)
    assert found.names == ("SCENE-Y00", "SCENE-Y01", "SCENE-Y02")
    kept = np.r_[0:126, 141:160, 167:224]
    for sample in found:
        assert sample.array.dtype == np.int16
        assert np.array_equal(sample.array, cube[kept])
    easy = hyspecnet.test(root, split="easy")
    with pytest.raises(DataNotFoundError, match=r"none\.TIF"):
        easy[1]
    with pytest.raises(DataNotFoundError, match=r"splits/hard/val\.csv"):
        hyspecnet.validation(root)
    with pytest.raises(ConfigError):
        hyspecnet.train(root, split="medium")
    assert hyspecnet.select_bands(cube[:202]).shape == (202, 4, 5)
    with pytest.raises(UnsupportedInputError):
        hyspecnet.select_bands(cube[:203])


def test_folder_of_cubes(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("b", "a/c"):
        files.write(tmp_path / f"{name}.hdr", noise((5, 3, 4), "uint16"))
    found = envi_folder.cubes(tmp_path)
    assert found.names == ("a/c", "b")
    assert found[1].array.shape == (5, 3, 4)
    with pytest.raises(DataNotFoundError):
        envi_folder.hyperspectral_train(tmp_path)


@needs_shared
def test_shared_cubes_have_one_role_each():
    parts = [
        source(SHARED / "data")
        for source in (
            envi_folder.hyperspectral_train,
            envi_folder.hyperspectral_validation,
            envi_folder.hyperspectral_test,
        )
    ]
    names = [name for part in parts for name in part.names]
    assert sorted(names) == sorted(envi_folder.cubes(SHARED / "data/hyperspectral").names)
    assert parts[2][0].array.shape == (202, 32, 64)
    assert int(parts[2][0].array.max()) == 5082
