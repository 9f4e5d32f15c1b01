"""wkv, the weighted average at the heart of RWKV-4 (time mixing), as a parallel scan and as a recurrence.

    y_n = ( sum_{j<n} e^{(n-1-j) w + k_j} v_j + e^{f + k_n} v_n ) / ( the same sums without v ),   w = -exp(time_decay)

State of the recurrence: numerator aa and denominator bb, both times e^{-pp}, and that exponent pp.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cbench import _core

EMPTY = -1e38
"""pp of an empty history: minus infinity for every purpose, but without NaN in differences."""

State = tuple[Tensor, Tensor, Tensor]


def wkv(time_decay: Tensor, time_first: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Weighted averages of a whole sequence, differentiable in all four arguments.

    On the CPU a C++ kernel does it in one pass; elsewhere, and for `torch.func`, a scan of log2(T) steps.

    Args:
        time_decay: (A) d of the decay exp(-exp(d)).
        time_first: (A) f, the bonus of the current step.
        k: (B, T, A) log-weights.
        v: (B, T, A) values.

    Returns:
        (B, T, A) y.
    """
    if k.device.type == "cpu" and k.dtype in (torch.float32, torch.float64):
        return _Wkv.apply(time_decay, time_first, k, v)
    return wkv_scan(time_decay, time_first, k, v)


def wkv_scan(time_decay: Tensor, time_first: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`wkv` in plain PyTorch on any device: prefix sums by doubling, each with its own exponent."""
    w = -time_decay.exp()
    steps = k.shape[1]
    aa, bb, pp = v, torch.ones_like(v), k
    reach = 1
    while reach < steps:
        far = tuple(x[:, :-reach] for x in (aa, bb, pp))
        joined = _join((far[0], far[1], far[2] + w * reach), (aa[:, reach:], bb[:, reach:], pp[:, reach:]))
        aa, bb, pp = (torch.cat([x[:, :reach], y], 1) for x, y in zip((aa, bb, pp), joined, strict=True))
        reach *= 2
    before = (_shift(aa, 0.0), _shift(bb, 0.0), _shift(pp, EMPTY))
    num, den, _ = _join(before, (v, torch.ones_like(v), time_first + k))
    return num / den


def empty_state(shape: tuple[int, ...], like: Tensor) -> State:
    """State before the first step, each part of `shape`."""
    zero = like.new_zeros(shape)
    return zero, zero.clone(), torch.full_like(zero, EMPTY)


def wkv_step(time_decay: Tensor, time_first: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
    """One step of the recurrence: k, v (..., A) and a state of that shape -> y (..., A) and the next state."""
    one = torch.ones_like(v)
    num, den, _ = _join(state, (v, one, time_first + k))
    aa, bb, pp = state
    return num / den, _join((aa, bb, pp - time_decay.exp()), (v, one, k))


def _join(left: State, right: State) -> State:
    """Sum of two (numerator, denominator, exponent) under their larger exponent."""
    p = torch.maximum(left[2], right[2])
    old, new = (left[2] - p).exp(), (right[2] - p).exp()
    return old * left[0] + new * right[0], old * left[1] + new * right[1], p


def _shift(x: Tensor, first: float) -> Tensor:
    """(B, T, A) one step later, starting with a constant."""
    return torch.cat([torch.full_like(x[:, :1], first), x[:, :-1]], 1)


class _Wkv(torch.autograd.Function):
    """The C++ kernel and its adjoint, which runs the same recurrence backwards in time."""

    @staticmethod
    def forward(ctx: Any, time_decay: Tensor, time_first: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = tuple(x.detach().contiguous() for x in (time_decay, time_first, k, v))
        ctx.save_for_backward(*given)
        y = torch.empty_like(given[2])
        _core.wkv_forward(*(x.numpy() for x in given), y.numpy(), torch.get_num_threads())
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        given = ctx.saved_tensors
        gk, gv = torch.empty_like(given[2]), torch.empty_like(given[3])
        # The sums over the batch are formed here, so that they do not depend on how the kernel divides its work.
        shape = (len(given[2]), len(given[0]))
        gd, gf = given[2].new_empty(shape), given[2].new_empty(shape)
        args = (*given, grads[0].contiguous(), gd, gf, gk, gv)
        _core.wkv_backward(*(x.numpy() for x in args), torch.get_num_threads())
        return gd.sum(0), gf.sum(0), gk, gv
