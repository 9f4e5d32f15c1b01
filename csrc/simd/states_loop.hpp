// The loop that every instruction set compiles with its own `find`: how many starts of a row lie at or below a slot, less
// one. `find` must be a type with a static inline member `symbol(start, symbols, slot)`.
#pragma once
#include "states.hpp"

namespace cbench {
namespace {

// Finds the block first, then the symbol in it; Count::count tells how many of 32 numbers are at most the slot.
template <class Count>
struct BlockSearch {
    static inline int symbol(const uint16_t* start, int symbols, uint32_t slot) {
        int block = 0;
        if (symbols > kRowBlock * kRowBlock) {
            for (int left = (symbols + kRowBlock - 1) / kRowBlock; left > 1;) {
                const int half = left / 2;
                block += start[kRowBlock * (block + half)] <= slot ? half : 0;
                left -= half;
            }
        } else if (symbols > kRowBlock) {
            const int last = (symbols - 1) / kRowBlock;
            block = Count::count(start - kRowBlock, slot) - 1;
            block = block < last ? block : last;   // the padding equals slot 65535
        }
        const int k = kRowBlock * block + Count::count(start + kRowBlock * block, slot) - 1;
        return k < symbols ? k : symbols - 1;
    }
};

template <class Find, int N>
size_t decode_rows_lanes(DecodeJob& job, const RowView& t, const int32_t* row, int32_t* out, size_t groups) {
    uint64_t x[N];
    for (int l = 0; l < N; ++l) x[l] = job.x[l];
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        const size_t i = g * N;
        const uint16_t* start[N];
        for (int l = 0; l < N; ++l) {   // tables may lie in main memory: ask for all rows of the group first
            start[l] = t.start + static_cast<size_t>(row[i + static_cast<size_t>(l)]) * static_cast<size_t>(t.stride);
            __builtin_prefetch(start[l] - kRowBlock);
            for (int at = 0; at < t.symbols && at < 512; at += 32) __builtin_prefetch(start[l] + at);
        }
        for (int l = 0; l < N; ++l) {
            const auto slot = static_cast<uint32_t>(x[l] & 0xffff);
            const int k = Find::symbol(start[l], t.symbols, slot);
            const uint32_t from = start[l][k], to = k + 1 < t.symbols ? start[l][k + 1] : 65536;
            out[i + static_cast<size_t>(l)] = k;
            x[l] = (to - from) * (x[l] >> 16) + slot - from;
            const uint64_t low = x[l] < kLow;
            x[l] = x[l] << (low << 4) | (*word & (0 - low));
            word += low;
        }
    }
    for (int l = 0; l < N; ++l) job.x[l] = x[l];
    job.word = word;
    return g;
}

template <class Find>
size_t decode_rows_any(DecodeJob& job, const RowView& t, const int32_t* row, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_rows_lanes<Find, 64>(job, t, row, out, groups)
           : job.lanes == 32 ? decode_rows_lanes<Find, 32>(job, t, row, out, groups)
                             : decode_rows_lanes<Find, 8>(job, t, row, out, groups);
}

}  // namespace
}  // namespace cbench
