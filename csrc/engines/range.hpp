// A first-in-first-out range coder with intervals on the scale 2^32: for models that adapt after every symbol.
//
// The encoder keeps [low, low + range) as 64-bit numbers and writes the top byte while range < 2^56. A carry goes into
// bytes already written, so whoever takes bytes away leaves one below 0xff and all behind it. The loss is at most
// 2^-24 of a bit a symbol. Internal linkage: included by files for different instruction sets.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__GNUC__)
#define CBENCH_LOCAL inline __attribute__((unused))
#else
#define CBENCH_LOCAL inline
#endif

namespace cbench {

struct RangeState {
    uint64_t low = 0;               // encoder: the lower end; decoder: the coded number less the lower end
    uint64_t range = ~uint64_t{0};
    uint8_t* out = nullptr;         // encoder: where the next byte goes
    const uint8_t* in = nullptr;
    const uint8_t* end = nullptr;
    uint64_t beyond = 0;            // decoder: zeros read behind the end
    bool damaged = false;           // decoder: no encoder wrote this
};

namespace {

constexpr uint64_t kTotal = uint64_t{1} << 32;
constexpr int kLookAhead = 8;       // bytes that a decoder has read and not used up
constexpr int kSymbolBytes = 5;     // no symbol takes more

CBENCH_LOCAL void range_carry(RangeState& s) {
    uint8_t* byte = s.out;
    while (++*--byte == 0) {
    }
}

CBENCH_LOCAL void range_encode(RangeState& s, uint64_t start, uint64_t frequency) {
    const uint64_t unit = s.range >> 32, low = s.low + unit * start;
    if (low < s.low) range_carry(s);
    s.low = low;
    s.range = unit * frequency;
    while (s.range < uint64_t{1} << 56) {
        *s.out++ = static_cast<uint8_t>(s.low >> 56);
        s.low <<= 8;
        s.range <<= 8;
    }
}

// The last byte: with zeros understood behind it, a number inside the interval.
CBENCH_LOCAL void range_flush(RangeState& s) {
    const uint64_t low = s.low + ((uint64_t{1} << 56) - 1);
    if (low < s.low) range_carry(s);
    *s.out++ = static_cast<uint8_t>(low >> 56);
}

CBENCH_LOCAL void range_shift(RangeState& s) {
    uint8_t byte = 0;
    if (s.in < s.end) byte = *s.in++;
    else ++s.beyond;
    s.low = s.low << 8 | byte;
}

CBENCH_LOCAL void range_open(RangeState& s) {
    for (int i = 0; i < kLookAhead; ++i) range_shift(s);
}

// Where in [0, 2^32) the coded number lies.
CBENCH_LOCAL uint64_t range_target(RangeState& s) {
    const uint64_t target = s.low / (s.range >> 32);
    if (target < kTotal) return target;
    s.damaged = true;
    return kTotal - 1;
}

CBENCH_LOCAL void range_take(RangeState& s, uint64_t start, uint64_t frequency) {
    const uint64_t unit = s.range >> 32;
    s.low -= unit * start;
    s.range = unit * frequency;
    while (s.range < uint64_t{1} << 56) {
        range_shift(s);
        s.range <<= 8;
    }
}

// Whether exactly the bytes of the encoder were used: its last byte was the first of the eight still unused.
CBENCH_LOCAL bool range_ended(const RangeState& s) {
    return !s.damaged && s.in == s.end && s.beyond == kLookAhead - 1;
}

}  // namespace
}  // namespace cbench
