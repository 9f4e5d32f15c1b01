// AVX-512 kernels, decoding.
#include "avx512.hpp"
#include "eight.hpp"

namespace cbench {
namespace avx512 {
namespace {

// 48-bit states are kept as three planes of 16-bit numbers, 32 lanes a register: four times as many lanes an
// instruction as with 64-bit numbers, slots need no masking, and one expansion refills 32 lanes.
struct Planes {
    __m512i a, b, c;   // bits 0..15 (the slot), 16..31 and 32..47
};

inline __m512i plane(const uint64_t* x, int n) {   // 16-bit number n of 32 states
    alignas(64) static constexpr uint16_t kPick[32] = {0,  4,  8,  12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60};
    const __m512i pick = _mm512_add_epi16(_mm512_load_si512(kPick), _mm512_set1_epi16(static_cast<short>(n)));
    const __m512i low = _mm512_permutex2var_epi16(_mm512_loadu_si512(x), pick, _mm512_loadu_si512(x + 8));
    const __m512i high = _mm512_permutex2var_epi16(_mm512_loadu_si512(x + 16), pick, _mm512_loadu_si512(x + 24));
    return _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
}

inline Planes load_planes(const uint64_t* x) { return {plane(x, 0), plane(x, 1), plane(x, 2)}; }

inline void store_planes(uint64_t* x, const Planes& p) {
    alignas(64) uint16_t a[32], b[32], c[32];
    _mm512_store_si512(a, p.a);
    _mm512_store_si512(b, p.b);
    _mm512_store_si512(c, p.c);
    for (int l = 0; l < 32; ++l) x[l] = a[l] | static_cast<uint64_t>(b[l]) << 16 | static_cast<uint64_t>(c[l]) << 32;
}

// x = f * (x >> 16) + rest, then takes one word into every lane below 2^32. f is the frequency modulo 2^16: a symbol
// that fills its table (f = 2^16, here 0, with rest = slot) leaves x as it is.
template <bool kMayFill>
inline void advance(Planes& x, __m512i f, __m512i rest, const uint16_t*& word) {
    const __m512i one = _mm512_set1_epi16(1);
    // 1 where a sum modulo 2^16 came out below a summand: quicker than through a mask register
    const auto carry = [&](__m512i sum, __m512i part) { return _mm512_min_epu16(_mm512_subs_epu16(part, sum), one); };
    const __m512i low_c = _mm512_mullo_epi16(f, x.c);
    const __m512i y0 = _mm512_add_epi16(_mm512_mullo_epi16(f, x.b), rest);
    // the high half of a product is at most 2^16 - 2, so a carry fits
    __m512i y1 = _mm512_add_epi16(_mm512_add_epi16(_mm512_mulhi_epu16(f, x.b), carry(y0, rest)), low_c);
    __m512i y2 = _mm512_add_epi16(_mm512_mulhi_epu16(f, x.c), carry(y1, low_c));
    if (kMayFill) {
        const __mmask32 fills = _mm512_testn_epi16_mask(f, f);
        y1 = _mm512_mask_mov_epi16(y1, fills, x.b);
        y2 = _mm512_mask_mov_epi16(y2, fills, x.c);
    }
    const __mmask32 low = _mm512_testn_epi16_mask(y2, y2);
    x.c = _mm512_mask_mov_epi16(y2, low, y1);
    x.b = _mm512_mask_mov_epi16(y1, low, y0);
    x.a = _mm512_mask_expand_epi16(y0, low, _mm512_loadu_si512(word));
    word += _mm_popcnt_u32(low);
}

// The few lanes whose symbol is not among the candidates: from `out`, step on.
__attribute__((noinline)) void step_on_32(const TableView& t, const int32_t* index, uint32_t lanes, __m512i slot,
                                          __m512i& rest, __m512i& less, int32_t* out) {
    alignas(64) uint16_t s[32], d[32], f[32];
    _mm512_store_si512(s, slot);
    _mm512_store_si512(d, rest);
    _mm512_store_si512(f, less);
    for (; lanes; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        step_on(t, index ? index[l] : 0, s[l], d[l], f[l], out[l]);
    }
    rest = _mm512_load_si512(d);
    less = _mm512_load_si512(f);
}

// 16 of 32 numbers, 16 -> 32 bits.
inline __m256i half_of(__m512i a, int half) { return half ? _mm512_extracti64x4_epi64(a, 1) : _mm512_castsi512_si256(a); }
inline __m512i widen(__m512i a, int half) { return _mm512_cvtepu16_epi32(half_of(a, half)); }
inline __m512i sign_extend(__m512i a, int half) { return _mm512_cvtepi16_epi32(half_of(a, half)); }

// Entries of the buckets of 32 slots, 8 a register.
template <bool kIndexed>
inline void gather(const TableView& t, const uint64_t* table, const int32_t* index, __m512i slot, __m512i* e) {
    const __m512i part = _mm512_srl_epi16(slot, _mm_cvtsi32_si128(16 - t.bucket_bits));
    for (int h = 0; h < 2; ++h) {
        __m512i b = widen(part, h);
        if (kIndexed)
            b = _mm512_or_si512(b, _mm512_sll_epi32(_mm512_loadu_si512(index + 16 * h), _mm_cvtsi32_si128(t.bucket_bits)));
        e[2 * h] = _mm512_i32gather_epi64(_mm512_castsi512_si256(b), table, 8);
        e[2 * h + 1] = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(b, 1), table, 8);
    }
}

// Looks 32 slots up; values go to `out`.
template <bool kIndexed>
inline void find(const TableView& t, const int32_t* index, __m512i slot, __m512i& rest, __m512i& less, int32_t* out) {
    const __m512i even32 = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd32 = _mm512_or_si512(even32, _mm512_set1_epi32(1));
    const __m512i even16 = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26,
                                            24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd16 = _mm512_or_si512(even16, _mm512_set1_epi16(1));
    __m512i e[4], interval[2];
    gather<kIndexed>(t, t.bucket, index, slot, e);
    for (int h = 0; h < 2; ++h) {
        interval[h] = _mm512_permutex2var_epi32(e[2 * h], even32, e[2 * h + 1]);
        _mm512_storeu_si512(out + 16 * h, _mm512_permutex2var_epi32(e[2 * h], odd32, e[2 * h + 1]));
    }
    rest = _mm512_sub_epi16(slot, _mm512_permutex2var_epi16(interval[0], even16, interval[1]));
    less = _mm512_permutex2var_epi16(interval[0], odd16, interval[1]);
    const __mmask32 behind = _mm512_cmpgt_epu16_mask(rest, less);
    if (__builtin_expect(behind, 0)) step_on_32(t, index, behind, slot, rest, less, out);
}

// Of two candidates, the one that the slot lies in, as far as the frequencies - 1 `here` and `next` can tell; `from`
// counts from the start of the first. Returns 1 for the second, 0 for the first.
inline __m512i choose(__m512i from, __m512i here, __m512i next, __m512i& rest, __m512i& less) {
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i behind = _mm512_subs_epu16(from, here);   // 1 + the rest within the next symbol, or 0
    const __m512i step = _mm512_min_epu16(behind, one), steps = _mm512_sub_epi16(_mm512_setzero_si512(), step);
    rest = _mm512_min_epu16(from, _mm512_sub_epi16(behind, one));
    less = _mm512_ternarylogic_epi32(steps, next, here, kSelect);
    return step;
}

// The same with two candidates a bucket.
template <bool kIndexed>
inline void find_near(const TableView& t, const int32_t* index, __m512i slot, __m512i& rest, __m512i& less, int32_t* out) {
    __m512i e[4];
    gather<kIndexed>(t, t.near, index, slot, e);
    // two registers of 8 entries -> 16 words 0 and 16 words 1 (or 2 and 3) of each
    alignas(64) static constexpr uint16_t kPick[32] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60,
                                                       1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61};
    const __m512i low = _mm512_load_si512(kPick), high = _mm512_add_epi16(low, _mm512_set1_epi16(2));
    const __m512i low0 = _mm512_permutex2var_epi16(e[0], low, e[1]), low1 = _mm512_permutex2var_epi16(e[2], low, e[3]);
    const __m512i high0 = _mm512_permutex2var_epi16(e[0], high, e[1]), high1 = _mm512_permutex2var_epi16(e[2], high, e[3]);
    const __m512i start = _mm512_shuffle_i64x2(low0, low1, 0x44), here = _mm512_shuffle_i64x2(low0, low1, 0xee);
    const __m512i next = _mm512_shuffle_i64x2(high0, high1, 0x44), value = _mm512_shuffle_i64x2(high0, high1, 0xee);

