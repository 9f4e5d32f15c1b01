"""The codec: lower planes first, latents out of their bits ("bits back"), then the upper planes, all on one stack.

Byte format arib_bps/v1. The payload is a stack (csrc/FORMAT.md, "Stack") that begins as the state 2^32 + CRC-32 of the
picture. In an archive up to 16 small pictures of one shape share a stack (`streams_of`, "data-set mode"): it is the
payload of the first of them, those of the others are empty. A picture is cut into parts (colours as RGB or grey, alpha
as grey), these into tiles of at most `TILE`, the tiles into chunks (`chunks_of`). Each chunk is pushed on top of the
one before it; the decoder takes them off from the last to the first. A chunk, in the order of pushing:

    planes 8 .. s+1   INS; in each the steps 4 .. 1, in these blue, green, red: one bit a pixel; then "raw" (p = 1/16)
    latents popped    scales L-1 .. 0, with the posterior (`Posterior`); none if qp = 0; not in the direct mode
    planes s .. 1     SIG, with F_z of the latents
    latents           scales 0 .. L-1, qp raw bits each
    5 bits            2 qp + (1: direct, the latents are those of the posterior's mode and nothing was popped)

A plane that is "raw" has the probability 1/2 for every bit. Tiles at the right and lower border are filled up with
zeros to a multiple of the networks' stride; what is filled in is not coded.

Private parameters in the header: none, or one byte with the precision of the probabilities (`PRECISIONS`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cbench.coding import StackIO
from cbench.coding.archive import pack_archive, unpack_archive
from cbench.coding.container import Header, pack, unpack
from cbench.coding.environment import Environment
from cbench.coding.header import both_environments
from cbench.errors import BitstreamError, CbenchError, DecodeMismatchError, UnsupportedInputError, WrongModelError
from cbench.models.arib_bps import checkpoint
from cbench.models.arib_bps.chunks import Chunk, chunks_of, cut_tiles, place_tiles, streams_of
from cbench.models.arib_bps.engine import PRECISIONS, Engine, Precision, batches
from cbench.models.arib_bps.planes import PLANES
from cbench.models.arib_bps.stack_coder import ChunkCoder
from cbench.nn.running import device_of, running
from cbench.zoo.weights import shipped

EMPTY = 1 << 32
"""State of an empty stack."""
LEAST_BITS = 2.2e-5
"""No bit of a plane costs less: -log2(65535 / 65536)."""


class AribCodec:
    """Lossless codec for 8-bit grey and RGB pictures of any size, with or without alpha."""

    max_error = 0
    format = 1

    def __init__(
        self,
        name: str,
        weights: checkpoint.Weights,
        device: str = "cpu",
        threads: int = 1,
        *,
        precision: Precision = "exact",
        direct: int | None = None,
    ) -> None:
        """Prepare the networks.

        Args:
            name: as in `cbench.load_codec`.
            weights: both models.
            device: where the networks run.
            threads: that they may use.
            precision: of what is written; any precision is read. See `engine`.
            direct: write latents of that many bits each (0..10), the most likely ones, without bits back. Costs more,
                but nothing depends on how the bits of another part of the file fall. None: bits back.

        Raises:
            ConfigError: a device that is not there.
        """
        self.name = name
        self.threads = threads
        self.precision, self.direct = precision, direct
        self.fingerprint = weights.fingerprint()
        self.config = weights.network.config
        self._weights = weights
        self._device = device_of(device)
        self._engines: dict[Precision, Engine] = {}

    def compress(self, array: np.ndarray) -> bytes:
        """One (C, H, W) uint8 picture -> one self-contained file.

        Raises:
            UnsupportedInputError: an array that this codec does not take.
        """
        head = self._header(array, self.precision)
        payload = self._encode([array], self.precision)[0]
        if self.precision != "exact" and not self._decodes([head], [payload], [array]):
            head, payload = self._header(array, "exact"), self._encode([array], "exact")[0]
        return pack(head, payload)

    def decompress(self, data: bytes) -> np.ndarray:
        """Inverse of `compress`.

        Raises:
            BitstreamError: damaged, truncated or extended data.
            WrongModelError: the file was made by another codec, with other weights or a newer byte format.
            DecodeMismatchError: intact data that decodes to something else here than where it was made.
        """
        head, sections = unpack(data)
        self._check_ours(head)
        if len(sections) != 1:
            raise BitstreamError(f"a file of {self.name} has one section, not {len(sections)}")
        return self._decode([head], sections)[0]

    def compress_many(self, arrays: Sequence[np.ndarray]) -> bytes:
        """Several pictures -> one archive; the networks see pictures of equal size together.

        Raises:
            UnsupportedInputError: an array that this codec does not take, or no array.
        """
        if not len(arrays):
            raise UnsupportedInputError("an archive needs at least one array")
        heads = [self._header(array, self.precision) for array in arrays]
        payloads = self._encode(arrays, self.precision)
        if self.precision != "exact" and not self._decodes(heads, payloads, arrays):
            heads = [self._header(array, "exact") for array in arrays]
            payloads = self._encode(arrays, "exact")
        return pack_archive(heads[0], payloads, [head.shape for head in heads])

    def decompress_many(self, data: bytes) -> list[np.ndarray]:
        """Inverse of `compress_many`; raises as `decompress`."""
        archive = unpack_archive(data)
        self._check_ours(archive.head)
        items = range(len(archive))
        return self._decode([archive.header(i) for i in items], [archive.item(i) for i in items])

    def _header(self, array: np.ndarray, precision: Precision) -> Header:
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "iu":
            raise UnsupportedInputError("a codec takes an integer numpy array of shape (C, H, W)")
        if array.dtype != np.uint8:
            raise UnsupportedInputError(f"{self.name} codes 8-bit pictures (uint8), not {array.dtype}")
        if not 1 <= array.shape[0] <= 4:
            raise UnsupportedInputError(f"{self.name} codes pictures of 1 to 4 channels, not {array.shape[0]}")
        exact = precision == "exact"
        return Header(
            self.name,
            array.shape,
            "uint8",
            self.format,
            self.fingerprint,
            b"" if exact else bytes([PRECISIONS.index(precision)]),
            environment=None if exact else self._here(),
        )

    def _here(self) -> Environment:
        return Environment.here(self.threads, self._device.type)

    def _check_ours(self, head: Header) -> None:
        if head.codec != self.name:
            raise WrongModelError(f"the file was made by codec {head.codec}, not {self.name}")
        if head.format > self.format:
            raise WrongModelError(
                f"the file has byte format {head.format} of {self.name}; this version reads up to {self.format}"
            )
        if head.fingerprint != self.fingerprint:
            raise WrongModelError(
                f"the file was made with weights {head.fingerprint.hex() or 'none'} of {self.name}, these are "
                f"{self.fingerprint.hex() or 'none'}: pass the weights it was made with"
            )
        if len(head.params) > 1 or (head.params and not 1 <= head.params[0] < len(PRECISIONS)):
            raise BitstreamError(f"the file has parameters that {self.name} does not know")
        if head.dtype != "uint8" or not 1 <= head.shape[0] <= 4:
            raise BitstreamError(f"the file announces {head.shape} {head.dtype}: no picture of {self.name}")

    def _engine(self, precision: Precision) -> Engine:
        if precision not in self._engines:
            self._engines[precision] = Engine(self._weights.network, precision, self._device)
        return self._engines[precision]

    def _decodes(self, heads: Sequence[Header], payloads: Sequence[bytes], arrays: Sequence[np.ndarray]) -> bool:
        try:
            back = self._decode(heads, payloads)
        except CbenchError:
            return False
        return all(map(np.array_equal, back, arrays))

    def _plan(self, shapes: Sequence[tuple[int, int, int]]) -> tuple[list[list[int]], list[list[list[Chunk]]]]:
        """The items of each stream, and the chunks in the order of coding: rounds (a chunk a stream), in these batches.

        A batch has tiles of one size, and as many as a network takes at once.
        """
        streams = streams_of(shapes)
        lists = [chunks_of(i, items, shapes[items[0]], self.config.stride) for i, items in enumerate(streams)]
        rounds = []
        for number in range(max(map(len, lists))):
            by_side: dict[tuple[int, int], list[Chunk]] = {}
            for chunks in lists:
                if number < len(chunks):
                    by_side.setdefault(chunks[number].side, []).append(chunks[number])
            found = []
            for side, group in by_side.items():
                sizes = [len(chunk.tiles) * side[0] * side[1] for chunk in group]
                found += [[group[i] for i in run] for run in batches(sizes)]
            rounds.append(found)
        return streams, rounds

    def _encode(self, arrays: Sequence[np.ndarray], precision: Precision) -> list[bytes]:
        streams, rounds = self._plan([array.shape for array in arrays])
        bottoms = [EMPTY + _check([arrays[i] for i in items]) for items in streams]
        stacks = [StackIO(bottom.to_bytes(6, "little")) for bottom in bottoms]
        with running(self.threads):
            coder = ChunkCoder(self._engine(precision), stacks, direct=self.direct)
            for found in rounds:
                for batch in found:
                    for chunk in batch:
                        cut_tiles(chunk, arrays)
                    coder.encode(batch)
        payloads = [b""] * len(arrays)
        for items, stack in zip(streams, coder.stacks, strict=True):
            payloads[items[0]] = stack.to_bytes()
        return payloads

    def _decode(self, heads: Sequence[Header], payloads: Sequence[bytes]) -> list[np.ndarray]:
        shapes = [head.shape for head in heads]
        for items in streams_of(shapes):
            samples, size = sum(heads[i].samples for i in items), len(payloads[items[0]])
            if 8 * size < LEAST_BITS * PLANES * samples or any(payloads[i] for i in items[1:]):
                raise BitstreamError(f"{size} bytes cannot hold {len(items)} pictures of shape {heads[items[0]].shape}")
        streams, rounds = self._plan(shapes)
        code = heads[0].params[0] if heads[0].params else 0
        arrays = [np.zeros(head.shape, np.uint8) for head in heads]
        stacks = [StackIO(payloads[items[0]]) for items in streams]
        with running(self.threads):
            coder = ChunkCoder(self._engine(PRECISIONS[code]), stacks)
            for found in reversed(rounds):
                for batch in found:
                    coder.decode(batch)
                    for chunk in batch:
                        place_tiles(chunk, arrays)
        for items, stack in zip(streams, coder.stacks, strict=True):
            self._check_end(heads[0], stack.to_bytes(), [arrays[i] for i in items])
        return arrays

    def _check_end(self, head: Header, rest: bytes, arrays: Sequence[np.ndarray]) -> None:
        state = int.from_bytes(rest, "little") - EMPTY
        if len(rest) == 6 and state == _check(arrays):
            return
        if head.environment is None:
            raise BitstreamError(f"the data is damaged: what {self.name} decoded does not end as it began")
        raise DecodeMismatchError(
            f"the file decoded to something else than was encoded{both_environments(head.environment, self._here())}"
        )


def _check(arrays: Sequence[np.ndarray]) -> int:
    """CRC-32 of the pictures of a stream, one behind the other."""
    check = 0
    for array in arrays:
        check = zlib.crc32(np.ascontiguousarray(array), check)
    return check


def cifar10(weights: Path | None, device: str, threads: int, precision: Precision = "exact") -> AribCodec:
    """`arib_bps.cifar10`: a small model trained on CIFAR-10; `weights`: ours or the original's `sig.pth`."""
    name = "arib_bps.cifar10"
    return AribCodec(name, checkpoint.load(weights or shipped(name)), device, threads, precision=precision)
