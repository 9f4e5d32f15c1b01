"""The coder in plain Python: slow, short, and the definition of the byte format (described in csrc/FORMAT.md).

The C++ core must produce the same bytes; the tests compare them. Nothing else uses this module.

An *event* is an interval (start, frequency) of the 2^16 slots. Static tables, indexed tables, bits and raw numbers all
become events first, so there is one coder.
"""

from __future__ import annotations

from collections.abc import Sequence

from cbench.errors import BitstreamError

LOW, START, TOTAL = 1 << 32, 1 << 16, 1 << 16
LANES = (1, 8, 32, 64)
HASH_FACTOR, HASH_PARTS = 0x9E3779B1, 32

Event = tuple[int, int]


def bit_event(bit: int, p1: int) -> Event:
    """A bit whose probability of being one is p1 / 65536; ones have the lower slots."""
    p1 = max(p1, 1)
    return (0, p1) if bit else (p1, TOTAL - p1)


def raw_events(value: int, width: int) -> list[Event]:
    """An unsigned number of `width` bits, lowest 16 first."""
    events = []
    for done in range(0, width, 16):
        bits = min(16, width - done)
        part = value >> done & ((1 << bits) - 1)
        events.append((part << (16 - bits), 1 << (16 - bits)))
    return events


def escape_events(value: int, offset: int, size: int) -> list[Event]:
    """A value outside offset .. offset+size-1, after the escape slot itself."""
    number = 2 * (offset - 1 - value) + 1 if value < offset else 2 * (value - offset - size)
    width = (number + 1).bit_length()
    low = (number + 1) & ((1 << (width - 1)) - 1)
    return raw_events(width, 6) + raw_events(low, width - 1)


def symbol_events(
    symbols: Sequence[int],
    index: Sequence[int],
    cdf: Sequence[Sequence[int]],
    size: Sequence[int],
    offset: Sequence[int],
    precision: int = 16,
    escape: bool = False,
) -> list[Event]:
    """All symbols with their tables, then the values that lay outside, in order."""
    events, outside = [], []
    for symbol, table in zip(symbols, index, strict=True):
        k = symbol - offset[table]
        if not 0 <= k < size[table]:
            if not escape:
                raise ValueError(f"symbol {symbol} lies outside table {table}")
            k = size[table]
            outside += escape_events(symbol, offset[table], size[table])
        start, end = cdf[table][k], cdf[table][k + 1]
        events.append((start << (16 - precision), (end - start) << (16 - precision)))
    return events + outside


