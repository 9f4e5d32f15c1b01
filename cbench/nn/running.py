"""Running networks inside codecs: device, threads, no gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cbench.errors import ConfigError


def device_of(name: str) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1").

    Raises:
        ConfigError: unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}") from None
    return device


@contextmanager
def running(threads: int) -> Iterator[None]:
    """Inference with that many threads; the process's own setting comes back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
