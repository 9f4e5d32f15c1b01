"""LineRWKV as a codec, byte format 2: `linerwkv.xs`, `linerwkv.s`, `linerwkv.m`, `linerwkv.l`, and each with `-int8`.

The network's prediction of a sample is one more input of adaptive experts, which correct it as they learn, are mixed,
and know how wrong they will be (`cbench.coding.lines`). The network sees what the decoder will have seen, normalised
with statistics of the lines before: nothing but the coded samples is in the file. Byte format 1 of the same names was
the paper's pipeline; such files are still read, and `linerwkv.<size>-ccsds` writes it (`pipeline.py`).

Two engines compute the network: one in float, and, faster, one whose matrix products are integers. Their predictions
differ, so the name of the codec, which every file and stream carries, says which one it takes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cbench.coding.container import read_header
from cbench.coding.lines import LinesCodec
from cbench.errors import ConfigError, DataNotFoundError
from cbench.models.linerwkv import checkpoint
from cbench.models.linerwkv.config import SIZES, experts, tiny
from cbench.models.linerwkv.pipeline import PipelineCodec, core_network
from cbench.zoo.weights import shipped


class LineRwkvCodec(LinesCodec):
    """Lossless or near-lossless codec for cubes of any size; the same bytes on every machine."""

    format = 2

    def __init__(
        self, name: str, weights: checkpoint.Weights, max_error: int = 0, threads: int = 1, *, integers: bool = False
    ) -> None:
        """`threads` share the blocks of lines, or in a single block the columns; they change the speed only.

        `integers` takes the engine of 8-bit weights and 16-bit features.
        """
        super().__init__(name, experts(integers=integers), max_error, threads)
        self.fingerprint = weights.fingerprint()
        self.network = core_network(weights, integers=integers)
        self._first_format = PipelineCodec(name, weights, threads=threads)

    def decompress(self, data: bytes) -> np.ndarray:
        """See `CubeCodec.decompress`; files of byte format 1 as well."""
        old = read_header(data).format == self._first_format.format
        return self._first_format.decompress(data) if old else super().decompress(data)


def build(size: str, weights: Path | None, threads: int) -> LineRwkvCodec:
    """`linerwkv.<size>`, for one of the published sizes or "tiny".

    Raises:
        DataNotFoundError: no weights file, or none given where none comes with the package.
        ConfigError: weights of another size.
    """
    return LineRwkvCodec(f"linerwkv.{size}", _load(size, weights), threads=threads)


def build_integers(size: str, weights: Path | None, threads: int) -> LineRwkvCodec:
    """`linerwkv.<size>-int8`, with the weights of `linerwkv.<size>`; raises as `build`."""
    return LineRwkvCodec(f"linerwkv.{size}-int8", _load(size, weights), threads=threads, integers=True)


def build_pipeline(size: str, weights: Path | None, threads: int) -> PipelineCodec:
    """`linerwkv.<size>-ccsds`, with the weights of `linerwkv.<size>`; raises as `build`."""
    return PipelineCodec(f"linerwkv.{size}-ccsds", _load(size, weights), threads=threads)


def _load(size: str, weights: Path | None) -> checkpoint.Weights:
    name, expected = f"linerwkv.{size}", {**SIZES, "tiny": tiny}[size]()
    path = weights or shipped(name)
    if not path.is_file():
        raise DataNotFoundError(f"the weights of {name} are not installed: {path} does not exist")
    loaded = checkpoint.load(path)
    if loaded.config != expected:
        raise ConfigError(f"{path} holds weights of another size than {name}")
    return loaded


def xs(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.xs`; `weights`: ours or the published file."""
    return build("xs", weights, threads)


def s(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.s`; `weights`: ours or the published file."""
    return build("s", weights, threads)


def m(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.m`; `weights`: ours or the published file."""
    return build("m", weights, threads)


def l(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:  # noqa: E743 - the published name of this size
    """`linerwkv.l`; `weights`: ours or the published file."""
    return build("l", weights, threads)


def xs_integers(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.xs-int8`; `weights`: ours or the published file."""
    return build_integers("xs", weights, threads)


def s_integers(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.s-int8`; `weights`: ours or the published file."""
    return build_integers("s", weights, threads)


def m_integers(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.m-int8`; `weights`: ours or the published file."""
    return build_integers("m", weights, threads)


def l_integers(weights: Path | None, device: str, threads: int) -> LineRwkvCodec:
    """`linerwkv.l-int8`; `weights`: ours or the published file."""
    return build_integers("l", weights, threads)


def xs_pipeline(weights: Path | None, device: str, threads: int) -> PipelineCodec:
    """`linerwkv.xs-ccsds`; `weights`: ours or the published file."""
    return build_pipeline("xs", weights, threads)


def s_pipeline(weights: Path | None, device: str, threads: int) -> PipelineCodec:
    """`linerwkv.s-ccsds`; `weights`: ours or the published file."""
    return build_pipeline("s", weights, threads)


def m_pipeline(weights: Path | None, device: str, threads: int) -> PipelineCodec:
    """`linerwkv.m-ccsds`; `weights`: ours or the published file."""
    return build_pipeline("m", weights, threads)


def l_pipeline(weights: Path | None, device: str, threads: int) -> PipelineCodec:
    """`linerwkv.l-ccsds`; `weights`: ours or the published file."""
    return build_pipeline("l", weights, threads)
