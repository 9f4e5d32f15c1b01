"""Looking for a rate or a PSNR: what is chosen is what real files say, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from cbench import zoo
from cbench.cli import main
from cbench.data import samples
from cbench.errors import ConfigError, UnsupportedInputError
from cbench.files import write
from cbench.zoo.target import Target, family, meet

PICTURE = samples.photos()[0].array[:, :64, :96]


@dataclass(frozen=True)
class Steps:
    """Rounds samples to multiples of a step; a file of `qualities` levels costs so many bits a sample."""

    name: str = "steps"
    max_error: int | None = None
    waste: int = 0
    quality: int = 4
    qualities: range = range(1, 9)

    def with_quality(self, quality):
        return replace(self, quality=quality)

    def compress(self, array):
        kept = array >> (8 - self.quality)
        return bytes([self.quality]) + bytes(self.waste) + np.packbits(_bits(kept, self.quality)).tobytes()

    def decompress(self, data):
        bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=1 + self.waste))
        levels = bits[: PICTURE.size * data[0]].reshape(-1, data[0])
        values = (levels * (1 << np.arange(data[0]))).sum(1) << (8 - data[0])
        return (values + (1 << (8 - data[0]) >> 1)).astype(np.uint8).reshape(PICTURE.shape)


def _bits(values, width):
    return (values.reshape(-1, 1) >> np.arange(width)) & 1


def bpp(codec):
    return 8 * len(codec.compress(PICTURE)) / PICTURE[0].size


def test_the_best_picture_within_a_rate():
    assert meet([Steps()], PICTURE, Target(bpp=12.5)).quality == 4
    assert meet([Steps()], PICTURE, Target(bpp=25)).quality == 8
    # The overhead counts: the file of quality 4 has 12.0013 bits a pixel alone.
    assert meet([Steps()], PICTURE, Target(bpp=12.002)).quality == 4
    assert meet([Steps()], PICTURE, Target(bpp=12.002), overhead=10).quality == 3
    with pytest.raises(UnsupportedInputError, match=r"the smallest file has 3\.001"):
        meet([Steps()], PICTURE, Target(bpp=2))


def test_the_smallest_file_with_a_psnr():
    found = meet([Steps()], PICTURE, Target(psnr=30))
    assert found.quality == 4
    assert meet([Steps()], PICTURE, Target(psnr=300)).quality == 8
    with pytest.raises(UnsupportedInputError, match="the best has"):
        meet([Steps(qualities=range(1, 5))], PICTURE, Target(psnr=60))


def test_the_best_of_several_codecs():
    lean, fat = Steps("lean"), Steps("fat", waste=3000)
    assert meet([fat, lean], PICTURE, Target(psnr=30)).name == "lean"
    assert meet([fat, lean], PICTURE, Target(bpp=15.1)) == replace(lean, quality=5)
    with pytest.raises(ConfigError, match="lossy"):
        meet([Steps(max_error=0)], PICTURE, Target(bpp=1))


def test_codecs_without_a_dial_are_one_candidate():
    jpeg = zoo.load_codec("jpeg")
    assert meet([jpeg], PICTURE, Target(psnr=20)) is jpeg
    with pytest.raises(UnsupportedInputError):
        meet([jpeg], PICTURE, Target(psnr=70))


def test_families():
    names = ["a", "b.c-1", "b.c-2", "b.c-x", "b.cd-1"]
    assert family("a", names) == ["a"]
    assert family("b.c", names) == ["b.c-1", "b.c-2"]
    assert family("b.c-2", names) == ["b.c-2"]
    assert family("z", names) == []


def test_at_the_shell(tmp_path, capsys):
    source, target = tmp_path / "a.png", tmp_path / "a.cb"
    write(source, PICTURE, {})
    for wish in (["--bpp", "1.5"], ["--psnr", "29"], ["--quality", "-8"]):
        name = "tbtc.conv-xs-2" if wish[0] == "--quality" else "tbtc.conv-xs"
        assert main(["compress", str(source), "-o", str(target), "--codec", name, "--force", *wish]) == 0
        if wish[0] == "--bpp":
            assert 8 * target.stat().st_size <= 1.5 * PICTURE[0].size
    capsys.readouterr()
    for wish, words in (
        (["--bpp", "1"], "name a lossy codec"),
        (["--bpp", "1", "--codec", "png"], "error bound"),
        (["--bpp", "1", "--codec", "tbtc.convxs"], "did you mean"),
        (["--quality", "3", "--codec", "png"], "no qualities"),
        (["--psnr", "30", "--codec", "jpeg", "--delta", "2"], "one of them"),
    ):
        assert main(["compress", str(source), "-o", str(tmp_path / "b.cb"), *wish]) == 1
        assert words in capsys.readouterr().err
        assert not (tmp_path / "b.cb").exists()
