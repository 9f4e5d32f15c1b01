"""3 x 3 convolutions in float64 at twice the speed: Winograd's F(4 x 4, 3 x 3), 36 products for 16 pixels, not 144.

Three weights slide over six inputs and give four outputs: the coefficients of a product of polynomials, which are found
from its values at six points. With 0, 1, -1, 1/2, -2 and infinity the rounding error is that of an ordinary convolution
(0, +-1 and +-2, as usual, make it three times larger).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TILE = 4
"""Side of the squares of outputs that are computed at once."""
WINDOW = TILE + 2
_INPUT = ((2, -3, -4, 3, 2, 0), (0, -2, 1, 5, 2, 0), (0, 2, -5, 1, 2, 0),
          (0, -4, -2, 4, 2, 0), (0, 1, -2, -1, 2, 0), (0, 2, -3, -4, 3, 2))  # fmt: skip
"""Six inputs -> values at the points, times 2."""
_WEIGHTS = ((15, 0, 0), (5, 5, 5), (-5, 5, -5), (-16, -8, -4), (1, -2, 4), (0, 0, 15))
"""Three weights -> values at the points, times 15."""
_OUTPUT = ((8, 8, 8, 8, 8, 0), (0, 8, -8, 4, -16, 0), (0, 8, 8, 2, 32, 0), (0, 8, -8, 1, -64, 8))
"""Values at the points -> four outputs, times 8."""


class WinogradConv(nn.Module):
    """A 3 x 3 convolution of stride 1 with zero padding, in float64."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take over the weights; they need four times the memory here."""
        super().__init__()
        at_input, at_weights, at_output = (
            torch.tensor(rows, dtype=torch.float64) / unit for rows, unit in ((_INPUT, 2), (_WEIGHTS, 15), (_OUTPUT, 8))
        )
        outputs, inputs = conv.weight.shape[:2]
        weight = torch.einsum("ai,ocij,bj->abco", at_weights, conv.weight.detach().double(), at_weights)
        self.register_buffer("weight", weight.reshape(WINDOW**2, inputs, outputs))
        self.register_buffer("bias", conv.bias.detach().double()[:, None, None])
        self.register_buffer("at_input", torch.kron(at_input, at_input))
        self.register_buffer("at_output", torch.kron(at_output, at_output))

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) float64 -> (B, O, H, W)."""
        batch, inputs, height, width = x.shape
        down, across = -(-height // TILE), -(-width // TILE)
        x = x.permute(0, 2, 3, 1).contiguous()
        x = functional.pad(x, (0, 0, 1, TILE * across - width + 1, 1, TILE * down - height + 1))
        image, row, column, _ = x.stride()
        shape = (WINDOW, WINDOW, batch, down, across, inputs)
        windows = x.as_strided(shape, (row, column, image, TILE * row, TILE * column, 1))
        found = (self.at_input @ windows.reshape(WINDOW**2, -1)).view(WINDOW**2, -1, inputs)
        found = self.at_output @ (found @ self.weight).view(WINDOW**2, -1)
        found = found.view(TILE, TILE, batch, down, across, -1).permute(2, 5, 3, 0, 4, 1)
        return found.reshape(batch, -1, TILE * down, TILE * across)[:, :, :height, :width] + self.bias
