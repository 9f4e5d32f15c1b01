"""What TBTC's speed is made of: fused attention, bfloat16, and the arithmetic that makes files portable.

    python tools/tbtc_speed.py [--rounds 3] [--model swin|conv] [--prior charm|hyperprior] [--size xs|s|m|l]

A 512 x 768 picture, one thread, random weights. Both sides of every ratio alternate in one process; figures are the
smallest thread CPU times of all rounds, in seconds. "straightforward" is the SwinT as papers describe it: rolls,
partitions, relative bias and mask made anew in every block, softmax between two products, all positions at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from cbench.coding import DecodeIO
from cbench.coding.container import unpack
from cbench.data import samples
from cbench.models.tbtc import checkpoint, swin
from cbench.models.tbtc.codec import TbtcCodec
from cbench.models.tbtc.config import extra_small, large, medium, small
from cbench.models.tbtc.exact import BITS
from cbench.models.tbtc.network import TbtcNetwork

HEIGHT, WIDTH = 512, 768
SIZES = {"xs": extra_small, "s": small, "m": medium, "l": large}


def straightforward_attention(self: swin.WindowAttention, x: Tensor) -> Tensor:
    """`WindowAttention.forward` without a plan, for maps that windows cover exactly."""
    b, h, w, c = x.shape
    n, shift, heads = self.window, self.shift, self.heads
    if shift:
        x = torch.roll(x, (-shift, -shift), (1, 2))
    windows = x.view(b, h // n, n, w // n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, n * n, c)
    q, k, v = self.qkv(windows).view(-1, n * n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    logits = (q * self.scale) @ k.transpose(-2, -1) + self.bias()
    if shift:
        region = swin._cut(3 * swin._bands(h, n, shift)[:, None] + swin._bands(w, n, shift), n)
        mask = (region[:, None] != region[:, :, None]).float() * swin.MASKED
        logits = (logits.unflatten(0, (b, -1)) + mask[None, :, None]).flatten(0, 1)
    out = (logits.softmax(-1) @ v).transpose(1, 2).reshape(-1, n * n, c)
    out = self.proj(out).view(b, h // n, w // n, n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
    return torch.roll(out, (shift, shift), (1, 2)) if shift else out


@contextmanager
def straightforward() -> Iterator[None]:
    """Inside, all Swin blocks are evaluated as papers describe them."""
    with (
        patch.object(swin.WindowAttention, "forward", straightforward_attention),
        patch.object(swin, "CACHED", 1 << 40),
    ):
        yield


class Times:
    """Smallest CPU time of everything that is measured, by name."""

    def __init__(self) -> None:
        self.best: dict[str, float] = defaultdict(lambda: float("inf"))

    def of(self, name: str, run: Callable[[], Any]) -> Any:
        """Run once; returns what `run` returns."""
        start = time.thread_time()
        result = run()
        self.best[name] = min(self.best[name], time.thread_time() - start)
        return result


def measure(network: TbtcNetwork, rounds: int) -> dict[str, float]:
    """Seconds of everything that is compared."""
    weights = checkpoint.build(checkpoint.parameters_of(network), network.config)
    codec, half = (TbtcCodec("tbtc.speed", weights, half=fast) for fast in (False, True))
    x = np.ascontiguousarray(np.tile(samples.photos()[0].array, (1, 2, 2))[:, :HEIGHT, :WIDTH])
    pixels = torch.from_numpy(x)[None].float() / 255
    times = Times()
    data = codec.compress(x)
    with torch.inference_mode():
        for _ in range(rounds):
            times.of("compress", lambda: codec.compress(x))
            times.of("decompress", lambda: codec.decompress(data))
            if network.config.transform == "swin":
                with straightforward():
                    times.of("straightforward compress", lambda: codec.compress(x))
                    times.of("straightforward decompress", lambda: codec.decompress(data))
            times.of("compress in bfloat16", lambda: half.compress(x))
            times.of("g_a", lambda: weights.network.g_a(pixels))
            with torch.autocast("cpu", torch.bfloat16):
                times.of("g_a in bfloat16", lambda: weights.network.g_a(pixels))
            _measure_prior(codec, weights.network, data, times)
    return times.best


def _measure_prior(codec: TbtcCodec, network: TbtcNetwork, data: bytes, times: Times) -> None:
    """h_s and ChARM alone: exact as in the codec, and in float32 as it would be without portable files."""
    head, (stream,) = unpack(data)
    h, w = HEIGHT // 64, WIDTH // 64
    z_hat = torch.zeros(1, network.config.hyper_latent, h, w)
    units = (z_hat * 2.0**BITS).double().permute(0, 2, 3, 1)

    def exact() -> None:
        scales, means = codec._prior.hyper(units).round().chunk(2, -1)
        done: list[Tensor] = []
        for i in range(network.config.slices if network.config.prior == "charm" else 0):
            done.append(codec._prior.slice(i, scales, means, done)[0])

    times.of("prior, exact", exact)
    times.of("prior, float32", lambda: network.parameters_of(z_hat, lambda own, mu: mu))
    times.of("latents, all", lambda: codec.code_latents(DecodeIO(stream), head))


def report(found: dict[str, float]) -> str:
    """All figures, and the ratios that matter."""
    lines = [f"{name:28} {seconds:7.3f} s" for name, seconds in found.items()]
    extra = found["prior, exact"] - found["prior, float32"]
    lines += [
        "",
        f"portable arithmetic: {extra:.3f} s more than float32, {extra / found['decompress']:.1%} of decompress",
    ]
    for what in ("compress", "decompress"):
        if f"straightforward {what}" in found:
            lines.append(f"{what}: {found[what] / found[f'straightforward {what}']:.2f} of straightforward")
    lines.append(f"g_a in bfloat16: {found['g_a'] / found['g_a in bfloat16']:.2f} times as fast")
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=("swin", "conv"), default="swin")
    parser.add_argument("--prior", choices=("charm", "hyperprior"), default="charm")
    parser.add_argument("--size", choices=SIZES, default="m")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(report(measure(TbtcNetwork(SIZES[given.size](given.model, given.prior)), given.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
