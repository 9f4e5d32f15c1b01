// Decoding for instruction sets without wide gathers and expansions: plain loops over lanes that compilers turn into
// vector code, with the two steps they cannot see as vectors left to a type `Steps`:
//   split(e, n, ...)    words 0..3 of n bucket entries -> four arrays
//   expand(low, y, n, word, a)   a[l] = low[l] ? the next word : y[l], for n lanes
//
// 48-bit states are kept as three planes of 16-bit numbers: four times as many lanes a vector as with 64-bit numbers.
#pragma once
#include "eight.hpp"
#include "passes.hpp"

namespace cbench {
namespace {   // no external linkage, see kernels.hpp

template <int N>
struct Planes {
    alignas(64) uint16_t a[N], b[N], c[N];   // bits 0..15 (the slot), 16..31 and 32..47

    explicit Planes(const uint64_t* x) {
        for (int l = 0; l < N; ++l) {
            a[l] = static_cast<uint16_t>(x[l]);
            b[l] = static_cast<uint16_t>(x[l] >> 16);
            c[l] = static_cast<uint16_t>(x[l] >> 32);
        }
    }
    void store(uint64_t* x) const {
        for (int l = 0; l < N; ++l)
            x[l] = a[l] | static_cast<uint64_t>(b[l]) << 16 | static_cast<uint64_t>(c[l]) << 32;
    }
};

// x = f * (x >> 16) + rest, then takes one word into every lane below 2^32. f is the frequency modulo 2^16: a symbol
// that fills its table (f = 2^16, here 0, with rest = slot) leaves x as it is.
template <class Steps, int N>
inline void advance(Planes<N>& x, const uint16_t* f, const uint16_t* rest, const uint16_t*& word) {
    alignas(64) uint16_t y[N], low[N];
    for (int l = 0; l < N; ++l) {
        const uint16_t b = x.b[l], c = x.c[l];
        const uint32_t g = f[l];
        const auto low_b = static_cast<uint16_t>(g * b), low_c = static_cast<uint16_t>(g * c);
        const auto high_b = static_cast<uint16_t>(g * b >> 16), high_c = static_cast<uint16_t>(g * c >> 16);
        const auto y0 = static_cast<uint16_t>(low_b + rest[l]);
        const auto carry0 = static_cast<uint16_t>(y0 < low_b);
        const auto s = static_cast<uint16_t>(high_b + carry0);   // high halves are at most 2^16 - 2
        auto y1 = static_cast<uint16_t>(s + low_c);
        const auto carry1 = static_cast<uint16_t>(y1 < low_c);
        auto y2 = static_cast<uint16_t>(high_c + carry1);
        y1 = g ? y1 : b;
        y2 = g ? y2 : c;
        y[l] = y0;
        low[l] = static_cast<uint16_t>(y2 == 0 ? 0xffff : 0);
        x.c[l] = y2 ? y2 : y1;
        x.b[l] = y2 ? y1 : y0;
    }
    Steps::expand(low, y, N, word, x.a);
}

struct PlainSteps {
    static inline void split(const uint64_t* e, int n, uint16_t* start, uint16_t* here, uint16_t* next, uint16_t* value) {
        for (int l = 0; l < n; ++l) {
            start[l] = static_cast<uint16_t>(e[l]);
            here[l] = static_cast<uint16_t>(e[l] >> 16);
            next[l] = static_cast<uint16_t>(e[l] >> 32);
            value[l] = static_cast<uint16_t>(e[l] >> 48);
        }
    }
    static inline void expand(const uint16_t* low, const uint16_t* y, int n, const uint16_t*& word, uint16_t* a) {
        for (int l = 0; l < n; ++l) {   // without a branch, which nobody could predict
            a[l] = static_cast<uint16_t>(y[l] ^ ((y[l] ^ *word) & low[l]));
            word += low[l] & 1;
        }
    }
};

// Looks N slots up in buckets of one candidate.
template <int N, bool kIndexed>
inline void find(const TableView& t, const int32_t* index, const uint16_t* slot, uint16_t* rest, uint16_t* less,
                 int32_t* out) {
    const int shift = 16 - t.bucket_bits;
    for (int l = 0; l < N; ++l) {
        const size_t table = kIndexed ? static_cast<size_t>(index[l]) << t.bucket_bits : 0;
        const uint64_t e = t.bucket[table + (slot[l] >> shift)];
        rest[l] = static_cast<uint16_t>(slot[l] - e);
        less[l] = static_cast<uint16_t>(e >> 16);
        out[l] = static_cast<int32_t>(e >> 32);
        if (rest[l] > less[l]) step_on(t, kIndexed ? index[l] : 0, slot[l], rest[l], less[l], out[l]);
    }
}

// The same in buckets of two candidates.
template <class Steps, int N, bool kIndexed>
inline void find_near(const TableView& t, const int32_t* index, const uint16_t* slot, uint16_t* rest, uint16_t* less,
                      int32_t* out) {
    const int shift = 16 - t.bucket_bits;
    alignas(64) uint64_t e[N];
    alignas(64) uint16_t start[N], here[N], next[N], value[N], wrong[N];
    for (int l = 0; l < N; ++l) {
        const size_t table = kIndexed ? static_cast<size_t>(index[l]) << t.bucket_bits : 0;
        e[l] = load_alone(t.near + table + (slot[l] >> shift));
    }
    Steps::split(e, N, start, here, next, value);
    for (int l = 0; l < N; ++l) {
        const auto from = static_cast<uint16_t>(slot[l] - start[l]);
        const auto beyond = static_cast<uint16_t>(from - here[l] - 1);   // the rest within the next symbol
        const auto behind = static_cast<uint16_t>(from > here[l] ? 0xffff : 0);
        const auto r = static_cast<uint16_t>((from & ~behind) | (beyond & behind));
        const auto f = static_cast<uint16_t>((here[l] & ~behind) | (next[l] & behind));
        const auto stop = static_cast<uint16_t>(value[l] & behind & 1);
        wrong[l] = static_cast<uint16_t>((r > f ? 1 : 0) | stop);
        value[l] = static_cast<uint16_t>((static_cast<int16_t>(value[l]) >> 1) - static_cast<int16_t>(behind));
        rest[l] = r;
        less[l] = f;
    }
    uint16_t any = 0;
    for (int l = 0; l < N; ++l) any |= wrong[l];
    for (int l = 0; l < N; ++l) out[l] = static_cast<int16_t>(value[l]);
    if (__builtin_expect(any, 0))
        for (int l = 0; l < N; ++l)
            if (wrong[l]) {
                out[l] = static_cast<int16_t>(e[l] >> 48) >> 1;   // back to the first candidate
                step_on(t, kIndexed ? index[l] : 0, slot[l], rest[l], less[l], out[l]);
            }
}

template <class Steps, int N, bool kIndexed, bool kNear>
size_t decode_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    Planes<N> x(job.x);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        alignas(64) uint16_t rest[N], less[N];
        const int32_t* tables = kIndexed ? index + g * N : nullptr;
        if (kNear) find_near<Steps, N, kIndexed>(t, tables, x.a, rest, less, out + g * N);
        else find<N, kIndexed>(t, tables, x.a, rest, less, out + g * N);
        for (int l = 0; l < N; ++l) ++less[l];
        advance<Steps>(x, less, rest, word);
    }
    x.store(job.x);
    job.word = word;
    return g;
}

