// AVX2 kernels: four lanes a register.
#include <immintrin.h>

#include "kernels.hpp"

namespace cbench {
namespace avx2 {

// Per mask of four lanes: shuffles between 16-bit words in order and the marked lanes.
struct Shuffles {
    alignas(16) uint8_t pack[16][16];     // low words of four 32-bit numbers -> the marked ones, at the end of 8 bytes
    alignas(16) uint8_t expand[16][16];   // words in order -> the marked lanes of four words, zero elsewhere
    constexpr Shuffles() : pack(), expand() {
        for (int mask = 0; mask < 16; ++mask) {
            for (int b = 0; b < 16; ++b) pack[mask][b] = expand[mask][b] = 0x80;
            int count = 0;
            for (int l = 0; l < 4; ++l) count += mask >> l & 1;
            int to = 4 - count, from = 0;
            for (int l = 0; l < 4; ++l)
                if (mask >> l & 1) {
                    for (int b = 0; b < 2; ++b) {
                        pack[mask][2 * to + b] = static_cast<uint8_t>(4 * l + b);
                        expand[mask][2 * l + b] = static_cast<uint8_t>(2 * from + b);
                    }
                    ++to;
                    ++from;
                }
        }
    }
};
constexpr Shuffles kShuffles;

inline __m128i load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m128i shuffle(__m128i a, const uint8_t* table) {
    return _mm_shuffle_epi8(a, _mm_load_si128(reinterpret_cast<const __m128i*>(table)));
}
inline int lane_mask(__m256i a) { return _mm256_movemask_pd(_mm256_castsi256_pd(a)); }
template <int kOdd>   // the low or high halves of four 64-bit numbers
inline __m128i halves(__m256i a) {
    const __m256i pick = _mm256_setr_epi32(kOdd, 2 + kOdd, 4 + kOdd, 6 + kOdd, 0, 0, 0, 0);
    return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(a, pick));
}

template <int R>
uint16_t* encode_lanes(uint64_t* state, const Op* ops, size_t groups, uint16_t* word) {
    __m256i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(state) + r);
    const __m256i low16 = _mm256_set1_epi64x(0xffff), one = _mm256_set1_epi64x(1), total = _mm256_set1_epi64x(65536);
    const __m256d magic = _mm256_set1_pd(4503599627370496.0);   // 2^52: its low mantissa bits hold an integer
    const auto to_double = [&](__m256i a) {
        return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(a, _mm256_castpd_si256(magic))), magic);
    };
    for (size_t g = groups; g-- > 0;) {
        const Op* op = ops + g * 4 * R;
        for (int r = R - 1; r >= 0; --r) {
            const __m256i e = _mm256_cvtepu32_epi64(load(op + 4 * r));
            const __m256i start = _mm256_and_si256(e, low16), f = _mm256_add_epi64(_mm256_srli_epi64(e, 16), one);
            const __m256i room = _mm256_cmpgt_epi64(_mm256_slli_epi64(f, 32), x[r]);
            const int full = lane_mask(room) ^ 15;
            _mm_storel_epi64(reinterpret_cast<__m128i*>(word - 4), shuffle(halves<0>(x[r]), kShuffles.pack[full]));
            word -= __builtin_popcount(static_cast<unsigned>(full));
            const __m256i y = _mm256_blendv_epi8(_mm256_srli_epi64(x[r], 16), x[r], room);
            const __m256d q = _mm256_round_pd(_mm256_div_pd(to_double(y), to_double(f)),
                                              _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
            const __m256i product =
                _mm256_mul_epu32(_mm256_castpd_si256(_mm256_add_pd(q, magic)), _mm256_sub_epi64(total, f));
            x[r] = _mm256_add_epi64(_mm256_add_epi64(y, start), product);
        }
    }
    for (int r = 0; r < R; ++r) _mm256_storeu_si256(reinterpret_cast<__m256i*>(state) + r, x[r]);
    return word;
}

uint16_t* encode(uint64_t* x, int lanes, const Op* ops, size_t groups, uint16_t* end) {
    return lanes == 64   ? encode_lanes<16>(x, ops, groups, end)
           : lanes == 32 ? encode_lanes<8>(x, ops, groups, end)
                         : encode_lanes<2>(x, ops, groups, end);
}

size_t resolve(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    size_t i = 0;
    __m256i first = _mm256_set1_epi32(t.first[0]), size = _mm256_set1_epi32(t.size[0]),
            offset = _mm256_set1_epi32(t.offset[0]);
    for (; i + 8 <= n; i += 8) {
        if (index) {
            const __m256i table = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + i));
            first = _mm256_i32gather_epi32(t.first, table, 4);
            size = _mm256_i32gather_epi32(t.size, table, 4);
            offset = _mm256_i32gather_epi32(t.offset, table, 4);
        }
        __m256i k = _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + i)), offset);
        const __m256i capped = _mm256_min_epu32(k, size);
        if (_mm256_movemask_epi8(_mm256_cmpeq_epi32(capped, size))) {   // some k >= size
            if (!t.escape) break;
            k = capped;
        }
        const __m256i at = _mm256_add_epi32(first, k);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(ops + i),
                            _mm256_i32gather_epi32(reinterpret_cast<const int*>(t.entry), at, 4));
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
    const __m256i top = _mm256_set1_epi32(65535), one = _mm256_set1_epi32(1), none = _mm256_setzero_si256();
    for (; i + 8 <= n; i += 8) {
        const __m256i p = _mm256_cvtepu16_epi32(load(p1 + i));
        const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bits + i)));
        const __m256i zero_op = _mm256_or_si256(p, _mm256_slli_epi32(_mm256_sub_epi32(top, p), 16));
        const __m256i one_op = _mm256_slli_epi32(_mm256_sub_epi32(p, one), 16);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(ops + i),
                            _mm256_blendv_epi8(one_op, zero_op, _mm256_cmpeq_epi32(b, none)));
    }
    for (; i < n; ++i) {
        const uint32_t p = p1[i];
        ops[i] = bits[i] ? (p - 1) << 16 : p | (65535 - p) << 16;
    }
}

