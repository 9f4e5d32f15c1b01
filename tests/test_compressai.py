"""CompressAI's entropy models on our coder: same symbols back, no larger, damage noticed."""

import pytest
import torch

from cbench.errors import BitstreamError, UnsupportedInputError
from cbench.plugins import compressai as fast


@pytest.fixture
def installed():
    fast.install()
    yield
    fast.uninstall()


def models():
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional

    torch.manual_seed(0)
    gaussian = GaussianConditional([0.11 * 1.2**i for i in range(40)])
    gaussian.update()
    bottleneck = EntropyBottleneck(8)
    bottleneck.update(force=True)
    return gaussian, bottleneck


def test_round_trip_and_size(installed):
    gaussian, bottleneck = models()
    scales = torch.exp(torch.randn(2, 16, 24, 24))
    means = torch.randn(2, 16, 24, 24)
    y = torch.randn_like(means) * scales + means
    y[0, 0, 0, :3] += torch.tensor([1e4, -1e4, 1e6])
    indexes = gaussian.build_indexes(scales)
    strings = gaussian.compress(y, indexes, means)
    back = gaussian.decompress(strings, indexes, means=means)
    assert torch.equal(back, gaussian.quantize(y, "dequantize", means))

    z = 3 * torch.randn(3, 8, 5, 7)
    strings_z = bottleneck.compress(z)
    assert torch.equal(
        bottleneck.decompress(strings_z, (5, 7)),
        bottleneck.quantize(z, "dequantize", bottleneck._get_medians().reshape(1, 8, 1, 1)),
    )

    with pytest.raises(BitstreamError):
        gaussian.decompress([strings[0][:-1], strings[1]], indexes, means=means)
    fast.uninstall()
    theirs = gaussian.compress(y, indexes, means)
    assert sum(map(len, strings)) <= sum(map(len, theirs))
    assert torch.equal(gaussian.decompress(theirs, indexes, means=means), back)


def test_tables_follow_the_model(installed):
    gaussian, _ = models()
    first = fast.tables_of(gaussian)
    assert fast.tables_of(gaussian) is first
    gaussian.update_scale_table([0.2, 1.0, 5.0], force=True)
    assert len(fast.tables_of(gaussian)) == 3

    from compressai.entropy_models import GaussianConditional

    with pytest.raises(UnsupportedInputError, match="update"):
        fast.tables_of(GaussianConditional(None))
