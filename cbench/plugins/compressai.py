"""This package's coder under CompressAI's entropy models.

One line is enough:

    from cbench.plugins import compressai; compressai.install()

Afterwards every `EntropyModel.compress` and `decompress` (entropy bottleneck, Gaussian conditional and what is built
on them) hands its tensors to our coder without going through Python lists, and damaged strings raise
`BitstreamError`. The strings are not those of CompressAI's own coder: files written before must be read before
`install()` or after `uninstall()`.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from cbench.coding import Tables, decode, encode
from cbench.errors import UnsupportedInputError
from cbench.nn.torchvision_guard import guard

guard()
from compressai.entropy_models import EntropyModel  # noqa: E402 - must follow guard()

_ORIGINAL = {name: getattr(EntropyModel, name) for name in ("compress", "decompress")}
_tables: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], Tables]] = WeakKeyDictionary()


def install() -> None:
    """Use our coder in every CompressAI entropy model of this process, from now on."""
    EntropyModel.compress = _compress
    EntropyModel.decompress = _decompress


def uninstall() -> None:
    """Go back to CompressAI's coder."""
    for name, function in _ORIGINAL.items():
        setattr(EntropyModel, name, function)


def tables_of(model: nn.Module) -> Tables:
    """The quantised tables of an entropy model (`_quantized_cdf`, `_cdf_length`, `_offset`), made once and kept
    until one of the buffers changes.

    Raises:
        UnsupportedInputError: the model has no tables yet (CompressAI's `update()` makes them).
    """
    buffers = (model._quantized_cdf, model._cdf_length, model._offset)
    if any(buffer.numel() == 0 for buffer in buffers):
        raise UnsupportedInputError("the entropy model has no tables yet: call its update() first")
    state = tuple(number for buffer in buffers for number in (buffer.data_ptr(), buffer._version))
    kept = _tables.get(model)
    if kept is None or kept[0] != state:
        cdf, length, offset = (buffer.detach().cpu().numpy() for buffer in buffers)
        # Their last symbol stands for values outside the table, as our escape slot does.
        kept = state, Tables(cdf, length.reshape(-1) - 2, offset.reshape(-1), precision=16, escape=True)
        _tables[model] = kept
    return kept[1]


def _compress(self: nn.Module, inputs: Tensor, indexes: Tensor, means: Tensor | None = None) -> list[bytes]:
    if inputs.dim() < 2 or inputs.size() != indexes.size():
        raise UnsupportedInputError("inputs and indexes must have the same shape, of two dimensions or more")
    tables = tables_of(self)
    symbols = _numpy(self.quantize(inputs, "symbols", means))
    return [encode(s, tables, i) for s, i in zip(symbols, _numpy(indexes), strict=True)]


def _decompress(
    self: nn.Module,
    strings: list[bytes],
    indexes: Tensor,
    dtype: torch.dtype = torch.float,
    means: Tensor | None = None,
) -> Tensor:
    if len(strings) != indexes.size(0) or indexes.dim() < 2:
        raise UnsupportedInputError("there must be one string for each item of indexes")
    tables = tables_of(self)
    symbols = np.stack([decode(s, tables, i) for s, i in zip(strings, _numpy(indexes), strict=True)])
    return self.dequantize(torch.from_numpy(symbols).to(self._quantized_cdf.device), means, dtype)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().to(device="cpu", dtype=torch.int32).contiguous().numpy()