    const __m512i step = choose(_mm512_sub_epi16(slot, start), here, next, rest, less);
    const __m512i first = _mm512_srai_epi16(value, 1), chosen = _mm512_add_epi16(first, step);
    _mm512_storeu_si512(out, sign_extend(chosen, 0));
    _mm512_storeu_si512(out + 16, sign_extend(chosen, 1));
    const __m512i wrong = _mm512_or_si512(_mm512_subs_epu16(rest, less), _mm512_and_si512(step, value));
    const __mmask32 again = _mm512_test_epi16_mask(wrong, wrong);
    if (__builtin_expect(again, 0)) {   // back to the first candidate, from which nothing is left out
        _mm512_mask_storeu_epi32(out, static_cast<__mmask16>(again), sign_extend(first, 0));
        _mm512_mask_storeu_epi32(out + 16, static_cast<__mmask16>(again >> 16), sign_extend(first, 1));
        step_on_32(t, index, again, slot, rest, less, out);
    }
}

template <int R, bool kIndexed, bool kNear>
size_t decode_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    Planes x[R];
    for (int r = 0; r < R; ++r) x[r] = load_planes(job.x + 32 * r);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        __m512i rest[R], less[R];
        for (int r = 0; r < R; ++r) {
            const size_t i = (g * R + static_cast<size_t>(r)) * 32;
            const int32_t* tables = kIndexed ? index + i : nullptr;
            kNear ? find_near<kIndexed>(t, tables, x[r].a, rest[r], less[r], out + i)
                  : find<kIndexed>(t, tables, x[r].a, rest[r], less[r], out + i);
        }
        for (int r = 0; r < R; ++r)
            advance<true>(x[r], _mm512_add_epi16(less[r], _mm512_set1_epi16(1)), rest[r], word);
    }
    for (int r = 0; r < R; ++r) store_planes(job.x + 32 * r, x[r]);
    job.word = word;
    return g;
}


