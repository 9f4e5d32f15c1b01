"""env.json: versions, processor and commit, so that a figure can be traced; nothing about the user."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import cbench
from cbench._version import __version__

_PACKAGES = (
    "numpy",
    "torch",
    "pytorch-lightning",
    "compressai",
    "timm",
    "imagecodecs",
    "pillow",
    "safetensors",
    "scipy",
    "scikit-image",
    "pytorch-msssim",
)


def describe(threads: int, device: str) -> dict[str, Any]:
    """The environment of a run as plain JSON values; imports none of the packages it names."""
    return {
        "cbench": __version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "libraries": _picture_libraries(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the source tree this package runs from, "+" where files differ; None: no repository."""
    tree = Path(cbench.__file__).resolve().parent.parent
    if not (tree / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tree), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _picture_libraries() -> dict[str, str]:
    """Versions of the C libraries behind the classical codecs: these decide their rates."""
    try:
        import imagecodecs
    except ModuleNotFoundError:
        return {}
    wanted = ("charls", "libavif", "libjpeg_turbo", "libjxl", "libpng", "libwebp", "openjpeg", "qoi", "zstd")
    pairs = (entry.rpartition("-") for entry in str(imagecodecs.version()).split(", "))
    return {name: version for name, _, version in pairs if name in wanted}
