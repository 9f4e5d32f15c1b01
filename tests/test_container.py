import json
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbench.coding.container import (
    DTYPES,
    MAGIC,
    Environment,
    Header,
    content_check,
    describe,
    is_container,
    pack,
    payload_size,
    read_header,
    unpack,
    verify_content,
)
from cbench.coding.envelope import unwrap, wrap
from cbench.coding.environment import CAPABILITIES
from cbench.coding.varint import Reader, varint
from cbench.errors import BitstreamError, ConfigError, DecodeMismatchError, UnsupportedInputError

HERE = Environment(torch=(2, 13), capability=2, device=0, threads=1)

environments = st.builds(
    Environment,
    torch=st.tuples(st.integers(0, 7), st.integers(0, 63)),
    capability=st.integers(0, len(CAPABILITIES) - 1),
    device=st.integers(0, 1),
    threads=st.integers(0, 7),
)
headers = st.builds(
    Header,
    codec=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    shape=st.tuples(*[st.integers(1, 2000)] * 3),
    dtype=st.sampled_from(DTYPES[1:]),
    format=st.integers(1, 15),
    fingerprint=st.sampled_from([b"", b"\0\0\0\0", b"\xff\x01\x80\x1a"]),
    params=st.binary(max_size=255),
    check=st.none() | st.integers(0, 2**32 - 1),
    environment=st.none() | environments,
)


def small_file() -> bytes:
    head = Header("fsar.cifar10", (3, 5, 300), "uint8", 2, b"abcd", b"pq", 0x12345678, HERE)
    return pack(head, b"first", b"", b"the last one")


def sealed(body: bytes) -> bytes:
    """A body with the right CRC-32: what malice can make and damage cannot."""
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(headers, st.lists(st.binary(max_size=300), min_size=1, max_size=15))
def test_round_trip(head, sections):
    data = pack(head, *sections)
    assert unpack(data) == (head, tuple(sections))
    assert read_header(data) == head
    assert payload_size(data) == sum(map(len, sections))
    assert is_container(data)


def test_a_picture_costs_at_most_40_bytes():
    head = Header("fsar.cifar10", (3, 512, 768), "uint8", 1, b"abcd", b"", 0xFFFFFFFF, HERE)
    assert len(pack(head, b"")) == 40
    assert len(pack(Header("png", (3, 512, 768), "uint8"), b"")) < 22


def test_every_single_bit_flip_is_refused():
    data = small_file()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(flipped))


def test_every_truncation_and_extension_is_refused():
    data = small_file()
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack(data[:size])
    for tail in (b"\0", b"\xff", b"\0\0\0\0", data):
        with pytest.raises(BitstreamError):
            unpack(data + tail)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    for body in (data, MAGIC + data, sealed(MAGIC + b"\x71" + data), sealed(MAGIC + b"\x01" + data)):
        try:
            head, sections = unpack(body)
        except BitstreamError:
            continue
        # What is accepted is a file that we could have written.
        assert pack(head, *sections) == body