// The few lanes of one register (r = 0 or 1 of two) whose symbol is neither candidate: from their last one, step on.
__attribute__((noinline)) __m512i step_on_small(const Op* entry, int r, uint32_t lanes, __m512i slot, __m512i& rest,
                                                __m512i& less, __m512i symbol) {
    alignas(64) uint16_t s[32];
    alignas(64) uint8_t k[64];
    _mm512_store_si512(s, slot);
    _mm512_store_si512(k, symbol);
    for (; lanes; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes), byte = 16 * (l / 8) + 8 * r + l % 8;
        const Op* e = entry + k[byte];
        do ++e;
        while (s[l] - op_start(*e) > *e >> 16);
        const __mmask32 lane = 1u << l;
        rest = _mm512_mask_set1_epi16(rest, lane, static_cast<short>(s[l] - op_start(*e)));
        less = _mm512_mask_set1_epi16(less, lane, static_cast<short>(*e >> 16));
        symbol = _mm512_mask_set1_epi8(symbol, uint64_t{1} << byte, static_cast<char>(e - entry));
    }
    return symbol;
}

// Looks the slots of S times two registers up in a table of 2 to 256, without gathers: the first candidate comes from the
// slot's cell, in crowded cells from four more bits; it or the next symbol nearly always fits. Stage by stage for all
// registers, as a stage alone does not keep the processor busy.
//
// The tables do not all fit the registers, and it is they who must stay in memory, not the states: constructed where they
// are used, they are read there.
//
// Gives the symbols' numbers as bytes in the order of a pack of two registers.
template <int S, bool kEnds>
inline void find_small(const TableView& view, const __m512i (*slot)[2], __m512i (*rest)[2], __m512i (*less)[2],
                       __m512i* symbol) {
    constexpr Cells cells = kEnds ? kSmallEndCells : kSmallCells;
    const SmallTable& t = *view.small;
    const __m512i ends = _mm512_set1_epi16(cells.ends), behind = _mm512_set1_epi16(static_cast<short>(65536 - cells.ends));
    const __m512i nibble = _mm512_set1_epi16(0xf);
    const auto cell_of = [&](__m512i a) {
        const __m512i wide = _mm512_srli_epi16(a, cells.shift);
        if (!kEnds) return wide;
        return _mm512_add_epi16(wide, _mm512_avg_epu16(_mm512_min_epu16(a, ends), _mm512_subs_epu16(a, behind)));
    };
    const auto part_of = [&](__m512i a) { return _mm512_and_si512(_mm512_srli_epi16(a, cells.shift - 4), nibble); };
    for (int s = 0; s < S; ++s) {
        const __m512i cell = _mm512_packus_epi16(cell_of(slot[s][0]), cell_of(slot[s][1]));
        const __m512i part = _mm512_packus_epi16(part_of(slot[s][0]), part_of(slot[s][1]));
        const __m512i crowd = Bytes256(t.crowd)(cell);
        symbol[s] = _mm512_mask_mov_epi8(Bytes256(t.cell)(cell), _mm512_test_epi8_mask(crowd, crowd),
                                         Bytes256(t.part)(_mm512_or_si512(crowd, part)));
    }
    __m512i over[S][2], any = _mm512_setzero_si512();
    for (int s = 0; s < S; ++s) {
        const __m512i sl = Bytes256(t.start_low)(symbol[s]), sh = Bytes256(t.start_high)(symbol[s]),
                      ll = Bytes256(t.less_low)(symbol[s]), lh = Bytes256(t.less_high)(symbol[s]),
                      nl = Bytes256(t.next_low)(symbol[s]), nh = Bytes256(t.next_high)(symbol[s]);
        const __m512i start[2] = {_mm512_unpacklo_epi8(sl, sh), _mm512_unpackhi_epi8(sl, sh)};
        const __m512i here[2] = {_mm512_unpacklo_epi8(ll, lh), _mm512_unpackhi_epi8(ll, lh)};
        const __m512i next[2] = {_mm512_unpacklo_epi8(nl, nh), _mm512_unpackhi_epi8(nl, nh)};
        __m512i step[2];
        for (int r = 0; r < 2; ++r) {
            step[r] = choose(_mm512_sub_epi16(slot[s][r], start[r]), here[r], next[r], rest[s][r], less[s][r]);
            over[s][r] = _mm512_subs_epu16(rest[s][r], less[s][r]);
            any = _mm512_or_si512(any, over[s][r]);
        }
        symbol[s] = _mm512_add_epi8(symbol[s], _mm512_packus_epi16(step[0], step[1]));
    }
    if (__builtin_expect(_mm512_test_epi16_mask(any, any), 0))
        for (int s = 0; s < S; ++s)
            for (int r = 0; r < 2; ++r)
                symbol[s] = step_on_small(view.entry + view.first[0], r, _mm512_test_epi16_mask(over[s][r], over[s][r]),
                                          slot[s][r], rest[s][r], less[s][r], symbol[s]);
}

