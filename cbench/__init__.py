"""Learned compression as working codecs: files that are written, read back, compared, timed and reported.

>>> import cbench                                         # doctest: +SKIP
>>> data = cbench.compress(array, codec="jpegxl")         # (C, H, W) integers -> bytes
>>> array = cbench.decompress(data)                       # the file says which codec made it
>>> cbench.list_codecs()

Importing this package loads nothing but itself; codecs, numpy and torch come in when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cbench._version import __version__

if TYPE_CHECKING:
    from cbench.zoo import compress, decompress, list_codecs, load_codec

__all__ = ["__version__", "compress", "decompress", "list_codecs", "load_codec"]


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'cbench' has no attribute {name!r}")
    import cbench.zoo

    return getattr(cbench.zoo, name)


def __dir__() -> list[str]:
    """The public names, for tab completion before they are loaded."""
    return sorted({*globals(), *__all__})
