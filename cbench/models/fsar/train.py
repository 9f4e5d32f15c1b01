"""Training of `V2DVQ` with any prior: both losses, STHQ gradients on a share of the pictures, dead codes put to use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed

from cbench.models.fsar import checkpoint
from cbench.models.fsar.codec import FsarCodec, open_codec
from cbench.models.fsar.config import FsarTraining
from cbench.models.fsar.network import FsarNetwork
from cbench.models.fsar.quantizers import trains_in_processes
from cbench.models.fsar.recolour import recoloured
from cbench.models.fsar.tables import merged
from cbench.train.module import PaperModule

BITS = 1 / math.log(2)


class FsarModule(PaperModule):
    """Trains an `FsarNetwork`."""

    network: FsarNetwork

    def __init__(self, config: FsarTraining) -> None:
        super().__init__(config)
        self.network = FsarNetwork(config.model)
        if config.channels_last:
            self.network.to(memory_format=torch.channels_last)
        shape = (config.model.groups, config.model.codes)
        self._used = torch.zeros(shape, dtype=torch.long)
        self._counts = np.ones(shape, np.uint32)
        self._seen: np.ndarray | None = None

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, 3, H, W) uint8."""
        if self.config.recolour and self.network.training:
            batch = recoloured(batch, [self._seed(number) for number in self._numbers(batch).tolist()])
        x = batch.float().div_(255)
        falling = max(0.0, self.progress - self.config.anneal_from)
        self.network.quantizer.anneal(0.5 ** (self.config.halvings * falling))
        uniform = None
        if self.network.training and self.config.soft_every and self.network.quantizer.noise:
            x, soft = self._soft_first(x)
            uniform = self._noise(x, soft)
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        every = self.config.prior_every if self.network.training else 1
        losses = self.network.losses(x, uniform, every)
        if self.network.training and self.config.model.has_codes:
            self._used += _histogram(losses.symbols, self.config.model.codes).cpu()
        return {
            "loss": losses.total,
            "bpd": (losses.distortion + losses.symbol_nats) * BITS,
            "pixel_bpd": losses.distortion * BITS,
            "latent_bpd": losses.symbol_nats * BITS,
        }

    def after_step(self, batch: Tensor) -> None:
        """Every `revive_every` steps, put the codes that are hardly used onto outputs of the encoder.

        With a codebook drawn from U(-1, 1) and few epochs, most codes would otherwise never be chosen.
        """
        every = self.config.revive_every if self.config.model.has_codes else 0
        if not every or self.step % every or self.progress > self.config.revive_until:
            return
        shared = trains_in_processes()
        used = self._used.to(self.device)
        if shared:
            distributed.all_reduce(used)
        dead = used.cpu() < used.sum(1, keepdim=True).cpu() * self.config.revive_below
        self._used.zero_()
        codebook = self.network.quantizer.codebook
        with torch.no_grad():
            if dead.any():
                self._replace(dead, batch)
            if shared:
                distributed.broadcast(codebook.data, 0)

    def _replace(self, dead: Tensor, batch: Tensor) -> None:
        self.network.eval()
        f = self.network.quantizer.split(self.network.encoder(batch.float() / 255).float())
        self.network.train()
        chance = torch.Generator().manual_seed(self.seed + self.step)
        for g, rows in enumerate(dead):
            count = int(rows.sum())
            pick = torch.randint(len(f), (count,), generator=chance).to(f.device)
            noise = torch.randn(count, f.shape[-1], generator=chance).to(f)
            self.network.quantizer.put(g, rows.to(f.device), f[pick, g] + 0.01 * noise)

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Count the symbols, or keep them: a prior of many contexts has tables for those that occur."""
        self.network.quantizer.settle()
        if not self.config.model.has_codes:
            return
        symbols = [self.network.symbols(batch.to(self.device).float() / 255).cpu() for batch in batches]
        counts = sum(_histogram(some, self.config.model.codes) for some in symbols)
        self._counts = (counts.numpy() + 1).astype(np.uint32)
        if len(self.config.model.context) > 2 and len({some.shape[2:] for some in symbols}) == 1:
            self._seen = torch.cat(symbols).numpy()

    def codec(self) -> FsarCodec:
        """See `PaperModule.codec`."""
        return open_codec("fsar.training", self._weights(), str(self.device), torch.get_num_threads())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`."""
        checkpoint.save(path, self._weights(), metadata)

    def load(self, path: Path) -> None:
        """See `PaperModule.load`."""
        weights = checkpoint.load(path, self.config.model)
        self.network.load_state_dict(weights.network.state_dict())
        self._counts = weights.counts

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """The picture and the means that the decoder predicts."""
        x = batch.float() / 255
        params = self.network(self.network.symbols(x))
        if self.network.head is None:
            return {"picture": x[0], "mean": params[0, ..., 0]}
        nats = self.network.pixel_nats(params, x)
        return {"picture": x[0], "bits": nats[0] / nats[0].max()}

    def _weights(self) -> checkpoint.Weights:
        state = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        if self.config.model.context:
            weights = checkpoint.build(state, self.config.model, self._seen)
            if self.config.merge_bits and weights.tables is not None:
                return replace(weights, tables=merged(weights.tables, self.config.merge_bits))
            return weights
        state[checkpoint.COUNTS] = torch.from_numpy(self._counts.astype(np.int64))
        return checkpoint.build(state, self.config.model)

    def _soft_first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Move the pictures that get the Gumbel gradient to the front: every n-th of the global batch.

        Returns:
            The batch, and the numbers of those pictures in the global batch.
        """
        number = self._numbers(x)
        soft = number % self.config.soft_every == 0
        order = torch.argsort(~soft, stable=True)
        return x[order.to(x.device)], number[soft]

    def _numbers(self, x: Tensor) -> Tensor:
        """The numbers (B,) of these pictures in the global batch."""
        return self.global_rank * len(x) + torch.arange(len(x))

    def _seed(self, number: int) -> int:
        """Of what a picture of this step gets by chance."""
        return (self.seed << 40) ^ (self.step << 16) ^ number

    def _noise(self, x: Tensor, numbers: Tensor) -> Tensor | None:
        """Uniform noise of those pictures, the same however the batch is divided over processes."""
        model = self.config.model
        rows = x.shape[2] * x.shape[3] // model.stride**2
        noise = []
        for number in numbers.tolist():
            chance = torch.Generator().manual_seed(self._seed(number))
            noise.append(torch.rand(rows, model.groups, model.codes, generator=chance))
        return torch.cat(noise).to(x.device) if noise else None


def _histogram(symbols: Tensor, codes: int) -> Tensor:
    """Symbols (B, L, h, w) -> how often each occurs, (L, K)."""
    return torch.stack([torch.bincount(group.flatten(), minlength=codes) for group in symbols.unbind(1)])
