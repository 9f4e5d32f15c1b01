"""Training: random structures, one loss R + lambda D, learned orders by a score-function estimator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cbench.models.basic import checkpoint
from cbench.models.basic.augment import augmented
from cbench.models.basic.codec import BasicCodec
from cbench.models.basic.complexity import Complexity
from cbench.models.basic.config import EDGES, BasicTraining
from cbench.models.basic.context import Masks
from cbench.models.basic.edges import distillation
from cbench.models.basic.network import BasicNetwork, Structure, item_bits, random_order
from cbench.models.basic.order_learning import (
    ENTROPY_BOUND,
    ESTIMATORS,
    draw_labels,
    expected_labels,
    mean_entropy,
    tiled_labels,
)
from cbench.models.basic.orders import tiled_order
from cbench.models.basic.search import searched
from cbench.models.basic.start import scale_latent, start_linear
from cbench.nn.gaussian import lower_bound
from cbench.train.module import Group, PaperModule
from cbench.zoo.checkpoints import is_torch_file
from cbench.zoo.weights import load_weights

SETTLE_EVERY = 100
"""Steps between two searches for the medians of z."""
CONTINUOUS = "st-hardtanh"
"""How masks of continuous labels are differentiated."""


class BasicModule(PaperModule):
    """Trains a `BasicNetwork`."""

    network: BasicNetwork

    def __init__(self, config: BasicTraining) -> None:
        super().__init__(config)
        self.network = BasicNetwork(config.model)
        if config.start == "linear":
            start_linear(self.network, config.rd_lambda)
        self.costs = Complexity(self.network)
        self.seen = 0
        """Items so far, for the phase of random orders."""

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `PaperModule.loss`; batch (B, 3, H, W) uint8.

        "bpd" is the whole R + lambda D in bits a sample, since the rate alone must not choose the weights.
        """
        x = batch.float().div_(255)
        if self.network.training:
            x = augmented(x, self.config.augment)
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if not self.network.training:
            shares = [(x, Structure())]
        elif self.config.sampling == "sandwich":
            shares = list(zip(x.chunk(4), self._sandwich(), strict=False))
        else:
            shares = [(x, self._random_structure())]
        losses = [self._structure_loss(part, structure) for part, structure in shares]
        sizes = [len(part) / len(x) for part, _ in shares]
        mean = {name: sum(size * loss[name] for size, loss in zip(sizes, losses, strict=True)) for name in losses[0]}
        pixels = x.shape[2] * x.shape[3]
        with torch.no_grad():
            mean["bpp"] = mean.pop("bits") / pixels
            mean["psnr"] = -10 * (mean.pop("distortion") / (3 * pixels)).log10()
            mean["bpd"] = mean.pop("rd") / (3 * pixels)
        return mean

    def _structure_loss(self, x: Tensor, structure: Structure) -> dict[str, Tensor]:
        """Loss of one structure, a mean over items: "loss", and the parts that are shown."""
        network = self.network
        choice = dict(zip(EDGES, structure.choices, strict=False))
        extra: list[Tensor] = []
        macs: list[Tensor] = []

        def run(name: str, value: Tensor) -> Tensor:
            edge = network.edges[name]
            if self.config.sampling == "relaxed" and network.training and edge.choices > 1:
                value, shares = edge.relaxed(value)
                macs.append((shares * shares.new_tensor(self.costs.edges[EDGES.index(name)])).sum())
                return value
            if self.config.distill and network.training and name == "y_x":
                value, found = distillation(edge, value, choice[name])
                extra.extend(found.values())
                return value
            return edge(value, choice[name])

        y = run("x_y", x)
        z = run("y_z", y.abs() if self.config.model.magnitudes else y)
        z_hat, z_likelihood = network.code_z(z, structure)
        prior = run("z_y", z_hat)
        y_hat, y_bits, order_loss = self._code_y(y, prior)
        x_hat = run("y_x", y_hat)
        bits = (item_bits(z_likelihood) + y_bits[0]).mean()
        squares = (x_hat - x).square().sum() / len(x)
        distortion = squares if self.config.distortion == "mse" else _dissimilarity(x_hat, x)
        rd = bits + self.config.rd_lambda * distortion
        # Further coders of y learn beside the first one and leave the rest of the graph alone.
        loss = rd + sum(b.mean() for b in y_bits[1:]) + order_loss + self.config.rd_lambda * sum(extra)
        if macs and self.config.complexity_loss == "relative":
            loss = self._relative_loss(x, loss, sum(macs))
        elif macs:
            over = (1000 * sum(macs) - self.config.complexity_limit).clamp_min(0)
            loss = loss + self.config.complexity_weight * over * x.shape[2] * x.shape[3]
        return {"loss": loss, "bits": bits, "distortion": squares, "rd": rd}

    @torch.no_grad()
    def _extremes(self, x: Tensor) -> tuple[list[float], list[float]]:
        """R + lambda D an item and KMAC a pixel of the largest and of the smallest structure on this batch."""
        ends = Structure(), Structure(*(count - 1 for count in self.config.model.choices[:4]))
        parts = [self.network(x, structure) for structure in ends]
        squares = [(found.x_hat - x).square().sum() / len(x) for found in parts]
        losses = [float(p.bits.mean() + self.config.rd_lambda * d) for p, d in zip(parts, squares, strict=True)]
        counted = [sum(table[c] for table, c in zip(self.costs.edges, s.choices, strict=False)) for s in ends]
        return losses, counted

    def _relative_loss(self, x: Tensor, loss: Tensor, kmac: Tensor) -> Tensor:
        """Loss and complexity as shares of what lies between the extreme structures."""
        (best, worst), (most, least) = self._extremes(x)
        share = (loss - best) / max(worst - best, 1e-6 * abs(best))
        return share + self.config.complexity_weight * (kmac - least) / (most - least)

    def _code_y(self, y: Tensor, prior: Tensor) -> tuple[Tensor, list[Tensor], Tensor | float]:
        """y_hat for the synthesis, the bits (B,) with every coder, and the loss that moves learned orders."""
        network = self.network
        y_hat, bits, order_loss = None, [], 0.0
        for number in range(max(1, len(network.y_coders))):
            inputs = (y, prior) if number == 0 else (y.detach(), prior.detach())
            learned = network.y_coders[number].learned if network.y_coders else None
            if learned is None or not network.training:
                masks = self._random_masks(number, y) if network.training else None
                value, likelihood = network.code_y(*inputs, number, masks)
                bits.append(item_bits(likelihood))
            else:
                value, found, loss = self._drawn_orders(number, *inputs)
                bits.append(found)
                order_loss = order_loss + loss
            y_hat = value if number == 0 else y_hat
        return y_hat, bits, order_loss

    def _random_masks(self, number: int, y: Tensor) -> Masks | None:
        """Fresh masks for a coder whose order is "random"; None for the others."""
        if not self.network.y_coders or self.network.y_coders[number].config.order != "random":
            return None
        return self._masks_of(number, y, self._random_labels(number, y, self.step))

    def _drawn_orders(self, number: int, y: Tensor, prior: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """y_hat, bits (B,) of the mixture over K drawn label maps, and the surrogate loss of their logits."""
        coder, samples = self.network.y_coders[number], self.config.order_samples
        logits = coder.learned.logits()
        if coder.config.logits == "continuous":
            labels = tiled_labels(expected_labels(logits), *y.shape[2:])
            masks = Masks.soft(labels, coder.config.kernel, CONTINUOUS)
            value, likelihood = self.network.code_y(y, prior, number, masks)
            return value, item_bits(likelihood), 0.0
        random = self._draws_random(logits)
        if random:
            maps = [self._random_labels(number, y, samples * self.step + k) for k in range(samples)]
            log_q = None
        else:
            labels, log_q = draw_labels(logits, samples)
            maps = [tiled_order(label, *y.shape[2:]) for label in labels.cpu().numpy()]
        found = [self.network.code_y(y, prior, number, self._masks_of(number, y, labels)) for labels in maps]
        likelihoods = torch.stack([likelihood for _, likelihood in found])
        bits = item_bits(likelihoods.mean(0))
        if log_q is None:
            return found[0][0], bits, 0.0
        nats = torch.stack([item_bits(likelihood) for likelihood in likelihoods.detach()]) * math.log(2)
        surrogate = ESTIMATORS[self.config.estimator]
        return found[0][0], bits, surrogate(-nats, log_q[:, None].expand_as(nats))

    def _draws_random(self, logits: Tensor) -> bool:
        """Whether this step's labels are random: before learning begins, and for a share of the steps afterwards."""
        if self.seen < self.config.random_orders and float(mean_entropy(logits.detach())) > ENTROPY_BOUND:
            return True
        return float(torch.rand(())) < self.config.random_order_share

    def _random_labels(self, number: int, y: Tensor, seed: int) -> np.ndarray:
        return random_order(self.network.y_coders[number].config, *y.shape[2:], self.seed + seed)

    def _masks_of(self, number: int, y: Tensor, labels: np.ndarray) -> Masks:
        return Masks.of(labels, self.network.y_coders[number].config.kernel, y.device)

    def _random_structure(self) -> Structure:
        choices = [int(torch.randint(count, ())) for count in self.config.model.choices[:4]]
        return Structure(*(choices[:1] * 4 if self.config.model.slim_latents else choices))

    def _sandwich(self) -> list[Structure]:
        """The largest, the smallest and two drawn ones."""
        last = Structure(*(count - 1 for count in self.config.model.choices[:4]))
        return [Structure(), last, self._random_structure(), self._random_structure()]

    def groups(self) -> list[Group]:
        """One Adam; frozen parts and the quantiles of z, which `settle` finds, are left out."""
        parts = [self.network.edges[name] for name in self.config.frozen if name != "z"]
        parts += [self.network.z_coders] if "z" in self.config.frozen else []
        left_out = {id(p) for part in parts for p in part.parameters()}
        left_out |= {id(coder.quantiles) for coder in self.network.z_coders}
        return [Group(name="main", parameters=tuple(p for p in self.network.parameters() if id(p) not in left_out))]

    def after_step(self, batch: Tensor) -> None:
        """See `PaperModule.after_step`."""
        self.seen += len(batch)
        if self.step % SETTLE_EVERY == 0:
            self._settle()

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Settle what coding takes from the weights: the medians of z and the learned orders."""
        self._settle()
        for coder in self.network.y_coders:
            if coder.learned is not None:
                coder.learned.settle()

    def _settle(self) -> None:
        for coder in self.network.z_coders:
            coder.settle()

    def codec(self) -> BasicCodec:
        """See `PaperModule.codec`."""
        return BasicCodec("basic.training", self._weights(), str(self.device), torch.get_num_threads())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """See `PaperModule.save`."""
        weights = self._weights()
        if self.config.search is not None:
            samples = self.config.search()[: self.config.search_limit]
            weights = searched(weights, [sample.array for sample in samples], self.config.rd_lambda)
        checkpoint.save(path, weights, {"rd_lambda": str(self.config.rd_lambda), **metadata})

    def load(self, path: Path) -> None:
        """See `PaperModule.load`; parts of another shape, such as other coders of y, keep their start values.

        With a linear start, weights of another lambda are scaled to this one's.
        """
        own = self.network.state_dict()
        found = checkpoint.load(path).network.state_dict()
        own |= {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
        self.network.load_state_dict(own)
        if self.config.start == "linear" and not is_torch_file(path):
            before = float(load_weights(path)[1].get("rd_lambda", self.config.rd_lambda))
            scale_latent(self.network, math.sqrt(self.config.rd_lambda / before))

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """The picture and what comes back."""
        x = batch.float() / 255
        return {"picture": x[0], "decoded": self.network(x, Structure()).x_hat[0].clamp(0, 1)}

    def _weights(self) -> checkpoint.Weights:
        state = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        return checkpoint.build(state, self.config.model)


def _dissimilarity(x_hat: Tensor, x: Tensor) -> Tensor:
    """(1 - MS-SSIM) times the samples of an item."""
    import pytorch_msssim

    similarity = pytorch_msssim.ms_ssim(x_hat, x, data_range=1.0)
    return (1 - lower_bound(similarity, 0.0)) * x[0].numel()