// Takes one word into every lane whose state has fallen below 2^32.
inline __m256i refill(__m256i x, const uint16_t*& word) {
    const __m256i low = _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<int64_t>(kLow)), x);
    const int mask = lane_mask(low);
    const __m128i next = shuffle(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(word)), kShuffles.expand[mask]);
    word += __builtin_popcount(static_cast<unsigned>(mask));
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi64(x, 16), _mm256_cvtepu16_epi64(next)), low);
}

// The few lanes whose slot lies behind the bucket's first candidate: step on one symbol at a time.
__attribute__((noinline)) void step_on(const TableView& t, const int32_t* index, unsigned lanes, __m256i slot,
                                       __m256i& rest, __m256i& less, __m128i& value) {
    alignas(32) uint64_t s[4], d[4], f[4];
    alignas(16) int32_t v[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(s), slot);
    _mm256_store_si256(reinterpret_cast<__m256i*>(d), rest);
    _mm256_store_si256(reinterpret_cast<__m256i*>(f), less);
    _mm_store_si128(reinterpret_cast<__m128i*>(v), value);
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
    rest = _mm256_load_si256(reinterpret_cast<const __m256i*>(d));
    less = _mm256_load_si256(reinterpret_cast<const __m256i*>(f));
    value = _mm_load_si128(reinterpret_cast<const __m128i*>(v));
}

template <int R, bool kIndexed>
size_t decode_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    __m256i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(job.x) + r);
    const __m256i low16 = _mm256_set1_epi64x(0xffff);
    const __m128i shift = _mm_cvtsi32_si128(16 - t.bucket_bits), table_shift = _mm_cvtsi32_si128(t.bucket_bits);
    const auto* bucket = reinterpret_cast<const long long*>(t.bucket);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        for (int r = 0; r < R; ++r) {
            const size_t i = (g * R + static_cast<size_t>(r)) * 4;
            const __m256i slot = _mm256_and_si256(x[r], low16);
            __m256i b = _mm256_srl_epi64(slot, shift);
            if (kIndexed)
                b = _mm256_or_si256(b, _mm256_sll_epi64(_mm256_cvtepu32_epi64(load(index + i)), table_shift));
            const __m256i e = _mm256_i64gather_epi64(bucket, b, 8);
            __m256i rest = _mm256_sub_epi64(slot, _mm256_and_si256(e, low16));
            __m256i less = _mm256_and_si256(_mm256_srli_epi64(e, 16), low16);
            __m128i value = halves<1>(e);
            const int behind = lane_mask(_mm256_cmpgt_epi64(rest, less));
            if (__builtin_expect(behind, 0))
                step_on(t, kIndexed ? index + i : nullptr, static_cast<unsigned>(behind), slot, rest, less, value);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), value);
            const __m256i q = _mm256_srli_epi64(x[r], 16);
            x[r] = refill(_mm256_add_epi64(_mm256_add_epi64(_mm256_mul_epu32(q, less), q), rest), word);
        }
    }
    for (int r = 0; r < R; ++r) _mm256_storeu_si256(reinterpret_cast<__m256i*>(job.x) + r, x[r]);
    job.word = word;
    return g;
}

size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_lanes<16, false>(job, t, nullptr, out, groups)
           : job.lanes == 32 ? decode_lanes<8, false>(job, t, nullptr, out, groups)
                             : decode_lanes<2, false>(job, t, nullptr, out, groups);
}

size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_lanes<16, true>(job, t, index, out, groups)
           : job.lanes == 32 ? decode_lanes<8, true>(job, t, index, out, groups)
                             : decode_lanes<2, true>(job, t, index, out, groups);
}

template <int R>
size_t decode_bit_lanes(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    __m256i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(job.x) + r);
    const __m256i low16 = _mm256_set1_epi64x(0xffff), total = _mm256_set1_epi64x(65536);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        for (int r = 0; r < R; ++r) {
            const size_t i = (g * R + static_cast<size_t>(r)) * 4;
            const __m256i p = _mm256_cvtepu16_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p1 + i)));
            const __m256i slot = _mm256_and_si256(x[r], low16), one = _mm256_cmpgt_epi64(p, slot);
            const __m256i f = _mm256_blendv_epi8(_mm256_sub_epi64(total, p), p, one);
            const __m256i rest = _mm256_sub_epi64(slot, _mm256_andnot_si256(one, p));
            const uint32_t ones = static_cast<uint32_t>(lane_mask(one)) * 0x00204081u & 0x01010101u;
            __builtin_memcpy(out + i, &ones, 4);
            x[r] = refill(_mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(x[r], 16), f), rest), word);
        }
    }
    for (int r = 0; r < R; ++r) _mm256_storeu_si256(reinterpret_cast<__m256i*>(job.x) + r, x[r]);
    job.word = word;
    return g;
}

size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    return job.lanes == 64   ? decode_bit_lanes<16>(job, p1, out, groups)
           : job.lanes == 32 ? decode_bit_lanes<8>(job, p1, out, groups)
                             : decode_bit_lanes<2>(job, p1, out, groups);
}

}  // namespace avx2

extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2",
                       avx2::encode,
                       avx2::resolve,
                       avx2::resolve_bits,
                       avx2::decode_static,
                       avx2::decode_indexed,
                       avx2::decode_bits};

}  // namespace cbench
