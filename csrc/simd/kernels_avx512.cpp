// AVX-512 kernels (F, BW, VL, DQ, CD, VBMI, VBMI2): eight lanes a register.
#include <immintrin.h>

#include "kernels.hpp"

namespace cbench {
namespace avx512 {

// For every mask: the byte shuffle that moves the marked 16-bit words to the end of a 128-bit register, in order.
struct AlignRight {
    alignas(64) uint8_t shuffle[256][16];
    constexpr AlignRight() : shuffle() {
        for (int mask = 0; mask < 256; ++mask) {
            for (int b = 0; b < 16; ++b) shuffle[mask][b] = 0x80;
            int to = 8 - __builtin_popcount(static_cast<unsigned>(mask));
            for (int l = 0; l < 8; ++l)
                if (mask >> l & 1) {
                    shuffle[mask][2 * to] = static_cast<uint8_t>(2 * l);
                    shuffle[mask][2 * to + 1] = static_cast<uint8_t>(2 * l + 1);
                    ++to;
                }
        }
    }
};
constexpr AlignRight kAlignRight;

template <int R>
uint16_t* encode_lanes(uint64_t* state, const Op* ops, size_t groups, uint16_t* word) {
    __m512i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm512_loadu_si512(state + 8 * r);
    const __m512i low16 = _mm512_set1_epi64(0xffff), one = _mm512_set1_epi64(1), total = _mm512_set1_epi64(65536);
    for (size_t g = groups; g-- > 0;) {
        const Op* op = ops + g * 8 * R;
        for (int r = R - 1; r >= 0; --r) {
            const __m512i e = _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(op + 8 * r)));
            const __m512i start = _mm512_and_si512(e, low16), f = _mm512_add_epi64(_mm512_srli_epi64(e, 16), one);
            const __mmask8 full = _mm512_cmpge_epu64_mask(x[r], _mm512_slli_epi64(f, 32));
            const __m128i out = _mm_shuffle_epi8(
                _mm512_cvtepi64_epi16(x[r]), _mm_load_si128(reinterpret_cast<const __m128i*>(kAlignRight.shuffle[full])));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(word - 8), out);
            word -= _mm_popcnt_u32(full);
            x[r] = _mm512_mask_srli_epi64(x[r], full, x[r], 16);
            const __m512i q =
                _mm512_cvttpd_epu64(_mm512_div_pd(_mm512_cvtepu64_pd(x[r]), _mm512_cvtepu64_pd(f)));
            x[r] = _mm512_add_epi64(_mm512_add_epi64(x[r], start), _mm512_mul_epu32(q, _mm512_sub_epi64(total, f)));
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_si512(state + 8 * r, x[r]);
    return word;
}

uint16_t* encode(uint64_t* x, int lanes, const Op* ops, size_t groups, uint16_t* end) {
    return lanes == 64   ? encode_lanes<8>(x, ops, groups, end)
           : lanes == 32 ? encode_lanes<4>(x, ops, groups, end)
                         : encode_lanes<1>(x, ops, groups, end);
}

size_t resolve(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    size_t i = 0;
    __m512i first = _mm512_set1_epi32(t.first[0]), size = _mm512_set1_epi32(t.size[0]),
            offset = _mm512_set1_epi32(t.offset[0]);
    for (; i + 16 <= n; i += 16) {
        if (index) {
            const __m512i table = _mm512_loadu_si512(index + i);
            first = _mm512_i32gather_epi32(table, t.first, 4);
            size = _mm512_i32gather_epi32(table, t.size, 4);
            offset = _mm512_i32gather_epi32(table, t.offset, 4);
        }
        __m512i k = _mm512_sub_epi32(_mm512_loadu_si512(symbols + i), offset);
        if (_mm512_cmpge_epu32_mask(k, size)) {
            if (!t.escape) break;
            k = _mm512_min_epu32(k, size);
        }
        _mm512_storeu_si512(ops + i, _mm512_i32gather_epi32(_mm512_add_epi32(first, k), t.entry, 4));
    }
    for (; i < n; ++i) {
        const int32_t table = index ? index[i] : 0;
        uint32_t k = static_cast<uint32_t>(symbols[i]) - static_cast<uint32_t>(t.offset[table]);
        if (k >= static_cast<uint32_t>(t.size[table])) {
            if (!t.escape) return i;
            k = static_cast<uint32_t>(t.size[table]);
        }
        ops[i] = t.entry[static_cast<uint32_t>(t.first[table]) + k];
    }
    return n;
}

void resolve_bits(const uint8_t* bits, const uint16_t* p1, size_t n, Op* ops) {
    size_t i = 0;
    const __m512i top = _mm512_set1_epi32(65535), one = _mm512_set1_epi32(1);
    for (; i + 16 <= n; i += 16) {
        const __m512i p = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p1 + i)));
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bits + i));
        const __mmask16 ones = _mm_test_epi8_mask(b, b);
        const __m512i zero_op = _mm512_or_si512(p, _mm512_slli_epi32(_mm512_sub_epi32(top, p), 16));
        const __m512i one_op = _mm512_slli_epi32(_mm512_sub_epi32(p, one), 16);
        _mm512_storeu_si512(ops + i, _mm512_mask_blend_epi32(ones, zero_op, one_op));
    }
    for (; i < n; ++i) {
        const uint32_t p = p1[i];
        ops[i] = bits[i] ? (p - 1) << 16 : p | (65535 - p) << 16;
    }
}