@given(st.data())
def test_well_sealed_damage_is_refused_or_means_something(data):
    """Flips under a corrected checksum reach every branch of the parser; nothing but BitstreamError comes
    out."""
    body = bytearray(small_file()[:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(8 * 4, 8 * len(body) - 1))
        body[bit // 8] ^= 1 << bit % 8
    try:
        head, sections = unpack(sealed(bytes(body)))
    except BitstreamError:
        return
    assert pack(head, *sections) == sealed(bytes(body))


def test_what_is_wrong_is_said():
    data = small_file()
    with pytest.raises(BitstreamError, match="not a cbench container"):
        unpack(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(BitstreamError, match="newer version"):
        unpack(sealed(data[:4] + bytes([data[4] & 0xF0 | 2]) + data[5:-4]))
    with pytest.raises(BitstreamError, match="flag"):
        unpack(sealed(data[:4] + bytes([data[4] | 0x80]) + data[5:-4]))
    with pytest.raises(BitstreamError, match="CRC-32"):
        unpack(data[:-1])


def forged(*dims: int) -> bytes:
    start = MAGIC + b"\x01" + varint(3) + b"png" + b"\x11" + b"\x31"
    return sealed(start + b"".join(map(varint, dims)) + varint(0) + b"payload")


def test_absurd_shapes_are_refused_before_anything_is_allocated():
    assert unpack(forged(1, 2, 3))[0].shape == (1, 2, 3)
    for dims in ((0, 2, 3), (1 << 62, 1, 1), (1 << 32, 1 << 32, 1), (1 << 20, 1 << 20, 1 << 20)):
        with pytest.raises(BitstreamError):
            unpack(forged(*dims))
    with pytest.raises(BitstreamError, match="more than 5 samples"):
        unpack(forged(1, 2, 3), max_samples=5)


def test_headers_that_do_not_fit_are_refused():
    good = {"codec": "png", "shape": (1, 2, 3), "dtype": "uint8"}
    for bad in ({"shape": (2, 3)}, {"shape": (0, 1, 1)}, {"shape": (1 << 33, 2, 2)}, {"dtype": "float32"}):
        with pytest.raises(UnsupportedInputError):
            Header(**(good | bad))
    for bad in (
        {"codec": ""},
        {"codec": "ü"},
        {"format": 0},
        {"format": 16},
        {"fingerprint": b"12345"},
        {"params": bytes(256)},
        {"check": -1},
    ):
        with pytest.raises(ConfigError):
            Header(**(good | bad))
    with pytest.raises(ConfigError, match="1 to 15 sections"):
        pack(Header(**good))


@given(st.integers(0, 2**63 - 1))
def test_varints(value):
    data = varint(value)
    reader = Reader(data)
    assert reader.varint("number") == value
    assert reader.left == 0


def test_varints_have_one_spelling():
    for data in (b"\x80\x00", b"\x81\x80\x00", b"\xff" * 9 + b"\x01", b"\xff" * 20, b"\x80", b""):
        with pytest.raises(BitstreamError):
            Reader(data).varint("number")
    for value in (-1, 2**63):
        with pytest.raises(ValueError, match="varint"):
            varint(value)


@given(environments)
def test_environment_round_trip(environment):
    assert 0 <= environment.pack() < 1 << 16
    assert Environment.unpack(environment.pack()) == environment
    assert str(environment)


def test_environment_here():
    code = (
        "import sys; from cbench.coding.container import Environment; e = Environment.here(3);"
        "assert 'torch' not in sys.modules; assert e.torch == (0, 0) and e.threads == 3; print(e)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "no torch" in out
    assert "3 threads" in out
    assert Environment.here(99).threads == 7
    assert Environment.here(1, "cuda:0").device == 1
    assert str(HERE) == "torch 2.13 on CPU (x86 AVX-512), 1 thread"


def test_content_check_depends_on_values_only():
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) * 700
    assert content_check(array) == zlib.crc32(array.astype("<u2").tobytes())
    for same in (array.astype(">u2"), np.asfortranarray(array), np.repeat(array, 2, axis=2)[:, :, ::2]):
        assert content_check(same) == content_check(array)
    assert content_check(array + 1) != content_check(array)


def test_mismatch_names_both_environments():
    array = np.zeros((1, 4, 4), np.uint8)
    head = Header("fsar.cifar10", array.shape, "uint8", check=content_check(array), environment=HERE)
    verify_content(head, array)
    there = Environment(torch=(2, 6), capability=3, device=0, threads=4)
    with pytest.raises(DecodeMismatchError, match=r"torch 2.13 .* and decoded with torch 2.6 on CPU \(ARM\)"):
        verify_content(head, array + 1, there)
    with pytest.raises(DecodeMismatchError):
        verify_content(head, array.astype(np.uint16))
    with pytest.raises(DecodeMismatchError):
        verify_content(head, array[:, :3])


def test_describe_is_json():
    text = json.loads(json.dumps(describe(small_file())))
    assert text["codec"] == "fsar.cifar10"
    assert text["shape"] == [3, 5, 300]
    assert text["sections"] == [5, 0, 12]
    assert text["payload_bytes"] == 17
    assert text["file_bytes"] == len(small_file())
    assert text["fingerprint"] == b"abcd".hex()
    assert text["environment"] == str(HERE)


records = st.dictionaries(st.text(max_size=9), st.text(max_size=300) | st.integers() | st.none(), max_size=5)


@given(st.binary(max_size=100), records)
def test_envelope_round_trip(coded, record):
    assert unwrap(wrap(coded, record)) == (coded, record)


def test_envelope_damage_is_refused():
    data = wrap(small_file(), {"format": "png"})
    assert len(data) == len(small_file()) + 26
    for bit in range(8 * 4, 8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unwrap(bytes(flipped))
    for size in range(4, len(data)):
        with pytest.raises(BitstreamError):
            unwrap(data[:size])
    assert unwrap(b"something else") == (b"something else", {})


def test_envelope_with_a_hostile_record():
    bomb = zlib.compress(bytes(1 << 25))
    start = b"CBE\x1a"
    for body in (
        start + b"\x11" + varint(len(bomb)) + bomb,
        start + b"\x11" + varint(3) + b"abc",
        start + b"\x01" + varint(3) + b"[1]",
        start + b"\x01" + varint(9) + b"{",
        start + b"\x01" + varint(100000) + b"[" * 100000,
        start + b"\x21" + varint(2) + b"{}",
        start + b"\x02" + varint(2) + b"{}",
    ):
        with pytest.raises(BitstreamError):
            unwrap(sealed(body))