// How symbols become values.
template <int R>
struct SmallValues {
    __m512i offset, last, pick[2 * R];   // pick: where the bytes of symbols 16 q .. 16 q + 15 stand
    bool escape;

    explicit SmallValues(const TableView& t)
        : offset(_mm512_set1_epi32(t.offset[0])), last(_mm512_set1_epi8(static_cast<char>(t.size[0]))), escape(t.escape) {
        for (int q = 0; q < 2 * R; ++q) {
            alignas(64) int32_t byte[16];
            for (int j = 0; j < 16; ++j) byte[j] = 16 * (2 * (q % 2) + j / 8) + j % 8 + 8 * (q / 2);
            pick[q] = _mm512_load_si512(byte);
        }
    }
    void write(__m512i symbol, int32_t* out) const {
        for (int q = 0; q < 2 * R; ++q) {
            const __m512i k = _mm512_maskz_permutexvar_epi8(0x1111111111111111u, pick[q], symbol);
            _mm512_storeu_si512(out + 16 * q, _mm512_add_epi32(k, offset));
        }
        if (!escape) return;
        const uint64_t ours = R == 2 ? ~uint64_t{0} : 0x00ff00ff00ff00ffu;   // a single register comes twice
        for (uint64_t left = _mm512_cmpeq_epi8_mask(symbol, last) & ours; left; left &= left - 1) {
            const int byte = __builtin_ctzll(left);
            out[32 * (byte / 8 % 2) + 8 * (byte / 16) + byte % 8] = kEscaped;
        }
    }
};

