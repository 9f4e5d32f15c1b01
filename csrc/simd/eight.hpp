// Decoding of streams of eight lanes, one lane after another: so few lanes fill no vector, and what limits them is how long
// one step takes. Every kernel file compiles these loops for its own instruction set.
#pragma once
#include "kernels.hpp"

namespace cbench {
namespace {   // no external linkage, see kernels.hpp

// A lane whose symbol is not among a bucket's candidates: from `out`, steps on one symbol at a time.
inline void step_on(const TableView& t, int32_t table, uint32_t slot, uint16_t& rest, uint16_t& less, int32_t& out) {
    int32_t k = out - t.offset[table];
    const Op* row = t.entry + t.first[table];
    while (slot - op_start(row[k]) > (row[k] >> 16)) ++k;
    rest = static_cast<uint16_t>(slot - op_start(row[k]));
    less = static_cast<uint16_t>(row[k] >> 16);
    out = k < t.size[table] ? t.offset[table] + k : kEscaped;
}

// x = f * (x >> 16) + rest, then takes a word if that is below 2^32: without a branch, which nobody could predict.
inline uint64_t advance_lane(uint64_t x, uint64_t f, uint64_t rest, const uint16_t*& word) {
    x = f * (x >> 16) + rest;
    const uint64_t low = x < kLow, filled = x << 16 | *word;
    word += low;
    return x ^ ((x ^ filled) & (0 - low));
}

template <bool kIndexed, bool kNear>
size_t decode_eight_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    uint64_t x[8];
    for (int l = 0; l < 8; ++l) x[l] = job.x[l];
    const int shift = 16 - t.bucket_bits;
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g, out += 8) {
#pragma GCC unroll 8
        for (int l = 0; l < 8; ++l) {
            const auto slot = static_cast<uint16_t>(x[l]);
            const int32_t table = kIndexed ? index[8 * g + static_cast<size_t>(l)] : 0;
            const size_t b = (static_cast<size_t>(table) << t.bucket_bits) + (slot >> shift);
            const uint64_t e = kNear ? t.near[b] : t.bucket[b];
            auto rest = static_cast<uint16_t>(slot - e), less = static_cast<uint16_t>(e >> 16);
            bool wrong;
            if (kNear) {
                const bool behind = rest > less;
                const auto beyond = static_cast<uint16_t>(rest - less - 1), next = static_cast<uint16_t>(e >> 32);
                rest = behind ? beyond : rest;
                less = behind ? next : less;
                out[l] = (static_cast<int16_t>(e >> 48) >> 1) + behind;
                wrong = (rest > less) | (behind & (e >> 48));
            } else {
                out[l] = static_cast<int32_t>(e >> 32);
                wrong = rest > less;
            }
            if (__builtin_expect(wrong, 0)) {
                if (kNear) out[l] = static_cast<int16_t>(e >> 48) >> 1;   // the first candidate
                step_on(t, table, slot, rest, less, out[l]);
            }
            x[l] = advance_lane(x[l], uint64_t{less} + 1, rest, word);
        }
    }
    for (int l = 0; l < 8; ++l) job.x[l] = x[l];
    job.word = word;
    return g;
}

template <bool kIndexed>
size_t decode_eight(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return t.near ? decode_eight_lanes<kIndexed, true>(job, t, index, out, groups)
                  : decode_eight_lanes<kIndexed, false>(job, t, index, out, groups);
}

inline size_t decode_eight_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    uint64_t x[8];
    for (int l = 0; l < 8; ++l) x[l] = job.x[l];
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g, p1 += 8, out += 8) {
#pragma GCC unroll 8
        for (int l = 0; l < 8; ++l) {
            const uint64_t p = p1[l], slot = x[l] & 0xffff, one = slot < p, mask = 0 - one;
            out[l] = static_cast<uint8_t>(one);
            x[l] = advance_lane(x[l], (p & mask) | ((65536 - p) & ~mask), slot - (p & ~mask), word);
        }
    }
    for (int l = 0; l < 8; ++l) job.x[l] = x[l];
    job.word = word;
    return g;
}

}  // namespace
}  // namespace cbench
