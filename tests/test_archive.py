import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbench.coding.archive import (
    describe_archive,
    is_archive,
    pack_archive,
    unpack_archive,
)
from cbench.coding.container import Environment, Header, content_check, unpack
from cbench.errors import BitstreamError, ConfigError, DecodeMismatchError

HEAD = Header(
    "fsar.cifar10",
    (3, 32, 32),
    "uint8",
    fingerprint=b"abcd",
    params=b"p",
    environment=Environment((2, 13), 2, 0, 1),
)

items = st.lists(
    st.tuples(
        st.binary(max_size=200),
        st.tuples(*[st.integers(1, 500)] * 3),
        st.integers(0, 2**32 - 1),
        st.text(max_size=12),
    ),
    min_size=1,
    max_size=20,
)


def small_archive() -> bytes:
    return pack_archive(HEAD, [b"one", b"three", b""], [(3, 4, 5), (3, 6, 5), (3, 4, 5)], [1, 2, 3], ["a", "b", "ü"])


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(items, st.booleans(), st.booleans(), st.booleans())
def test_round_trip(entries, with_shapes, with_checks, with_names):
    payloads, shapes, checks, names = map(list, zip(*entries, strict=True))
    data = pack_archive(
        HEAD,
        payloads,
        shapes if with_shapes else None,
        checks if with_checks else None,
        names if with_names else None,
    )
    archive = unpack_archive(data)
    assert is_archive(data)
    assert len(archive) == len(payloads)
    assert [archive.item(i) for i in range(len(archive))] == payloads
    assert list(archive.shapes) == (shapes if with_shapes else [HEAD.shape] * len(payloads))
    assert archive.checks == (tuple(c & 0xFFFF for c in checks) if with_checks else None)
    assert archive.names == (tuple(names) if with_names else None)
    assert archive.head.codec == HEAD.codec
    assert archive.head.fingerprint == HEAD.fingerprint
    assert archive.head.params == HEAD.params
    assert archive.head.environment == HEAD.environment
    assert archive.header(len(archive) - 1).shape == archive.shapes[-1]


def test_a_picture_costs_at_most_four_bytes():
    rng = np.random.default_rng(0)
    sizes = rng.integers(700, 2500, 1000)
    payloads = [bytes(size) for size in sizes]
    data = pack_archive(HEAD, payloads, checks=[0] * 1000)
    fixed = 48
    assert len(data) - sum(sizes) <= 4 * 1000 + fixed
    data = pack_archive(HEAD, [bytes(900 + i % 128) for i in range(1000)], checks=[0] * 1000)
    assert len(data) - sum(900 + i % 128 for i in range(1000)) <= 3 * 1000 + fixed


def test_every_bit_flip_truncation_and_extension_is_refused():
    data = small_archive()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack_archive(bytes(flipped))
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack_archive(data[:size])
    with pytest.raises(BitstreamError):
        unpack_archive(data + b"\0")
    with pytest.raises(BitstreamError, match="container"):
        unpack(data)


@given(st.data())
def test_well_sealed_damage_is_refused_or_means_something(data):
    body = bytearray(small_archive()[:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(8 * 4, 8 * len(body) - 1))
        body[bit // 8] ^= 1 << bit % 8
    try:
        archive = unpack_archive(sealed(bytes(body)))
    except BitstreamError:
        return
    for i in range(len(archive)):
        assert len(archive.item(i)) == archive.payload_bytes(i)


def test_absurd_sizes_are_refused():
    archive = pack_archive(HEAD, [b"x"] * 10)
    with pytest.raises(BitstreamError, match="more than 30719 samples"):
        unpack_archive(archive, max_samples=30 * 1024 - 1)
    start = b"CBA\x1a\x01\x01z\x01\x31\x01\x01\x01\x00"
    many, none, short, long = (
        b"\xff\xff\xff\xff\x7f\x00",
        b"\x00\x00",
        b"\x02\x00\x00",
        b"\x02\xff\xff\x7f\x00\x00",
    )
    for tail in (many, none, short, long):
        with pytest.raises(BitstreamError):
            unpack_archive(sealed(start + tail))


def test_lengths_that_differ_are_refused():
    with pytest.raises(ConfigError, match="2 payloads was given 1 shapes"):
        pack_archive(HEAD, [b"", b""], [(3, 4, 4)])
    with pytest.raises(ConfigError, match="3 checks"):
        pack_archive(HEAD, [b"", b""], checks=[1, 2, 3])
    with pytest.raises(ConfigError, match="at least one"):
        pack_archive(HEAD, [])


def test_items_are_verified():
    arrays = [np.full((1, 2, 2), value, np.uint8) for value in (3, 9)]
    head = Header("png", (1, 2, 2), "uint8", environment=HEAD.environment)
    archive = unpack_archive(pack_archive(head, [b"", b""], checks=list(map(content_check, arrays))))
    archive.verify(0, arrays[0])
    archive.verify(1, arrays[1])
    for wrong in (arrays[1], arrays[0][:, :1], arrays[0].astype(np.int16)):
        with pytest.raises(DecodeMismatchError):
            archive.verify(0, wrong)
    with pytest.raises(DecodeMismatchError, match=r"encoded with torch 2\.13 .* decoded with"):
        archive.verify(1, arrays[0])


def test_describe_is_json():
    text = json.loads(json.dumps(describe_archive(small_archive())))
    assert text["items"] == 3
    assert text["shape"] is None
    assert text["payload_bytes"] == 8
    assert text["file_bytes"] == len(small_archive())
