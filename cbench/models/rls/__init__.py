"""Adaptive hyperspectral coding without a network: experts that learn while they code. See README.md in this folder."""

from __future__ import annotations

from cbench.coding.lines import Expert, Experts, LineDecoder, LineEncoder, Recovered, recover
from cbench.models.rls.codec import RlsCodec

__all__ = ["Expert", "Experts", "LineDecoder", "LineEncoder", "Recovered", "RlsCodec", "recover"]
