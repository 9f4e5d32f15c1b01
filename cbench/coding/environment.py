"""Where an array was coded: what codecs note down whose arithmetic is not the same on every machine."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass

from cbench.errors import BitstreamError, ConfigError

CAPABILITIES = ("x86", "x86 AVX2", "x86 AVX-512", "ARM", "other processor")
"""Vector instruction sets that floating-point kernels differ by; the position is the stored code."""
DEVICES = ("CPU", "GPU")
MAX_THREADS = 7
"""Seven stands for seven or more."""


@dataclass(frozen=True)
class Environment:
    """Library version and machine, packed into 16 bits.

    Bits 0-2 threads, 3 device, 4-6 capability, 7-12 minor and 13-15 major version of torch.
    """

    torch: tuple[int, int]
    """Major (0..7) and minor (0..63) version; (0, 0): made without torch."""
    capability: int
    """Index into `CAPABILITIES`."""
    device: int
    """Index into `DEVICES`."""
    threads: int
    """0: unknown; 1..6; 7: seven or more."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` where a field does not fit its bits."""
        major, minor = self.torch
        if not (0 <= major < 8 and 0 <= minor < 64):
            raise ConfigError(f"torch version {major}.{minor} does not fit an environment record")
        if not (0 <= self.capability < len(CAPABILITIES) and 0 <= self.device < len(DEVICES)):
            raise ConfigError(f"no machine capability {self.capability} or device {self.device}")
        if not 0 <= self.threads <= MAX_THREADS:
            raise ConfigError(f"threads (={self.threads}) must lie in 0..{MAX_THREADS}")

    @classmethod
    def here(cls, threads: int, device: str = "cpu") -> Environment:
        """This process, coding with `threads` threads on `device` ("cpu", "cuda", "cuda:1", ...).

        Never imports torch: where it is not loaded, no codec that needs it can be running.
        """
        gpu = int(not device.startswith("cpu"))
        return cls(_torch_version(), _capability(), gpu, max(0, min(threads, MAX_THREADS)))

    def pack(self) -> int:
        """The 16-bit form."""
        major, minor = self.torch
        return self.threads | self.device << 3 | self.capability << 4 | minor << 7 | major << 13

    @classmethod
    def unpack(cls, word: int) -> Environment:
        """The inverse of `pack`; raises `BitstreamError` for a capability that this version does not know."""
        capability = word >> 4 & 7
        if capability >= len(CAPABILITIES):
            raise BitstreamError(f"the environment record names an unknown machine capability ({capability})")
        return cls((word >> 13, word >> 7 & 63), capability, word >> 3 & 1, word & 7)

    def __str__(self) -> str:
        """Such as "torch 2.13 on CPU (x86 AVX-512), 1 thread"."""
        library = "torch {}.{}".format(*self.torch) if self.torch != (0, 0) else "no torch"
        count = f"{self.threads} or more" if self.threads == MAX_THREADS else str(self.threads or "unknown")
        noun = "thread" if self.threads == 1 else "threads"
        return f"{library} on {DEVICES[self.device]} ({CAPABILITIES[self.capability]}), {count} {noun}"


def _torch_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", str(getattr(sys.modules.get("torch"), "__version__", "")))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _capability() -> int:
    machine = platform.machine().lower()
    if machine.startswith(("arm", "aarch64")):
        return CAPABILITIES.index("ARM")
    if machine not in ("x86_64", "amd64", "i386", "i686"):
        return CAPABILITIES.index("other processor")
    torch = sys.modules.get("torch")
    # What torch *uses* counts (it can be lowered by an environment variable), not what the processor has.
    used = torch.backends.cpu.get_cpu_capability() if torch is not None else "DEFAULT"
    return {"AVX2": 1, "AVX512": 2}.get(used, 0)
