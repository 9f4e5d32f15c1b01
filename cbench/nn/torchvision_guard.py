"""Let compressai, timm and Lightning be imported beside a torchvision that was built for another torch.

pip on a server without a GPU pairs a CPU torch with a CUDA torchvision. Its compiled operators then cannot
be loaded, and importing it dies with "operator torchvision::nms does not exist", although nobody here calls
those operators.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def guard() -> None:
    """Declare torchvision's two missing operators, if they are missing; call before importing what imports it."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(str(library))
            return
        except OSError:
            continue
    _declare()


@cache
def _declare() -> object:
    """The declarations live as long as the returned object, which the cache keeps."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)
    return library
