"""Context models that code one group after the other: a convolution over groups, rows and columns, and FSAR's own
networks where their contexts are too many for tables. Both are evaluated exactly, position by position.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cbench.models.fsar.config import FsarConfig
from cbench.models.fsar.contexts import OCTAVES, added, integers, logits_of
from cbench.models.fsar.grids import CODE_GRID, LOGIT_BITS, LOGIT_GRID, GroupwiseLatent
from cbench.models.fsar.prior import ContextPrior
from cbench.nn.exact import ExactProduct, leaky_relu, snap


class VolumePrior(nn.Module):
    """Code vectors of the neighbours, in all groups before and in this one -> logits of a symbol ("maskconv3d")."""

    mask: Tensor

    def __init__(self, config: FsarConfig) -> None:
        super().__init__()
        k = config.kernel
        self.conv = nn.Conv3d(config.embedding, config.codes, k, padding=k // 2)
        self.register_buffer("mask", (torch.arange(k**3) < k**3 // 2).float().view(k, k, k))

    def forward(self, q: Tensor, start: Tensor | None, positions: Tensor | None = None) -> Tensor:
        """See `ConvPrior.forward`; `start` is None."""
        around = q.permute(0, 4, 3, 1, 2)
        padding = self.conv.padding
        logits = nn.functional.conv3d(around, self.conv.weight * self.mask, self.conv.bias, padding=padding)
        logits = logits.permute(0, 3, 4, 2, 1).flatten(0, 2)
        return logits if positions is None else logits[positions]


class VolumeLatent(GroupwiseLatent):
    """Symbols under a `VolumePrior`, as sums of table rows."""

    def __init__(self, prior: VolumePrior, codebook: Tensor) -> None:
        """`codebook`: (L, K, E). Raises as `conv_tables`."""
        places = np.argwhere(prior.mask.cpu().numpy() != 0)
        super().__init__(len(prior.mask) // 2, codebook.shape[1])
        self._taps = places - self._reach
        weight, vectors = prior.conv.weight.detach().cpu().double() * OCTAVES, integers(codebook)
        self._lookup = np.stack(
            [np.stack([added(weight[:, :, c, y, x].T, own) for own in vectors]) for c, y, x in places]
        )
        self._bias = logits_of(prior.conv.bias)

    def _logits(self, states: np.ndarray, group: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = np.tile(self._bias, (len(rows), 1))
        for lookup, (dc, dy, dx) in zip(self._lookup, self._taps, strict=True):
            if group + dc >= 0:
                own = states[group + dc, rows + self._reach + dy, columns + self._reach + dx]
                found += lookup[group + dc, own]
        return found


class MlpLatent(GroupwiseLatent):
    """Symbols under FSAR's networks."""

    def __init__(self, prior: ContextPrior, codebook: Tensor) -> None:
        """`codebook`: (L, K, E).

        Raises:
            ConfigError: weights that are not finite, or too large for exact sums.
        """
        self._context = prior.config.context
        super().__init__(-min(min(offset[1:]) for offset in self._context), codebook.shape[1])
        self._vectors = nn.functional.pad(integers(codebook), (0, 0, 0, 1))
        self._networks = [_ExactMlp(mlp) for mlp in prior.mlps]

    def _logits(self, states: np.ndarray, group: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        inputs = []
        for dc, dy, dx in self._context:
            source = max(group + dc, 0)
            own = states[source, rows + self._reach + dy, columns + self._reach + dx]
            if group + dc < 0:  # before the first group all is as outside the picture
                own = np.full_like(own, self._outside)
            inputs.append(self._vectors[source, torch.from_numpy(own)])
        return self._networks[min(group, len(self._networks) - 1)](torch.cat(inputs, 1))


class _ExactMlp:
    """Linear layers with LeakyReLU between them: vectors (n, I) on the code grid -> integer logits (n, K)."""

    def __init__(self, layers: nn.Sequential) -> None:
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        scales = [1.0] * (len(linear) - 1) + [OCTAVES]
        self._products = [
            ExactProduct(layer.weight.detach().double().T * scale, layer.bias.detach().double() * scale, CODE_GRID)
            for layer, scale in zip(linear, scales, strict=True)
        ]

    def __call__(self, x: Tensor) -> np.ndarray:
        *hidden, last = self._products
        for product in hidden:
            x = snap(leaky_relu(snap(product(x), product.bits - CODE_GRID.bits, CODE_GRID)), 16, CODE_GRID)
        return snap(last(x), last.bits - LOGIT_BITS, LOGIT_GRID).numpy().astype(np.int32)
