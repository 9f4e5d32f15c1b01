"""Lossy codecs whose files check the symbols: another rounding of the picture is fine, other symbols are not."""

import numpy as np
import pytest

from cbench.coding import Tables
from cbench.coding.io import CountIO, DecodeIO, EncodeIO
from cbench.coding.script import ScriptCodec
from cbench.coding.summed import SummedIO
from cbench.errors import DecodeMismatchError

FLAT = Tables.from_weights(np.ones(64, np.uint32))


class Quarters(ScriptCodec):
    """Codes x // 4; `drift` stands for a machine that reconstructs differently, `wrong` for one with other symbols."""

    name = "quarters"
    max_error = None
    checks_symbols = True

    def __init__(self, drift: int = 0, wrong: int = 0) -> None:
        self.drift, self.wrong = drift, wrong

    def script(self, io, head, x):
        levels = None if x is None else x // 4
        tables = FLAT if not self.wrong else Tables.from_weights(np.ones(64, np.uint32), offset=self.wrong)
        got = io.code(tables, np.zeros(head.shape, np.int32), levels)
        return (got * 4 + self.drift).astype(head.dtype)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (3, 5, 7), dtype=np.uint8) for _ in range(3)]


def test_another_rounding_decodes(pictures):
    data, many = Quarters().compress(pictures[0]), Quarters().compress_many(pictures)
    assert np.array_equal(Quarters(drift=2).decompress(data), pictures[0] // 4 * 4 + 2)
    for picture, back in zip(pictures, Quarters(drift=2).decompress_many(many), strict=True):
        assert np.array_equal(back, picture // 4 * 4 + 2)


def test_other_symbols_are_refused(pictures):
    data, many = Quarters().compress(pictures[0]), Quarters().compress_many(pictures)
    with pytest.raises(DecodeMismatchError, match="intact"):
        Quarters(wrong=1).decompress(data)
    with pytest.raises(DecodeMismatchError, match="intact"):
        Quarters(wrong=1).decompress_many(many)


def test_every_method_is_summed():
    def run(io):
        io.code(FLAT, np.zeros(3, np.int32), [1, 2, 3])
        io.binary(np.full(4, 1000, np.uint16), [1, 0, 0, 1])
        io.bits(9, [300, 2], (2,))
        return io.check

    writer = EncodeIO()
    coded = run(SummedIO(writer))
    assert coded == run(SummedIO(DecodeIO(writer.finish()))) == run(SummedIO(CountIO()))
