"""How long and how much memory: medians of repeats with a fixed number of threads."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbench.errors import ConfigError

_MB = 1e6
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def set_threads(count: int) -> None:
    """Fix the threads of everything this process runs from here on.

    The environment variables reach libraries that are loaded later; torch is set directly where it is loaded,
    so call this again after a codec was built. It is never set back: a process that measures has one count.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(count)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)


def median_seconds(work: Callable[[], Any], repeats: int, device: str = "cpu") -> tuple[float, Any]:
    """Median wall-clock seconds of `repeats` calls, and the last result.

    Raises:
        ConfigError: `repeats` is less than one.
    """
    if repeats < 1:
        raise ConfigError(f"repeats (={repeats}) must be at least 1")
    times, result = [], None
    collecting = gc.isenabled()
    # A garbage collection in a process that has torch loaded takes longer than coding a small picture.
    gc.disable()
    try:
        for _ in range(repeats):
            _wait_for(device)
            start = time.perf_counter()
            result = work()
            _wait_for(device)
            times.append(time.perf_counter() - start)
    finally:
        if collecting:
            gc.enable()
    return statistics.median(times), result


class PeakMemory:
    """Most memory (resident, MB = 10^6 bytes) that the process took inside a `with` block beyond what it had.

    Linux counts the peak in the kernel and lets a process reset it; elsewhere, and where that is forbidden,
    only a new all-time peak of the process shows. Freed memory that an allocator kept would hide what comes
    next, so the C library is asked to return it first (glibc). Memory of a GPU is not included.
    """

    def __enter__(self) -> PeakMemory:
        """Reset the peak."""
        self.mb: float = 0.0
        _return_freed()
        self._resettable = _reset_peak()
        self._start = resident() if self._resettable else _peak()
        return self

    def __exit__(self, *_: object) -> None:
        """Read the peak."""
        self.mb = max(0, _peak() - self._start) / _MB


def _wait_for(device: str) -> None:
    """Kernels of a GPU run on after the call returns; they belong to the time."""
    torch: Any = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        torch.cuda.synchronize(device)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's function that returns freed memory to the system; None: another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _return_freed() -> None:
    trim = _trim()
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    return 0


def resident() -> int:
    """Bytes of memory that this process has now (Linux)."""
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else 1024 * usage
