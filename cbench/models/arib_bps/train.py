"""Training of SIG and INS, one after the other as in the paper or both at once, and finetuning with coded latents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding.container import content_check
from cbench.errors import ConfigError
from cbench.models.arib_bps import checkpoint
from cbench.models.arib_bps.codec import AribCodec
from cbench.models.arib_bps.config import AribTraining
from cbench.models.arib_bps.losses import Continuous, Quantised, ins_terms, logistic_noise, sig_terms
from cbench.models.arib_bps.network import AribNetwork, PlaneModel
from cbench.models.arib_bps.planes import STEPS
from cbench.models.arib_bps.rates import qps_of
from cbench.train.module import Group, PaperModule

PARTS = {"sig": ("sig",), "ins": ("ins",), "both": ("sig", "ins"), "finetune": ("sig",)}
"""Which models learn in each mode."""
EMPHASIS = 24
"""Makes a neighbour's usual difference, some 0.05, about 1 behind a first layer with PyTorch's initial weights."""


class AribModule(PaperModule):
    """Trains an `AribNetwork`."""

    network: AribNetwork

    def __init__(self, config: AribTraining) -> None:
        super().__init__(config)
        self.network = AribNetwork(config.model, config.dropout)
        if config.high_pass:
            emphasise_differences(self.network.sig)
            emphasise_differences(self.network.ins)
        for part in {"sig", "ins"} - set(PARTS[config.mode]):
            # Several processes exchange a gradient for every weight that could have one.
            getattr(self.network, part).requires_grad_(False)
        if config.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self._qps = {} if config.qps is None else read_qps(config.qps)

    def groups(self) -> list[Group]:
        """The models that learn, each with its own Adam."""
        factor = self.config.decay_rate ** (self.step // self.config.decay_interval)
        return [
            Group(name=part, parameters=tuple(getattr(self.network, part).parameters()), lr=factor)
            for part in PARTS[self.config.mode]
        ]

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, 3, H, W) uint8."""
        found: dict[str, Tensor] = {}
        sampled = self.config.one_step and self.network.training and len(batch) % len(STEPS) == 0
        turn = self.step if sampled else None
        if self.config.mode != "ins":
            scales = 2 * self.config.model.n_layers
            terms = sig_terms(self.network.sig, batch, self._latents(batch), turn)
            found |= {"sig_bpd": terms.sum(), "latent_bpd": terms[:scales].sum()}
        if self.config.mode in ("ins", "both"):
            found["ins_bpd"] = ins_terms(self.network.ins, batch, turn).sum()
        total = sum(found[name] for name in ("sig_bpd", "ins_bpd") if name in found)
        return {"loss": total, "bpd": total} | found

    def _latents(self, batch: Tensor) -> Continuous:
        """Noise that depends on the step and the process in training, and on nothing in validation."""
        seed = (self.seed << 40) ^ (self.step << 8) ^ self.global_rank if self.network.training else 0
        noise = logistic_noise(self.network.sig, batch.shape, torch.Generator().manual_seed(seed))
        if self.config.mode != "finetune":
            return Continuous(noise, batch.numel())
        known = [self._qps.get(content_check(x)) for x in batch.cpu().numpy()] if self._qps else [None]
        qps = qps_of(self.network, batch) if None in known else torch.tensor(known)
        return Quantised(noise, batch.numel(), qps)

    def codec(self) -> AribCodec:
        """See `PaperModule.codec`."""
        weights = checkpoint.Weights(self.network)
        return AribCodec("arib_bps.training", weights, str(self.device), torch.get_num_threads())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`; weights are rounded to half precision."""
        checkpoint.save(path, checkpoint.Weights(checkpoint.rounded(self.network)), metadata)

    def load(self, path: Path) -> None:
        """See `PaperModule.load`."""
        network = checkpoint.load(path).network
        if network.config != self.config.model:
            raise ConfigError(f"{path} holds another ArIB-BPS model than the one to be trained")
        self.network.load_state_dict(network.state_dict())


def read_qps(path: Path) -> dict[int, int]:
    """A list of `tools/list_qps.py`: CRC-32 of a picture -> qp, so that no order of files can mix them up.

    Raises:
        ConfigError: no such file, or it is something else.
    """
    try:
        rows = np.loadtxt(path, dtype=str, ndmin=2)
        return {int(check, 16): int(qp) for check, qp in rows[:, :2]}
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path} is not a list of picture checks and qps: {error}") from None


@torch.no_grad()
def emphasise_differences(model: PlaneModel) -> None:
    """Let three quarters of the U-Net's first filters start without a mean and much larger.

    What decides a low plane are differences of a few 255ths between neighbours. Such filters turn them into numbers
    around 1 from the first step on; gradient descent needs long to find that by itself.
    """
    first: nn.Conv2d = model.plane_context.first
    some = first.weight[: first.out_channels * 3 // 4]
    some -= some.mean((1, 2, 3), keepdim=True)
    some *= EMPHASIS
