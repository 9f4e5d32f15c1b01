"""Training with mixed quantisation: rates see uniform noise, all else sees rounded values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from cbench.models.tbtc import checkpoint
from cbench.models.tbtc.codec import TbtcCodec
from cbench.models.tbtc.config import SIDE, TbtcTraining
from cbench.models.tbtc.network import Output, TbtcNetwork
from cbench.models.tbtc.start import start_linear
from cbench.nn.pictures import round_up
from cbench.train.module import Group, PaperModule

PEAK = 255.0


class TbtcModule(PaperModule):
    """Trains a `TbtcNetwork`; quantiles of z's prior follow by bisection instead of an auxiliary optimiser."""

    network: TbtcNetwork

    def __init__(self, config: TbtcTraining) -> None:
        super().__init__(config)
        self.network = TbtcNetwork(config.model)
        self.network.entropy_bottleneck.quantiles.requires_grad_(False)
        if config.linear_start is not None:
            start_linear(self.network, config.linear_start)
        if config.channels_last and config.model.transform == "conv":
            self.network.to(memory_format=torch.channels_last)

    def groups(self) -> list[Group]:
        """One Adam over everything but the quantiles; a second one, slower, for the end."""
        learned = tuple(p for p in self.network.parameters() if p.requires_grad)
        if self.config.decay_at is None:
            return [Group(name="main", parameters=learned)]
        first = Group(name="main", parameters=learned, stop=self.config.decay_at)
        return [first, Group(name="end", parameters=learned, lr=0.1, start=self.config.decay_at)]

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, 3, H, W) uint8. "bpd" is the whole cost, R + lambda D, in bits a sample."""
        x = batch.float().div_(255)
        if self.config.channels_last and self.config.model.transform == "conv":
            x = x.contiguous(memory_format=torch.channels_last)
        return rate_distortion(self._forward(x), x, self.config)

    def _forward(self, x: Tensor) -> Output:
        """The network on pictures of any size, with the codec's padding."""
        h, w = x.shape[2:]
        rest = (0, round_up(w, SIDE) - w, 0, round_up(h, SIDE) - h)
        if not any(rest):
            return self.network(x)
        out = self.network(functional.pad(x, rest, mode="replicate"))
        return Output(out.x_hat[:, :, :h, :w], out.y_likelihood, out.z_likelihood)

    def after_step(self, batch: Tensor) -> None:
        """Bisect the quantiles now and then."""
        if self.step % self.config.settle_every == 0:
            self.network.entropy_bottleneck.settle()

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Bisect the quantiles of the weights that are about to code."""
        self.network.entropy_bottleneck.settle()

    def codec(self) -> TbtcCodec:
        """See `PaperModule.codec`."""
        return TbtcCodec("tbtc.training", self._weights(), str(self.device), torch.get_num_threads())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`."""
        notes = {"lambda": f"{self.config.rate:g}", "distortion": self.config.distortion}
        checkpoint.save(path, self._weights(), {**notes, **metadata}, half=True)

    def load(self, path: Path) -> None:
        """See `PaperModule.load`."""
        weights = checkpoint.load(path)
        self.network.load_state_dict(weights.network.state_dict())

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """The picture and what is decoded from it."""
        x = batch.float() / 255
        return {"picture": x[0], "decoded": self._forward(x).x_hat[0].clamp(0, 1)}

    def _weights(self) -> checkpoint.Weights:
        state = {name: value.detach().cpu().clone() for name, value in checkpoint.parameters_of(self.network).items()}
        return checkpoint.build(state, self.config.model)


def rate_distortion(out: Output, x: Tensor, config: TbtcTraining) -> dict[str, Tensor]:
    """Losses of a forward pass on x (B, 3, H, W) in [0, 1].

    "loss" is R + lambda D in bits a pixel, "bpp" R, "mse" over [0, 1], "psnr" in dB.
    """
    bpp = out.bits / x[:, 0].numel()
    mse = (out.x_hat - x).square().mean()
    if config.distortion == "mse":
        distortion = PEAK**2 * mse
    else:
        from pytorch_msssim import ms_ssim

        distortion = 1 - ms_ssim(out.x_hat.contiguous(), x.contiguous(), data_range=1.0)
    loss = bpp + config.rate * distortion
    return {"loss": loss, "bpd": loss / 3, "bpp": bpp, "mse": mse, "psnr": -10 * mse.log10()}