// Takes one word into every lane whose state has fallen below 2^32.
inline __m512i refill(__m512i x, const uint16_t*& word) {
    const __mmask8 low = _mm512_cmplt_epu64_mask(x, _mm512_set1_epi64(static_cast<int64_t>(kLow)));
    const __m128i next = _mm_maskz_expand_epi16(low, _mm_loadu_si128(reinterpret_cast<const __m128i*>(word)));
    word += _mm_popcnt_u32(low);
    return _mm512_mask_or_epi64(x, low, _mm512_slli_epi64(x, 16), _mm512_cvtepu16_epi64(next));
}

// The few lanes whose slot lies behind the bucket's first candidate: step on one symbol at a time.
__attribute__((noinline)) void step_on(const TableView& t, const int32_t* index, unsigned lanes, __m512i slot,
                                       __m512i& rest, __m512i& less, __m256i& value) {
    alignas(64) uint64_t s[8], d[8], f[8];
    alignas(32) int32_t v[8];
    _mm512_store_si512(s, slot);
    _mm512_store_si512(d, rest);
    _mm512_store_si512(f, less);
    _mm256_store_si256(reinterpret_cast<__m256i*>(v), value);
    for (; lanes; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        const int32_t table = index ? index[l] : 0;
        int32_t k = v[l] - t.offset[table];
        const Op* row = t.entry + t.first[table];
        const auto target = static_cast<uint32_t>(s[l]);
        do ++k;
        while (target - op_start(row[k]) > (row[k] >> 16));
        d[l] = target - op_start(row[k]);
        f[l] = row[k] >> 16;
        v[l] = k < t.size[table] ? t.offset[table] + k : kEscaped;
    }
    rest = _mm512_load_si512(d);
    less = _mm512_load_si512(f);
    value = _mm256_load_si256(reinterpret_cast<const __m256i*>(v));
}

template <int R, bool kIndexed>
size_t decode_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    __m512i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm512_loadu_si512(job.x + 8 * r);
    const __m512i low16 = _mm512_set1_epi64(0xffff);
    const __m128i shift = _mm_cvtsi32_si128(16 - t.bucket_bits), table_shift = _mm_cvtsi32_si128(t.bucket_bits);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        __m512i slot[R], e[R];
        const size_t i = g * 8 * R;
        for (int r = 0; r < R; ++r) {
            slot[r] = _mm512_and_si512(x[r], low16);
            __m512i b = _mm512_srl_epi64(slot[r], shift);
            if (kIndexed) {
                const __m256i table = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + i + 8 * r));
                b = _mm512_or_si512(b, _mm512_sll_epi64(_mm512_cvtepu32_epi64(table), table_shift));
            }
            e[r] = _mm512_i64gather_epi64(b, t.bucket, 8);
        }
        for (int r = 0; r < R; ++r) {
            __m512i rest = _mm512_sub_epi64(slot[r], _mm512_and_si512(e[r], low16));
            __m512i less = _mm512_and_si512(_mm512_srli_epi64(e[r], 16), low16);
            __m256i value = _mm512_cvtepi64_epi32(_mm512_srli_epi64(e[r], 32));
            const __mmask8 behind = _mm512_cmpgt_epu64_mask(rest, less);
            if (__builtin_expect(behind, 0))
                step_on(t, kIndexed ? index + i + 8 * r : nullptr, behind, slot[r], rest, less, value);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i + 8 * r), value);
            const __m512i q = _mm512_srli_epi64(x[r], 16);
            x[r] = refill(_mm512_add_epi64(_mm512_add_epi64(_mm512_mul_epu32(q, less), q), rest), word);
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_si512(job.x + 8 * r, x[r]);
    job.word = word;
    return g;
}

size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_lanes<8, false>(job, t, nullptr, out, groups)
           : job.lanes == 32 ? decode_lanes<4, false>(job, t, nullptr, out, groups)
                             : decode_lanes<1, false>(job, t, nullptr, out, groups);
}

size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_lanes<8, true>(job, t, index, out, groups)
           : job.lanes == 32 ? decode_lanes<4, true>(job, t, index, out, groups)
                             : decode_lanes<1, true>(job, t, index, out, groups);
}

template <int R>
size_t decode_bit_lanes(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    __m512i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm512_loadu_si512(job.x + 8 * r);
    const __m512i low16 = _mm512_set1_epi64(0xffff), total = _mm512_set1_epi64(65536);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        for (int r = 0; r < R; ++r) {
            const size_t i = (g * R + static_cast<size_t>(r)) * 8;
            const __m512i p = _mm512_cvtepu16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p1 + i)));
            const __m512i slot = _mm512_and_si512(x[r], low16);
            const __mmask8 zero = _mm512_cmpge_epu64_mask(slot, p);
            const __m512i f = _mm512_mask_sub_epi64(p, zero, total, p);
            const __m512i rest = _mm512_mask_sub_epi64(slot, zero, slot, p);
            _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i),
                             _mm_maskz_set1_epi8(static_cast<__mmask16>(static_cast<uint8_t>(~zero)), 1));
            x[r] = refill(_mm512_add_epi64(_mm512_mul_epu32(_mm512_srli_epi64(x[r], 16), f), rest), word);
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_si512(job.x + 8 * r, x[r]);
    job.word = word;
    return g;
}

size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    return job.lanes == 64   ? decode_bit_lanes<8>(job, p1, out, groups)
           : job.lanes == 32 ? decode_bit_lanes<4>(job, p1, out, groups)
                             : decode_bit_lanes<1>(job, p1, out, groups);
}

}  // namespace avx512

extern const Kernels kAvx512;
const Kernels kAvx512 = {"avx512",
                         avx512::encode,
                         avx512::resolve,
                         avx512::resolve_bits,
                         avx512::decode_static,
                         avx512::decode_indexed,
                         avx512::decode_bits};

}  // namespace cbench
