"""Adaptive hyperspectral coding without a network: experts that learn while they code. See README.md in this folder."""

from __future__ import annotations

from cbench.models.rls.codec import RlsCodec
from cbench.models.rls.config import Expert, RlsConfig
from cbench.models.rls.lines import LineDecoder, LineEncoder
from cbench.models.rls.recovery import Recovered, recover

__all__ = ["Expert", "LineDecoder", "LineEncoder", "Recovered", "RlsCodec", "RlsConfig", "recover"]
