"""Build script: one pybind11 extension, `cbench._core`, from every C++ file under csrc/.

SIMD kernels are separate files that are compiled for their own instruction set and chosen at run time, so
the same binary runs on any x86-64. `CBENCH_DEBUG=1` builds with assertions and debug information.
"""

import os
import platform
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import find_packages, setup

ROOT = Path(__file__).parent
DEBUG = os.environ.get("CBENCH_DEBUG", "0") not in ("", "0")
X86 = platform.machine().lower() in ("x86_64", "amd64")
INSTRUCTION_SETS = {
    "_avx2.cpp": ["-mavx2", "-mbmi2", "-mfma"],
    "_avx512.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512cd"),
        *("-mavx512vbmi", "-mavx512vbmi2", "-mavx512ifma", "-mavx2", "-mbmi2"),
    ],
}
OPTIMISE = ["-O1", "-g", "-UNDEBUG", "-D_GLIBCXX_ASSERTIONS"] if DEBUG else ["-O3", "-DNDEBUG"]
# Floating point is never contracted or reordered: other machines must get the same numbers.
FLAGS = [*OPTIMISE, "-ffp-contract=off", "-fno-fast-math", "-fvisibility=hidden", "-Wall", "-Wextra"]


class BuildExt(build_ext):
    """Adds per-file instruction-set flags: setuptools knows only flags for a whole extension."""

    def build_extensions(self) -> None:
        """Wrap the compiler's one-file step, then build as usual."""
        compile_one = self.compiler._compile

        def with_instruction_set(obj, src, ext, cc_args, extra_postargs, pp_opts):
            special = next((flags for ending, flags in INSTRUCTION_SETS.items() if src.endswith(ending)), [])
            compile_one(obj, src, ext, cc_args, [*extra_postargs, *special], pp_opts)

        self.compiler._compile = with_instruction_set
        super().build_extensions()


def sources() -> list[str]:
    """Every C++ file of the extension; those for x86 only where they can be compiled."""
    found = [*ROOT.glob("csrc/*.cpp"), *ROOT.glob("csrc/simd/*.cpp"), *ROOT.glob("csrc/engines/*.cpp")]
    kept = [path for path in found if X86 or not path.name.endswith(("_avx2.cpp", "_avx512.cpp"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in kept)


def version() -> str:
    """The version number, read without importing the package."""
    return (ROOT / "cbench/_version.py").read_text(encoding="utf-8").split('"')[1]


def readme() -> str:
    """The README, once there is one."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


EXTENSION = Pybind11Extension(
    "cbench._core",
    sources(),
    include_dirs=["csrc"],
    # Every header: an edit of any of them rebuilds everything, which takes seconds.
    depends=sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*.hpp")),
    cxx_std=17,
    extra_compile_args=FLAGS,
)

with ParallelCompile("CBENCH_BUILD_JOBS", default=0):
    setup(
        name="cbench",
        version=version(),
        description="Learned compression as working codecs: one C++ coder, one benchmark, five papers",
        long_description=readme(),
        long_description_content_type="text/markdown",
        license_files=["LICENSE"],
        python_requires=">=3.11",
        packages=find_packages(include=["cbench", "cbench.*"]),
        package_data={"cbench": ["py.typed", "_core.pyi", "zoo/weights/*.safetensors", "models/*/README.md"]},
        ext_modules=[EXTENSION],
        cmdclass={"build_ext": BuildExt},
        zip_safe=False,
        install_requires=[
            "numpy>=1.26,<3",
            "torch>=2.6,<2.14",
            "pytorch-lightning>=2.4,<3",
            "compressai>=1.2.6,<2",
            "timm>=1.0.9,<2",
            "tensorboard>=2.14",
            "scipy>=1.11",
            "pillow>=10.3",
            "imagecodecs>=2024.6.1",
            "safetensors>=0.4.3",
            "tqdm>=4.64",
            "matplotlib>=3.8",
            "scikit-image>=0.22",
            "pytorch-msssim>=1.0",
        ],
        extras_require={
            "geo": ["tifffile>=2023.7", "rasterio>=1.3"],
            "zarr": ["numcodecs>=0.13", "zarr>=2.18,<4"],
            "cluster": ["dask[distributed]>=2024.1"],
            "test": [
                *("pytest>=8", "hypothesis>=6.100", "pytest-xdist>=3.5", "constriction>=0.4"),
                *("ruff>=0.6", "mypy>=1.10", "tifffile>=2023.7", "numcodecs>=0.13"),
            ],
        },
        entry_points={
            "console_scripts": ["cbench=cbench.cli:main"],
            "numcodecs.codecs": ["cbench=cbench.plugins.numcodecs:Cbench"],
            "zarr.codecs": ["cbench=cbench.plugins.zarr:CbenchCodec"],
        },
    )
