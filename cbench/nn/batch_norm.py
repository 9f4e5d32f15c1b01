"""Batch norm over the global batch, also on CPUs, where `torch.nn.SyncBatchNorm` does not work."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` whose training statistics are those of all processes together; equal batch sizes assumed.

    So training with n processes does what one process would do with the whole batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not (self.training and distributed.is_initialized() and distributed.get_world_size() > 1):
            return super().forward(x)
        world = distributed.get_world_size()
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        # One message: mean and mean square of this process; centred afterwards, which float32 allows for
        # activations whose mean is not much larger than their deviation.
        local = torch.stack([wide.mean((0, 2, 3)), wide.square().mean((0, 2, 3))])
        mean, square = (all_reduce(local) / world).unbind()
        variance = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            count = world * x.numel() / x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), self.momentum)
        factor = self.weight * (variance + self.eps).rsqrt()
        offset = self.bias - mean * factor
        return torch.addcmul(offset.view(1, -1, 1, 1), wide, factor.view(1, -1, 1, 1)).to(x.dtype)


def globalise(module: nn.Module) -> nn.Module:
    """Turn every `BatchNorm2d` inside a module into a `GlobalBatchNorm2d`; parameters and their names stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = GlobalBatchNorm2d(child.num_features, child.eps, child.momentum, child.affine)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm.train(child.training))
        else:
            globalise(child)
    return module
