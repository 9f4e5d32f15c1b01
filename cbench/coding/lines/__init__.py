"""Cubes line by line: adaptive experts, with or without a network beside them, in independent blocks of lines.

`LinesCodec` codes whole cubes, `LineEncoder` and `LineDecoder` lines as they come, `recover` what damage has left.
"""

from __future__ import annotations

from cbench.coding.lines.codec import LinesCodec
from cbench.coding.lines.experts import Expert, Experts
from cbench.coding.lines.recovery import Recovered, recover
from cbench.coding.lines.stream import LineDecoder, LineEncoder

__all__ = ["Expert", "Experts", "LineDecoder", "LineEncoder", "LinesCodec", "Recovered", "recover"]
