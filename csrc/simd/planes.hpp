// Decoding for instruction sets without wide gathers and expansions, for a type `V` of a vector of 16-bit numbers:
//   V::kLanes, V::T; load, store; set, add, sub, mul_low, mul_high, bit_and, bit_or, and_not, equal; any
//   less(a, b)            a - b, or 0 where b is larger
//   least(a, b)           the smaller one;  average(a, b): (a + b + 1) / 2
//   carry(sum, part)      1 where a sum modulo 2^16 came out below a summand, else 0
//   select(mask, a, b)    a where the mask is 0xffff, b where it is 0
//   half(a)               a / 2, rounded down, of signed numbers
//   shift(by); right(a, shift)
//   fetch(table, at, words)   words 0..3 of the entries table[at[l]] -> four vectors
//   expand(low, y, word)      the next words where `low` is 0xffff, y elsewhere
//   widen(a, to)          signed numbers -> 32 bits;  narrow(a, to): numbers below 256 -> bytes
//
// 48-bit states are kept as three planes of 16-bit numbers: four times as many lanes a vector as with 64-bit numbers.
#pragma once
#include "eight.hpp"

namespace cbench {
namespace {   // no external linkage, see kernels.hpp

template <class V>
struct Planes {
    typename V::T a, b, c;   // bits 0..15 (the slot), 16..31 and 32..47
};

template <class V, int R>
inline void load_planes(Planes<V>* x, const uint64_t* state) {
    alignas(64) uint16_t part[3][V::kLanes * R];
    for (int l = 0; l < V::kLanes * R; ++l)
        for (int p = 0; p < 3; ++p) part[p][l] = static_cast<uint16_t>(state[l] >> (16 * p));
    for (int r = 0; r < R; ++r)
        x[r] = {V::load(part[0] + r * V::kLanes), V::load(part[1] + r * V::kLanes), V::load(part[2] + r * V::kLanes)};
}

template <class V, int R>
inline void store_planes(uint64_t* state, const Planes<V>* x) {
    alignas(64) uint16_t part[3][V::kLanes * R];
    for (int r = 0; r < R; ++r) {
        V::store(part[0] + r * V::kLanes, x[r].a);
        V::store(part[1] + r * V::kLanes, x[r].b);
        V::store(part[2] + r * V::kLanes, x[r].c);
    }
    for (int l = 0; l < V::kLanes * R; ++l)
        state[l] = part[0][l] | static_cast<uint64_t>(part[1][l]) << 16 | static_cast<uint64_t>(part[2][l]) << 32;
}

// x = f * (x >> 16) + rest, then takes one word into every lane below 2^32. f is the frequency modulo 2^16: a symbol
// that fills its table (f = 2^16, here 0, with rest = slot) leaves x as it is.
template <class V, bool kMayFill>
inline void advance(Planes<V>& x, typename V::T f, typename V::T rest, const uint16_t*& word) {
    using T = typename V::T;
    const T zero = V::set(0), low_c = V::mul_low(f, x.c), y0 = V::add(V::mul_low(f, x.b), rest);
    // the high half of a product is at most 2^16 - 2, so a carry fits
    T y1 = V::add(V::add(V::mul_high(f, x.b), V::carry(y0, rest)), low_c);
    T y2 = V::add(V::mul_high(f, x.c), V::carry(y1, low_c));
    if (kMayFill) {
        const T fills = V::equal(f, zero);   // there y1 and y2 are 0
        y1 = V::bit_or(y1, V::bit_and(fills, x.b));
        y2 = V::bit_or(y2, V::bit_and(fills, x.c));
    }
    const T low = V::equal(y2, zero);
    x.c = V::bit_or(y2, V::bit_and(low, y1));
    x.b = V::select(low, y0, y1);
    x.a = V::expand(low, y0, word);
}

// Looks the slots of a vector up in buckets of one candidate. Gives frequencies modulo 2^16; values go to `out`.
template <class V, bool kIndexed>
inline void find(const TableView& t, const int32_t* index, typename V::T slot, typename V::T& rest,
                 typename V::T& frequency, int32_t* out) {
    alignas(64) uint16_t s[V::kLanes], d[V::kLanes], f[V::kLanes];
    V::store(s, slot);
    const int shift = 16 - t.bucket_bits;
    for (int l = 0; l < V::kLanes; ++l) {
        const size_t table = kIndexed ? static_cast<size_t>(index[l]) << t.bucket_bits : 0;
        const uint64_t e = t.bucket[table + (s[l] >> shift)];
        d[l] = static_cast<uint16_t>(s[l] - e);
        auto less = static_cast<uint16_t>(e >> 16);
        out[l] = static_cast<int32_t>(e >> 32);
        if (d[l] > less) step_on(t, kIndexed ? index[l] : 0, s[l], d[l], less, out[l]);
        f[l] = static_cast<uint16_t>(less + 1);
    }
    rest = V::load(d);
    frequency = V::load(f);
}

// The few lanes whose symbol is neither candidate: back to the first one, and step on.
template <class V>
__attribute__((noinline)) void step_on_lanes(const TableView& t, const int32_t* index, typename V::T wrong, typename V::T slot,
                                             typename V::T first, typename V::T& rest, typename V::T& less, int32_t* out) {
    alignas(64) uint16_t w[V::kLanes], s[V::kLanes], d[V::kLanes], f[V::kLanes];
    alignas(64) int16_t v[V::kLanes];
    V::store(w, wrong);
    V::store(s, slot);
    V::store(v, first);
    V::store(d, rest);
    V::store(f, less);
    for (int l = 0; l < V::kLanes; ++l)
        if (w[l]) {
            out[l] = v[l];
            step_on(t, index ? index[l] : 0, s[l], d[l], f[l], out[l]);
        }
    rest = V::load(d);
    less = V::load(f);
}

// Lanes are to be read from memory, which is quicker than out of a vector register.
template <class Numbers>
inline void keep_in_memory([[maybe_unused]] Numbers& numbers) {
#if defined(__GNUC__)
    asm("" : "+m"(numbers));
#endif
}

// How symbols are looked up: TableView::bucket, near or ends.
enum class Lookup { kBucket, kNear, kEnds };

// Entries of two candidates, and what to do with a slot to find its own.
template <class V, Lookup kLookup>
struct Entries {
    const uint64_t* entry;
    int bits;
    typename V::Shift shift;
    explicit Entries(const TableView& t)
        : entry(kLookup == Lookup::kEnds ? t.ends : t.near),
          bits(t.bucket_bits),
          shift(V::shift(kLookup == Lookup::kEnds ? kEndCells.shift : 16 - t.bucket_bits)) {}
    typename V::T at(typename V::T slot) const {
        const typename V::T wide = V::right(slot, shift);
        if (kLookup != Lookup::kEnds) return wide;
        constexpr int kEnds = kEndCells.ends;
        return V::add(wide, V::average(V::least(slot, V::set(kEnds)), V::less(slot, V::set(65536 - kEnds))));
    }
};

// The same as find() with such entries.
template <class V, Lookup kLookup, bool kIndexed>
inline void find_near(const TableView& t, const Entries<V, kLookup>& entries, const int32_t* index, typename V::T slot,
                      typename V::T& rest, typename V::T& frequency, int32_t* out) {
    using T = typename V::T;
    alignas(64) uint16_t part[V::kLanes];
    T word[4];   // start, frequency - 1, that of the next symbol, 2 * value + stop
    V::store(part, entries.at(slot));
    if (kIndexed) {
        alignas(64) uint32_t place[V::kLanes];
        for (int l = 0; l < V::kLanes; ++l) place[l] = (static_cast<uint32_t>(index[l]) << entries.bits) + part[l];
        keep_in_memory(place);
        V::fetch(entries.entry, place, word);
    } else {
        keep_in_memory(part);
        V::fetch(entries.entry, part, word);
    }
    const T one = V::set(1), from = V::sub(slot, word[0]);
    const T behind = V::less(from, word[1]);   // 1 + the rest within the next symbol, or 0
    const T first = V::equal(behind, V::set(0)), step = V::add(first, one);
    rest = V::least(from, V::sub(behind, one));
    T less = V::select(first, word[1], word[2]);
    const T candidate = V::half(word[3]);
    V::widen(V::add(candidate, step), out);
    const T wrong = V::bit_or(V::less(rest, less), V::bit_and(step, word[3]));
    if (__builtin_expect(V::any(wrong), 0)) {
        T d = rest, f = less;   // so that the others stay in registers
        step_on_lanes<V>(t, index, wrong, slot, candidate, d, f, out);
        rest = d;
        less = f;
    }
    frequency = V::add(less, one);
}

template <class V, int N, bool kIndexed, Lookup kLookup>
size_t decode_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    constexpr int R = N / V::kLanes;
    Planes<V> x[R];
    load_planes<V, R>(x, job.x);
    const uint16_t *word = job.word, *const limit = job.limit;
    const Entries<V, kLookup> entries(t);
    size_t g = 0;
    for (; g < groups && word <= limit; ++g) {
        typename V::T rest[R], frequency[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r, out += V::kLanes) {
            if constexpr (kLookup == Lookup::kBucket) find<V, kIndexed>(t, index, x[r].a, rest[r], frequency[r], out);
            else find_near<V, kLookup, kIndexed>(t, entries, index, x[r].a, rest[r], frequency[r], out);
            if (kIndexed) index += V::kLanes;
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) advance<V, kLookup != Lookup::kEnds>(x[r], frequency[r], rest[r], word);
    }
    store_planes<V, R>(job.x, x);
    job.word = word;
    return g;
}

template <class V, bool kIndexed, Lookup kLookup>
size_t decode_vectors(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return job.lanes == 32 ? decode_lanes<V, 32, kIndexed, kLookup>(job, t, index, out, groups)
                           : decode_lanes<V, 64, kIndexed, kLookup>(job, t, index, out, groups);
}

template <class V>
size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups) {
    if (job.lanes == 8) return decode_eight<false>(job, t, nullptr, out, groups);
    if (t.ends) return decode_vectors<V, false, Lookup::kEnds>(job, t, nullptr, out, groups);
    return t.near ? decode_vectors<V, false, Lookup::kNear>(job, t, nullptr, out, groups)
                  : decode_vectors<V, false, Lookup::kBucket>(job, t, nullptr, out, groups);
}

