"""Training of the data-space models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cbench.models.fsar import dsar
from cbench.models.fsar.dsar_config import DsarTraining
from cbench.models.fsar.dsar_networks import DsarNetwork, MaskedNetwork, build_network
from cbench.train.module import PaperModule


class DsarModule(PaperModule):
    """Trains a network of `dsar_networks`."""

    network: DsarNetwork

    def __init__(self, config: DsarTraining) -> None:
        super().__init__(config)
        self.network = build_network(config.model)
        self._seen: np.ndarray | None = None

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, 3, H, W) uint8."""
        nats = self.network.nats(batch, self.config.every if self.network.training else 1)
        return {"loss": nats, "bpd": nats / math.log(2)}

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Keep pictures: a model of order 3 has tables for the contexts that occur."""
        if self.config.model.form != "masked" and len(self.config.model.context) > 2:
            self._seen = torch.cat([batch.cpu() for batch in batches]).numpy()

    def codec(self) -> dsar.DsarCodec:
        """See `PaperModule.codec`."""
        return dsar.DsarCodec("fsar.training", self._weights())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`."""
        dsar.save(path, self._weights(), metadata)

    def load(self, path: Path) -> None:
        """See `PaperModule.load`."""
        self.network.load_state_dict(dsar.load(path).network.state_dict())

    def _weights(self) -> dsar.DsarWeights:
        model = build_network(self.config.model)
        model.load_state_dict({name: value.cpu() for name, value in self.network.state_dict().items()})
        model.eval().requires_grad_(False)
        if isinstance(model, MaskedNetwork):
            return dsar.DsarWeights(model, None)
        return dsar.DsarWeights(model, dsar.pixel_states(model, self._seen))
