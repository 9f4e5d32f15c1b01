"""The entropy coder and the byte formats; needs numpy only.

>>> import numpy as np
>>> from cbench.coding import Tables, decode, encode
>>> tables = Tables.from_pmf([0.5, 0.25, 0.25])
>>> data = encode([0, 1, 0, 2, 0], tables)
>>> decode(data, tables).tolist()
[0, 1, 0, 2, 0]
"""

from cbench.coding.coder import (
    decode,
    decode_adaptive,
    decode_bits,
    decode_rows,
    encode,
    encode_adaptive,
    encode_bits,
    encode_rows,
)
from cbench.coding.io import CodingIO, CountIO, DecodeIO, EncodeIO, StackIO, TraceIO
from cbench.coding.mixture import Mixture
from cbench.coding.pixels import PixelModel
from cbench.coding.script import ScriptCodec
from cbench.coding.states import StateTables
from cbench.coding.tables import Tables

__all__ = [
    "CodingIO",
    "CountIO",
    "DecodeIO",
    "EncodeIO",
    "Mixture",
    "PixelModel",
    "ScriptCodec",
    "StackIO",
    "StateTables",
    "Tables",
    "TraceIO",
    "decode",
    "decode_adaptive",
    "decode_bits",
    "decode_rows",
    "encode",
    "encode_adaptive",
    "encode_bits",
    "encode_rows",
]
