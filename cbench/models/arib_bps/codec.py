"""The codec: lower planes first, latents out of their bits ("bits back"), then the upper planes, all on one stack.

Byte format arib_bps/v2. The payload is a stack (csrc/FORMAT.md, "Stack") that begins as the state 2^32 + CRC-32 of the
picture; the highest byte of its final state is left out where it is zero (in v1 it never was). In an archive up to 16
small pictures of one shape share a stack (`streams_of`, "data-set mode"): it is the payload of the first of them, those
of the others are empty. A picture is cut into parts (colours as RGB or grey, alpha as grey), these into tiles of at
most `TILE`, the tiles into chunks (`chunks_of`). Each chunk is pushed on top of the one before it; the decoder takes
them off from the last to the first. A chunk, in the order of pushing:

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
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from cbench.coding import StackIO
from cbench.coding.environment import Environment
from cbench.coding.file_codec import FileCodec
from cbench.coding.header import Header, both_environments
from cbench.errors import BitstreamError, CbenchError, DecodeMismatchError, UnsupportedInputError
from cbench.models.arib_bps import checkpoint
from cbench.models.arib_bps.chunks import Chunk, chunks_of, cut_tiles, place_tiles, streams_of
from cbench.models.arib_bps.engine import PRECISIONS, Engine, Precision, batches
from cbench.models.arib_bps.planes import PLANES
from cbench.models.arib_bps.stack_coder import ChunkCoder
from cbench.nn.running import device_of, running
from cbench.zoo.weights import shipped

EMPTY = 1 << 32
"""State of an empty stack."""
STATE_BYTES = 6
"""Of a stack, in front of its words."""
LEAST_BITS = 2.2e-5
"""No bit of a plane costs less: -log2(65535 / 65536)."""


class AribCodec(FileCodec):
    """Lossless codec for 8-bit grey and RGB pictures of any size, with or without alpha."""

    max_error = 0
    format = 2

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

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether what is written decodes everywhere."""
        return self.precision == "exact"

    def compress(self, array: np.ndarray) -> bytes:
        """See `FileCodec.compress`; files that are not exact are decoded once before they are returned."""
        data = super().compress(array)
        return data if self._decodes([array], lambda: [self.decompress(data)]) else self._safe.compress(array)

    def compress_many(self, arrays: Sequence[np.ndarray]) -> bytes:
        """See `FileCodec.compress_many`; the networks see pictures of equal size together."""
        data = super().compress_many(arrays)
        return data if self._decodes(arrays, lambda: self.decompress_many(data)) else self._safe.compress_many(arrays)

    def check_input(self, array: np.ndarray) -> None:
        """Only 8-bit pictures of one to four channels."""
        if array.dtype != np.uint8:
            raise UnsupportedInputError(f"{self.name} codes 8-bit pictures (uint8), not {array.dtype}")
        if array.shape[0] > 4:
            raise UnsupportedInputError(f"{self.name} codes pictures of 1 to 4 channels, not {array.shape[0]}")

    def params(self) -> bytes:
        """The precision, unless it is exact."""
        return b"" if self.exact else bytes([PRECISIONS.index(self.precision)])

    def here(self) -> Environment:
        """See `FileCodec.here`."""
        return Environment.here(self.threads, self._device.type)

    @cached_property
    def _safe(self) -> AribCodec:
        return AribCodec(self.name, self._weights, str(self._device), self.threads)

    def _decodes(self, arrays: Sequence[np.ndarray], decode: Callable[[], list[np.ndarray]]) -> bool:
        """Whether what was just written can be trusted."""
        try:
            return self.exact or all(map(np.array_equal, decode(), arrays))
        except CbenchError:
            return False

    def _check_ours(self, head: Header) -> None:
        super()._check_ours(head)
        if len(head.params) > 1 or (head.params and not 1 <= head.params[0] < len(PRECISIONS)):
            raise BitstreamError(f"the file has parameters that {self.name} does not know")
        if head.dtype != "uint8" or head.shape[0] > 4:
            raise BitstreamError(f"the file announces {head.shape} {head.dtype}: no picture of {self.name}")

    def _encode(self, heads: Sequence[Header], arrays: Sequence[np.ndarray]) -> list[tuple[bytes, None]]:
        return [(payload, None) for payload in self.encode(arrays)]

    def _decode(self, heads: Sequence[Header], streams: Sequence[bytes]) -> list[tuple[np.ndarray, None]]:
        return [(array, None) for array in self.decode(heads, streams)]

    def _engine(self, precision: Precision) -> Engine:
        if precision not in self._engines:
            self._engines[precision] = Engine(self._weights.network, precision, self._device, self.threads)
        return self._engines[precision]

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

    def encode(self, arrays: Sequence[np.ndarray]) -> list[bytes]:
        """The payload of each picture, not decoded on trial. Those that share a stack leave it to the first of them."""
        streams, rounds = self._plan([array.shape for array in arrays])
        bottoms = [EMPTY + _check([arrays[i] for i in items]) for items in streams]
        stacks = [StackIO(bottom.to_bytes(6, "little")) for bottom in bottoms]
        with running(self.threads):
            coder = ChunkCoder(self._engine(self.precision), stacks, direct=self.direct)
            for found in rounds:
                for batch in found:
                    for chunk in batch:
                        cut_tiles(chunk, arrays)
                    coder.encode(batch)
        payloads = [b""] * len(arrays)
        for items, stack in zip(streams, coder.stacks, strict=True):
            payloads[items[0]] = _stored(stack)
        return payloads

    def decode(self, heads: Sequence[Header], payloads: Sequence[bytes]) -> list[np.ndarray]:
        """Inverse of `encode`; raises as `decompress`."""
        shapes = [head.shape for head in heads]
        for items in streams_of(shapes):
            samples, size = sum(heads[i].samples for i in items), len(payloads[items[0]])
            if 8 * size < LEAST_BITS * PLANES * samples or any(payloads[i] for i in items[1:]):
                raise BitstreamError(f"{size} bytes cannot hold {len(items)} pictures of shape {heads[items[0]].shape}")
        streams, rounds = self._plan(shapes)
        code = heads[0].params[0] if heads[0].params else 0
        arrays = [np.zeros(head.shape, np.uint8) for head in heads]
        stacks = [_opened(payloads[items[0]]) for items in streams]
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
            f"the file decoded to something else than was encoded{both_environments(head.environment, self.here())}"
        )


def _stored(stack: StackIO) -> bytes:
    """A stack as a payload: its state in five bytes if they hold it, in six if not; words have two."""
    data = stack.to_bytes()
    return data if data[STATE_BYTES - 1] else data[: STATE_BYTES - 1] + data[STATE_BYTES:]


def _opened(payload: bytes) -> StackIO:
    """Inverse of `_stored`."""
    if len(payload) % 2:
        payload = payload[: STATE_BYTES - 1] + b"\0" + payload[STATE_BYTES - 1 :]
    return StackIO(payload)


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
