"""The order-conditioned Gaussian unit: means and scales of y from its prior and from the elements that come before.

For training and analysis the whole latent is computed at once, with masks that hide what an element may not see. Coding
computes the same in integers, step by step (`integer.py`). Outputs are interleaved: channel 2i is the mean of latent i,
2i + 1 its scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cbench.models.basic.config import CoderConfig
from cbench.models.basic.order_learning import soft_mask
from cbench.models.basic.orders import visible, visible_groups


@dataclass(frozen=True)
class Masks:
    """An order as the factors that the layers multiply their inputs with, 0 or 1 (between them while order is
    learned).
    """

    context: Tensor
    """(G, G, k * k, h * w): [g, g', offset, position]."""
    groups: Tensor
    """(G, G, h * w): [g, g', position]."""

    @classmethod
    def of(cls, order: np.ndarray, kernel: int, device: torch.device | str = "cpu") -> Masks:
        """Masks of labels (G, h, w)."""
        context = torch.from_numpy(visible(order, kernel)).flatten(3).float()
        return cls(context.to(device), torch.from_numpy(visible_groups(order)).flatten(2).float().to(device))

    @classmethod
    def soft(cls, labels: Tensor, kernel: int, kind: str) -> Masks:
        """Masks of continuous labels (G, h, w), with a gradient to them; `kind` as for `soft_mask`."""
        groups, height, width = labels.shape
        # Padding is zero, so labels below zero let nothing outside be seen.
        below = labels - labels.detach().max().ceil() - 1
        windows = functional.unfold(below[None], kernel, padding=kernel // 2).view(groups, -1, height * width)
        centre = below.view(groups, 1, 1, -1)
        own = below.view(1, groups, -1)
        inside = soft_mask(below.view(groups, 1, -1), own, kind, same=True)
        return cls(soft_mask(centre, windows[None], kind), inside)


class OrderConv2d(nn.Module):
    """Convolution, stride 1, whose output group g sees of each input group only what a mask lets through."""

    def __init__(self, inputs: int, outputs: int, size: int, groups: int, input_groups: int | None = None) -> None:
        super().__init__()
        self.size, self.groups, self.input_groups = size, groups, input_groups or groups
        layer = nn.Conv2d(inputs, outputs, size)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """X (B, C, h, w), mask (G, G', k * k, h * w) for G' groups of input channels; None: everything is visible."""
        if mask is None:
            return functional.conv2d(x, self.weight, self.bias, padding=self.size // 2)
        batch, _, height, width = x.shape
        windows = functional.unfold(x, self.size, padding=self.size // 2)
        windows = windows.view(batch, 1, self.input_groups, -1, self.size**2, height * width)
        seen = (windows * mask[:, :, None]).flatten(2, 4)
        weight = self.weight.reshape(self.groups, -1, seen.shape[2])
        return (weight @ seen).flatten(1, 2).view(batch, -1, height, width) + self.bias.view(-1, 1, 1)


class ContextModel(nn.Module):
    """Masked k x k convolution over y, then, unless the variant is "sum", three 1 x 1 layers over it and the prior.

    Variant "A" narrows from 4C to 2C; "B" stays at `CoderConfig.hidden` and computes as many groups again for the
    prior, of which nothing is kept in the end; "sum" adds context and prior.
    """

    def __init__(self, channels: int, config: CoderConfig) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        g = config.groups
        self.context = OrderConv2d(channels, 2 * channels, config.kernel, g)
        inputs, *hidden, outputs = config.layer_widths(channels)
        out_groups = 2 * g if config.variant == "B" else g
        self.mix = nn.ModuleList()
        if config.variant != "sum":
            self.mix.append(OrderConv2d(inputs, hidden[0], 1, out_groups, 2 * g))
            self.mix.append(OrderConv2d(hidden[0], hidden[1], 1, out_groups))
            self.mix.append(OrderConv2d(hidden[1], outputs, 1, out_groups))

    def forward(self, y: Tensor, prior: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """Means and scales (B, C, h, w) of y (B, C, h, w) under a prior (B, 2C, h, w); scales have no lower bound
        yet.
        """
        features = self.context(y, masks.context)
        if not self.mix:
            merged = features + prior
        else:
            merged = torch.cat([features, prior], 1)
            for number, layer in enumerate(self.mix):
                merged = merged if number == 0 else functional.leaky_relu(merged)
                merged = layer(merged, self._group_mask(masks, layer))
        means, scales = merged[:, : 2 * self.channels].unflatten(1, (-1, 2)).unbind(2)
        return means, scales

    def _group_mask(self, masks: Masks, layer: OrderConv2d) -> Tensor | None:
        """The mask of a 1 x 1 layer; groups beyond the order's are those of the prior, which see only each other."""
        g = self.config.groups
        if g == 1 and layer.groups == 1:
            return None
        mask = masks.groups.new_ones(layer.groups, layer.input_groups, 1, masks.groups.shape[-1])
        mask[:g, :g, 0] = masks.groups
        mask[g:, :g] = 0
        return mask

    def macs_per_position(self) -> int:
        """Multiply-adds of all layers at one position of y: what one pass over the latent costs there."""
        return sum(layer.weight.numel() for layer in (self.context, *self.mix))