def quantise(weights: Sequence[int], precision: int = 16) -> list[int]:
    """The table rule: integer weights -> frequencies of at least 1 that add up to 2^precision."""
    total, weight_sum = 1 << precision, sum(weights)
    frequencies = [max(1, w * total // weight_sum) for w in weights]
    rest = total - sum(frequencies)
    heaviest = max(range(len(weights)), key=lambda i: (weights[i], -i))
    if rest >= 0 or frequencies[heaviest] > -4 * rest:
        frequencies[heaviest] += rest
        return frequencies
    order = sorted(range(len(weights)), key=lambda i: -frequencies[i])
    while rest < 0:
        for i in order:
            if rest == 0 or frequencies[i] == 1:
                break
            take = min(-rest, max(1, frequencies[i] // 8))
            frequencies[i] -= take
            rest += take
    return frequencies


def row_event(symbol: int, weights: Sequence[int]) -> Event:
    """The row rule: C(i) = i + floor(W_i (2^16 - n) / S) for a table that only one symbol uses."""
    n, weight_sum = len(weights), sum(weights)
    start = symbol + sum(weights[:symbol]) * (TOTAL - n) // weight_sum
    end = symbol + 1 + sum(weights[: symbol + 1]) * (TOTAL - n) // weight_sum
    return start, end - start


def put(x: int, event: Event, words: list[int]) -> int:
    """Code one event into state x; at most one word leaves it."""
    start, frequency = event
    if x >= frequency << 32:
        words.append(x & 0xFFFF)
        x >>= 16
    return (x // frequency << 16) + x % frequency + start


def estimate_bits(events: Sequence[Event]) -> int:
    """About how many bits the events cost: from at most 1024 of them, with a logarithm in eighths."""
    n, eighths, seen = len(events), 0, 0
    for s in range(0, min(n, 1024), 16):
        first = s if n <= 1024 else s * ((n - 16) // 1024)
        for _, frequency in events[first : first + 16]:
            top = frequency.bit_length() - 1
            eighths += 128 - (8 * top + ((frequency << (16 - top) >> 13) & 7))
            seen += 1
    return eighths * n // seen // 8 if seen else 0


def event_check(events: Sequence[Event]) -> int:
    """The 16-bit check that a single-lane stream carries in its initial state."""
    check = 0
    for start, _ in events:
        check = (check * 40503 + start) & 0xFFFF
    return check


def hash_bytes(data: bytes, seed: int) -> int:
    """The 32-bit check of a many-lane stream."""
    part = [0] * HASH_PARTS
    whole = len(data) // (2 * HASH_PARTS) * 2 * HASH_PARTS
    for i in range(0, whole, 2):
        j = i // 2 % HASH_PARTS
        part[j] = (part[j] * HASH_FACTOR + data[i] + 256 * data[i + 1]) & 0xFFFFFFFF
    value = seed & 0xFFFFFFFF
    for number in (*part, *data[whole:]):
        value = (value * HASH_FACTOR + number) & 0xFFFFFFFF
    return value


def varint(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encode(events: Sequence[Event], stored_count: int | None = None) -> bytes:
    """Code events into one stream; the last event is coded first."""
    code = sum(lanes * 5 * 4096 <= estimate_bits(events) for lanes in LANES[1:])
    lanes = LANES[code]
    words: list[int] = []  # the last one is the first that the decoder reads
    position, states = len(events), [START]
    if lanes > 1:
        while position > 0 and not (position % lanes == 0 and len(words) >= 2 * (lanes - 1)):
            position -= 1
            states[0] = put(states[0], events[position], words)
        if position == 0:
            code, lanes = 0, 1
        else:
            for _ in range(1, lanes):
                high = words.pop()
                states.append(LOW | high << 16 | words.pop())
    if lanes == 1:
        words, position, states = [], len(events), [START | event_check(events)]
    groups = position // lanes
    for i in range(position - 1, -1, -1):
        states[i % lanes] = put(states[i % lanes], events[i], words)

    tail = b"".join(word.to_bytes(2, "little") for word in reversed(words))
    head = code if stored_count is None else code | 4 | stored_count << 3
    if lanes == 1:
        x = states[0]
        state = b"" if x == START and not words else x.to_bytes((x.bit_length() + 7) // 8, "little")
        return varint(head) + state + tail
    long = [x >> 40 != 0 for x in states]
    body = bytes(sum(long[i + k] << k for k in range(8)) for i in range(0, lanes, 8))
    body += b"".join((x & (1 << 40) - 1).to_bytes(5, "little") for x in states)
    body += bytes(x >> 40 for x in states if x >> 40) + tail
    check = hash_bytes(body, head * 31 + groups)
    return varint(head) + varint(groups) + check.to_bytes(4, "little") + body


class Decoder:
    """Reads a stream event by event: look at `slot`, find the event that holds it, `advance` by that event."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        head = self._varint()
        self.count = head >> 3 if head & 4 else None
        self.lanes = LANES[head & 3]
        self._position, self._check, self._single = 0, 0, self.lanes == 1
        if self._single:
            left = len(data) - self._at
            size = left if left < 5 else 5 if left % 2 else 6
            self._x = [int.from_bytes(self._take(size), "little") or START]
            self._bulk = 0
        else:
            groups = self._varint()
            self._bulk = groups * self.lanes
            check = int.from_bytes(self._take(4), "little")
            if hash_bytes(data[self._at :], head * 31 + groups) != check:
                raise BitstreamError("the coded stream is damaged or truncated (its check does not fit)")
            flags = self._take(self.lanes // 8)
            self._x = [int.from_bytes(self._take(5), "little") for _ in range(self.lanes)]
            for lane in range(self.lanes):
                if flags[lane // 8] >> lane % 8 & 1:
                    self._x[lane] |= self._take(1)[0] << 40
        rest = data[self._at :]
        self._words = [rest[i] | rest[i + 1] << 8 for i in range(len(rest) - 2, -1, -2)]

    @property
    def slot(self) -> int:
        """Which of the 2^16 slots the next event holds."""
        return self._x[self._position % self.lanes] & 0xFFFF

    def advance(self, event: Event) -> None:
        """Take the event that holds `slot`."""
        start, frequency = event
        lane = self._position % self.lanes
        x = self._x[lane]
        x = frequency * (x >> 16) + (x & 0xFFFF) - start
        if x < LOW and (self._words or self.lanes > 1):
            if not self._words:
                raise BitstreamError("the coded stream ends too early")
            x = x << 16 | self._words.pop()
        self._x[lane] = x
        self._position += 1
        self._check = (self._check * 40503 + start) & 0xFFFF
        if self.lanes > 1 and self._position == self._bulk:
            for other in reversed(self._x[1:]):
                if other >> 32 != 1:
                    raise BitstreamError("a lane does not end where it began")
                self._words += [other & 0xFFFF, other >> 16 & 0xFFFF]
            self.lanes, self._x = 1, self._x[:1]

    def finish(self) -> None:
        """Raise `BitstreamError` unless the stream ends exactly here."""
        if self.lanes > 1 or self._words or self._x[0] != START | (self._check if self._single else 0):
            raise BitstreamError("the coded stream does not end where its symbols do")

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise BitstreamError("the coded stream is truncated")
        self._at += size
        return part

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


def decode_symbols(
    decoder: Decoder,
    index: Sequence[int],
    cdf: Sequence[Sequence[int]],
    size: Sequence[int],
    offset: Sequence[int],
    precision: int = 16,
    escape: bool = False,
) -> list[int]:
    """Inverse of `symbol_events`."""
    symbols, outside = [], []
    for position, table in enumerate(index):
        row = [c << (16 - precision) for c in cdf[table][: size[table] + 1 + escape]]
        k = sum(c <= decoder.slot for c in row[1:])
        decoder.advance((row[k], row[k + 1] - row[k]))
        symbols.append(offset[table] + k)
        if k == size[table]:
            outside.append(position)
    for position in outside:
        width = decode_raw(decoder, 6)
        number = (1 << (width - 1) | decode_raw(decoder, width - 1)) - 1
        table, steps = index[position], number // 2
        symbols[position] = offset[table] - 1 - steps if number % 2 else offset[table] + size[table] + steps
    return symbols


def decode_raw(decoder: Decoder, width: int) -> int:
    """Inverse of `raw_events`."""
    value = 0
    for done in range(0, width, 16):
        bits = min(16, width - done)
        part = decoder.slot >> (16 - bits)
        decoder.advance((part << (16 - bits), 1 << (16 - bits)))
        value |= part << done
    return value