// S streams of 32 R lanes side by side. A step of one is a chain of dependent instructions, longer than the processor needs
// to do them; the chains of two overlap.
template <int S, int R, bool kEnds>
size_t decode_small_cells(DecodeJob* const* job, const TableView& t, int32_t* const* out, size_t groups) {
    const SmallValues<R> values(t);
    Planes x[S][R];
    const uint16_t* word[S];
    for (int s = 0; s < S; ++s) {
        for (int r = 0; r < R; ++r) x[s][r] = load_planes(job[s]->x + 32 * r);
        word[s] = job[s]->word;
    }
    size_t g = 0;
    for (; g < groups && word[0] <= job[0]->limit && word[S - 1] <= job[S - 1]->limit; ++g) {
        __m512i slot[S][2], rest[S][2], less[S][2], symbol[S];
        for (int s = 0; s < S; ++s) {
            slot[s][0] = x[s][0].a;
            slot[s][1] = x[s][R - 1].a;
        }
        find_small<S, kEnds>(t, slot, rest, less, symbol);
        for (int s = 0; s < S; ++s)
            for (int r = 0; r < R; ++r)
                advance<false>(x[s][r], _mm512_add_epi16(less[s][r], _mm512_set1_epi16(1)), rest[s][r], word[s]);
        for (int s = 0; s < S; ++s) values.write(symbol[s], out[s] + g * 32 * R);
    }
    for (int s = 0; s < S; ++s) {
        for (int r = 0; r < R; ++r) store_planes(job[s]->x + 32 * r, x[s][r]);
        job[s]->word = word[s];
    }
    return g;
}

template <int S, int R>
size_t decode_small(DecodeJob* const* job, const TableView& t, int32_t* const* out, size_t groups) {
    return t.small->ends ? decode_small_cells<S, R, true>(job, t, out, groups)
                         : decode_small_cells<S, R, false>(job, t, out, groups);
}

template <int R>
size_t decode_bit_lanes(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    Planes x[R];
    for (int r = 0; r < R; ++r) x[r] = load_planes(job.x + 32 * r);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        for (int r = 0; r < R; ++r) {
            const size_t i = (g * R + static_cast<size_t>(r)) * 32;
            const __m512i p = _mm512_loadu_si512(p1 + i);
            const __mmask32 zero = _mm512_cmpge_epu16_mask(x[r].a, p);
            const __m512i f = _mm512_mask_sub_epi16(p, zero, _mm512_setzero_si512(), p);   // 65536 - p
            const __m512i rest = _mm512_mask_sub_epi16(x[r].a, zero, x[r].a, p);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_maskz_set1_epi8(~zero, 1));
            advance<false>(x[r], f, rest, word);
        }
    }
    for (int r = 0; r < R; ++r) store_planes(job.x + 32 * r, x[r]);
    job.word = word;
    return g;
}

template <bool kIndexed>
size_t decode_any(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    if (job.lanes == 8) return decode_eight<kIndexed>(job, t, index, out, groups);
    if (job.lanes == 32)
        return t.near ? decode_lanes<1, kIndexed, true>(job, t, index, out, groups)
                      : decode_lanes<1, kIndexed, false>(job, t, index, out, groups);
    return t.near ? decode_lanes<2, kIndexed, true>(job, t, index, out, groups)
                  : decode_lanes<2, kIndexed, false>(job, t, index, out, groups);
}

}  // namespace

size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups) {
    DecodeJob* const jobs[1] = {&job};
    if (t.small && job.lanes == 64) return decode_small<1, 2>(jobs, t, &out, groups);
    if (t.small && job.lanes == 32) return decode_small<1, 1>(jobs, t, &out, groups);
    return decode_any<false>(job, t, nullptr, out, groups);
}

size_t decode_two(DecodeJob& one, DecodeJob& two, const TableView& t, int32_t* out_one, int32_t* out_two, size_t groups) {
    DecodeJob* const jobs[2] = {&one, &two};
    int32_t* const out[2] = {out_one, out_two};
    return decode_small<2, 2>(jobs, t, out, groups);
}

size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return decode_any<true>(job, t, index, out, groups);
}

size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    return job.lanes == 64   ? decode_bit_lanes<2>(job, p1, out, groups)
           : job.lanes == 32 ? decode_bit_lanes<1>(job, p1, out, groups)
                             : decode_eight_bits(job, p1, out, groups);
}

}  // namespace avx512
}  // namespace cbench