template <class Steps, bool kIndexed>
size_t decode_any(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    if (job.lanes == 8) return decode_eight<kIndexed>(job, t, index, out, groups);
    if (job.lanes == 32)
        return t.near ? decode_lanes<Steps, 32, kIndexed, true>(job, t, index, out, groups)
                      : decode_lanes<Steps, 32, kIndexed, false>(job, t, index, out, groups);
    return t.near ? decode_lanes<Steps, 64, kIndexed, true>(job, t, index, out, groups)
                  : decode_lanes<Steps, 64, kIndexed, false>(job, t, index, out, groups);
}

template <class Steps>
size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups) {
    return decode_any<Steps, false>(job, t, nullptr, out, groups);
}

template <class Steps>
size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return decode_any<Steps, true>(job, t, index, out, groups);
}

template <class Steps, int N>
size_t decode_bit_lanes(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    Planes<N> x(job.x);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g, p1 += N, out += N) {
        alignas(64) uint16_t f[N], rest[N];
        for (int l = 0; l < N; ++l) {
            const uint16_t p = p1[l], slot = x.a[l];
            const bool one = slot < p;
            f[l] = one ? p : static_cast<uint16_t>(-p);   // 65536 - p
            rest[l] = one ? slot : static_cast<uint16_t>(slot - p);
            out[l] = one;
        }
        advance<Steps>(x, f, rest, word);
    }
    x.store(job.x);
    job.word = word;
    return g;
}

template <class Steps>
size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    return job.lanes == 64   ? decode_bit_lanes<Steps, 64>(job, p1, out, groups)
           : job.lanes == 32 ? decode_bit_lanes<Steps, 32>(job, p1, out, groups)
                             : decode_eight_bits(job, p1, out, groups);
}

}  // namespace
}  // namespace cbench