template <class V>
size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    if (job.lanes == 8) return decode_eight<true>(job, t, index, out, groups);
    return t.near ? decode_vectors<V, true, Lookup::kNear>(job, t, index, out, groups)
                  : decode_vectors<V, true, Lookup::kBucket>(job, t, index, out, groups);
}

template <class V, int N>
size_t decode_bit_lanes(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    using T = typename V::T;
    constexpr int R = N / V::kLanes;
    Planes<V> x[R];
    load_planes<V, R>(x, job.x);
    const uint16_t *word = job.word, *const limit = job.limit;
    size_t g = 0;
    for (; g < groups && word <= limit; ++g) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r, p1 += V::kLanes, out += V::kLanes) {
            const T p = V::load(p1), zero = V::set(0), is_zero = V::equal(V::less(p, x[r].a), zero);
            const T f = V::select(is_zero, V::sub(zero, p), p);   // 65536 - p, or p
            const T rest = V::sub(x[r].a, V::bit_and(is_zero, p));
            V::narrow(V::add(is_zero, V::set(1)), out);
            advance<V, false>(x[r], f, rest, word);
        }
    }
    store_planes<V, R>(job.x, x);
    job.word = word;
    return g;
}

template <class V>
size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    return job.lanes == 64   ? decode_bit_lanes<V, 64>(job, p1, out, groups)
           : job.lanes == 32 ? decode_bit_lanes<V, 32>(job, p1, out, groups)
                             : decode_eight_bits(job, p1, out, groups);
}

}  // namespace
}  // namespace cbench
