"""A reader of the stream format of the original ArIB-BPS code, in plain Python, for tests."""

import numpy as np

SCALE = 256
WORD = (1 << 64) - 1


def spread(rare):
    """Decoding table of the binary coder for a rarer symbol of probability rare / 256: (symbol, base, bits) a state."""
    common = SCALE - rare
    rare_step, common_step = np.float32(1) / np.float32(rare), np.float32(1) / np.float32(common)
    next_rare, next_common = rare_step, common_step
    symbols = []
    for _ in range(SCALE):
        if next_common <= next_rare:
            symbols.append(0)
            next_common = np.float32(next_common + common_step)
        else:
            symbols.append(1)
            next_rare = np.float32(next_rare + rare_step)
    counts, table = [common, rare], []
    for symbol in symbols:
        x = counts[symbol]
        counts[symbol] += 1
        bits = 8 - (x.bit_length() - 1)
        table.append((symbol, (x << bits) - SCALE, bits))
    return table


TABLES = [spread(rare) for rare in range(1, 129)]


class Stream:
    """The stack of bits, read from its end; knows the coder's state for planes and the head for latents."""

    def __init__(self, words, flags):
        """`flags`: isPop, isNotAligned, isLargerThan64."""
        self.words = [int(word) for word in words]
        self.popped = bool(flags[0])
        self.tip = self.words.pop()
        if flags[2]:
            self.tip |= self.words.pop() << 64
        self.state = self.words.pop()
        self.bits, self.count = 0, 0
        if flags[1]:
            last = self.words.pop()
            self.count = last.bit_length() - 1
            self.bits = last ^ (1 << self.count)

    def get(self, count):
        """The newest bits."""
        if self.count < count:
            self.bits |= self.words.pop() << self.count
            self.count += 64
        value = self.bits & ((1 << count) - 1)
        self.bits >>= count
        self.count -= count
        return value

    def bit(self, k):
        """One bit of a plane whose probability of a one is k / 256."""
        symbol, base, bits = TABLES[(k if k <= 128 else SCALE - k) - 1][self.state]
        self.state = base + self.get(bits)
        return symbol ^ (k >= 128)

    def push_back(self, start, frequency):
        """Return the bits of a latent to the head."""
        if self.tip >= frequency << 111:
            self.words.append(self.tip & WORD)
            self.tip >>= 64
        self.tip = ((self.tip // frequency) << 16) + self.tip % frequency + start

    def leave_latents(self):
        """The head becomes two words of the stack again."""
        if self.popped:
            self.tip = self.tip << 64 | self.words.pop()
        self.words += [self.tip >> 64, self.tip & WORD]


def decode_planes(stream, codes):
    """Planes (n, 3, H, W) from the codes k (n, 4, 3, h, w) of their probabilities."""
    planes, _, colours, height, width = codes.shape
    out = np.zeros((planes, colours, 2 * height, 2 * width), np.uint8)
    for plane in range(planes):
        for step, (row, column) in enumerate(((0, 0), (1, 1), (0, 1), (1, 0))):
            for colour in range(colours):
                bits = [stream.bit(int(k)) for k in codes[plane, step, colour].ravel()]
                out[plane, colour, row::2, column::2] = np.reshape(bits, (height, width))
    return out
