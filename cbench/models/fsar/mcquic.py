"""McQuic's quantiser, which the paper takes as a baseline: codes on three levels, each for what the finer one left.

    encoding    y_i = down_i(z_i)    codes_i nearest to head_i(y_i)    z_(i+1) = rest_i(y_i) - vectors of codes_i
    decoding    z_i = up_i(values_i(vectors of codes_i) + side_i(z_(i+1))), from the coarsest level to z_0 = z

Every level halves the sides and has a quarter of the codes of the one before. It stands where the vector quantiser
stands and has its interface: the symbols of all levels lie on the grid of the coarsest one, so that a finer level has 4
or 16 planes where that has one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.errors import ConfigError
from cbench.models.fsar.config import MCQUIC_LEVELS, FsarConfig
from cbench.models.fsar.network import Residual, down, up
from cbench.models.fsar.quantizers import Quantised, summed_over_processes

FREQUENCY_BITS = 24
"""Frequencies become integers in units of 2^-24, from float32 numbers that the weights file holds."""
LEAST_TEMPERATURE = 1e-6
ROWS = 1024
"""Vectors that are compared with all codes at a time."""


class Level(nn.Module):
    """One level: m codebooks of K vectors, and the networks around them."""

    DECAY = 0.9
    frequency: Tensor

    def __init__(self, config: FsarConfig, codes: int, *, coarsest: bool) -> None:
        super().__init__()
        c, length = config.channels, config.embedding
        self.down = nn.Sequential(*down(c, c), Residual(c), Residual(c), nn.Conv2d(c, c, 1), Residual(c))
        self.head = nn.Sequential(Residual(c), nn.Conv2d(c, c, 3, padding=1))
        self.codebook = nn.Parameter(torch.randn(config.groups, codes, length) * math.sqrt(2 / (5 * length)))
        self.temperature = nn.Parameter(torch.ones(config.groups))
        self.register_buffer("frequency", torch.full((config.groups, codes), 1 / codes))
        self.values = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), Residual(c))
        self.rest = self.side = None
        if not coarsest:
            self.rest = nn.Sequential(Residual(c), nn.Conv2d(c, c, 3, padding=1))
            self.side = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), Residual(c))
        start = nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)
        self.up = nn.Sequential(Residual(c), *start, Residual(c), Residual(c), *up(c), nn.Conv2d(c, c, 1))

    def encode(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Z (B, C, 2h, 2w) -> codes (B, m, h, w), their vectors (B, C, h, w), and what the next level takes."""
        y = self.down(z)
        f = self.head(y).unflatten(1, (len(self.codebook), -1)).permute(0, 3, 4, 1, 2)
        if self.training:
            shares = functional.gumbel_softmax(self._logits(f), hard=True)
            codes = shares.argmax(-1)
            vectors = torch.einsum("bhwmk,mkd->bhwmd", shares, self.codebook)
            self._follow(codes.flatten(0, 2))
        else:
            codes = self._nearest(f.flatten(0, 2)).view(f.shape[:4])
            vectors = self.codebook[torch.arange(len(self.codebook), device=z.device), codes]
        codes, vectors = codes.permute(0, 3, 1, 2), vectors.flatten(3).permute(0, 3, 1, 2)
        return codes, vectors, None if self.rest is None else self.rest(y) - vectors

    def decode(self, vectors: Tensor, coarser: Tensor | None) -> Tensor:
        """Vectors of codes (B, C, h, w), and the next level's result of that shape -> z (B, C, 2h, 2w)."""
        values = self.values(vectors)
        return self.up(values if coarser is None else values + self.side(coarser))

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (B, m, h, w) -> vectors (B, C, h, w)."""
        book = torch.arange(len(self.codebook), device=codes.device)
        return self.codebook[book, codes.permute(0, 2, 3, 1)].flatten(3).permute(0, 3, 1, 2)

    def _logits(self, f: Tensor) -> Tensor:
        """Vectors (B, h, w, m, d) -> (B, h, w, m, K): minus squares over the root of K, times a temperature."""
        norms = f.square().sum(-1, keepdim=True) + self.codebook.square().sum(-1)
        squares = norms - 2 * torch.einsum("bhwmd,mkd->bhwmk", f, self.codebook)
        scale = self.temperature.clamp_min(LEAST_TEMPERATURE) / math.sqrt(self.codebook.shape[1])
        return -squares * scale[:, None]

    def _nearest(self, f: Tensor) -> Tensor:
        """Vectors (N, m, d) -> codes (N, m), the arg-max of the logits; some rows at a time for memory's sake."""
        bias = -0.5 * self.codebook.square().sum(-1)
        score = zip(bias, self.codebook, strict=True)
        found = [[torch.addmm(b, own, e.T).argmax(1) for own in f[:, m].split(ROWS)] for m, (b, e) in enumerate(score)]
        return torch.stack([torch.cat(own) for own in found], 1)

    @torch.no_grad()
    def _follow(self, codes: Tensor) -> None:
        """Moving average of how often each code (N, m) is chosen."""
        counts = [torch.bincount(own, minlength=self.codebook.shape[1]) for own in codes.unbind(1)]
        share = summed_over_processes(torch.stack(counts).float())
        self.frequency.lerp_(share / share.sum(1, keepdim=True), 1 - self.DECAY)


