import io

import numpy as np
import pytest
from PIL import Image

import cbench
from cbench.errors import BitstreamError, UnsupportedInputError
from cbench.plugins import pillow


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (4, "uint8"), (1, "uint16")])
def test_pillow_reads_and_writes(bands, dtype, tmp_path):
    assert pillow.FORMAT in Image.SAVE
    array = ramp((bands, 9, 7), dtype)
    path = tmp_path / "picture.cb"
    path.write_bytes(cbench.compress(array, codec="png"))
    with Image.open(path) as image:
        assert image.size == (7, 9)
        pixels = np.asarray(image)
        assert np.array_equal(pixels[None] if bands == 1 else pixels.transpose(2, 0, 1), array)
        image.save(tmp_path / "again.cb", codec="jpegls")
    assert np.array_equal(cbench.decompress((tmp_path / "again.cb").read_bytes()), array)


def test_pillow_refuses_clearly(tmp_path):
    data = cbench.compress(ramp((5, 4, 4), "uint8"), codec="zstd")
    with pytest.raises(UnsupportedInputError, match="5 channels"):
        Image.open(io.BytesIO(data))
    with pytest.raises(BitstreamError):
        Image.open(io.BytesIO(data[:-3]))
    with pytest.raises(UnsupportedInputError, match="mode F"):
        Image.new("F", (3, 3)).save(tmp_path / "float.cb")


@pytest.mark.parametrize("shape", [(), (7,), (5, 6), (3, 5, 6), (2, 3, 5, 6)])
def test_numcodecs(shape):
    numcodecs = pytest.importorskip("numcodecs")
    from cbench.plugins.numcodecs import Cbench

    codec = numcodecs.get_codec(Cbench("zstd").get_config())
    array = ramp(shape, "int16")
    out = np.empty_like(array)
    assert np.array_equal(codec.decode(codec.encode(array)).reshape(shape), array)
    assert np.array_equal(codec.decode(codec.encode(array), out), array)


@pytest.mark.parametrize("form", [2, 3])
def test_zarr(form):
    zarr = pytest.importorskip("zarr", minversion="3")
    pytest.importorskip("numcodecs")
    from cbench.plugins.numcodecs import Cbench
    from cbench.plugins.zarr import CbenchCodec

    array = ramp((5, 30, 40), "uint16")
    how = {"compressors": Cbench("jpegls")} if form == 2 else {"serializer": CbenchCodec("jpegls"), "compressors": None}
    store: dict = {}
    made = zarr.create_array(store, shape=array.shape, chunks=(2, 16, 40), dtype="uint16", zarr_format=form, **how)
    made[:] = array
    assert np.array_equal(zarr.open_array(store, mode="r")[:], array)
    assert made.nbytes_stored() < array.nbytes