class McQuic(nn.Module):
    """The levels."""

    noise = False

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        last = MCQUIC_LEVELS - 1
        self.levels = nn.ModuleList(Level(config, config.codes >> 2 * i, coarsest=i == last) for i in range(last + 1))

    def anneal(self, factor: float) -> None:
        """See `Quantizer.anneal`."""

    def settle(self) -> None:
        """See `Quantizer.settle`: nothing to do."""

    def forward(self, z: Tensor, uniform: Tensor | None = None) -> Quantised:
        """Quantise z (B, C, h, w) with sides that are multiples of 8."""
        with torch.autocast(z.device.type, enabled=False):
            codes, vectors = self._encode(z.float())
            latent = self._decode(vectors)
            nats = sum(self._nats(level, own) for level, own in zip(self.levels, codes, strict=True))
            return Quantised(pack(codes), latent, z.new_zeros(()), latent, nats=nats)

    @torch.no_grad()
    def symbols(self, z: Tensor) -> Tensor:
        """Z (B, C, 8h, 8w) -> (B, planes, h, w) int64."""
        return pack(self._encode(z.float())[0])

    def latent(self, symbols: Tensor) -> Tensor:
        """Symbols (B, planes, h, w) -> z (B, C, 8h, 8w)."""
        codes = unpack(symbols, len(self.levels[0].codebook))
        return self._decode([level.lookup(own) for level, own in zip(self.levels, codes, strict=True)])

    def tables(self) -> tuple[list[np.ndarray], np.ndarray]:
        """The static prior: integer weights of each codebook, and which of them each plane has.

        Raises:
            ConfigError: frequencies that are none.
        """
        if any(not (level.frequency.min() >= 0 and level.frequency.sum(1).isfinite().all()) for level in self.levels):
            raise ConfigError("the network has code frequencies that are negative or not finite")
        rows, of_plane = [], []
        for i, level in enumerate(self.levels):
            book = np.arange(len(rows), len(rows) + len(level.codebook))
            of_plane.append(book.repeat(4 ** (MCQUIC_LEVELS - 1 - i)))
            rows += list(np.rint(level.frequency.cpu().numpy() * (1 << FREQUENCY_BITS)).astype(np.uint32))
        return rows, np.concatenate(of_plane)

    def _encode(self, z: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        codes, vectors = [], []
        for level in self.levels:
            own, q, z = level.encode(z)
            codes.append(own)
            vectors.append(q)
        return codes, vectors

    def _decode(self, vectors: list[Tensor]) -> Tensor:
        z = None
        for level, own in zip(reversed(self.levels), reversed(vectors), strict=True):
            z = level.decode(own, z)
        return z

    def _nats(self, level: Level, codes: Tensor) -> Tensor:
        """Code length of codes (B, m, h, w); there is no gradient, as in the original."""
        floor = 2.0**-16  # what the coder's tables give a code at least
        book = torch.arange(codes.shape[1], device=codes.device)[:, None, None]
        return -level.frequency[book, codes].clamp_min(floor).log().sum()


def pack(codes: list[Tensor]) -> Tensor:
    """Codes of the levels, (B, m, 4h, 4w), (B, m, 2h, 2w), (B, m, h, w) -> symbols (B, planes, h, w)."""
    return torch.cat([functional.pixel_unshuffle(own, 1 << (len(codes) - 1 - i)) for i, own in enumerate(codes)], 1)


def unpack(symbols: Tensor, books: int) -> list[Tensor]:
    """Inverse of `pack`; `books`: m."""
    sides = [1 << (MCQUIC_LEVELS - 1 - i) for i in range(MCQUIC_LEVELS)]
    parts = symbols.split([books * side**2 for side in sides], 1)
    return [functional.pixel_shuffle(part, side) for part, side in zip(parts, sides, strict=True)]
