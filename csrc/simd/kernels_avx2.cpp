// AVX2 kernels. Encoding: four 64-bit states a register. Decoding: planes.hpp with 16 lanes a register.
#include <immintrin.h>

#include "kernels.hpp"
#include "passes.hpp"
#include "planes.hpp"

namespace cbench {
namespace avx2 {

// Per mask of lanes: shuffles between 16-bit words in order and the marked lanes.
struct Shuffles {
    alignas(16) uint8_t pack[16][16];      // low words of four 32-bit numbers -> the marked ones, at the end of 8 bytes
    alignas(16) uint8_t expand[256 * 16];  // words in order -> the marked lanes of eight words, zero elsewhere
    constexpr Shuffles() : pack(), expand() {
        for (int mask = 0; mask < 256; ++mask) {
            uint8_t* row = expand + 16 * mask;
            for (int b = 0; b < 16; ++b) row[b] = 0x80;
            int from = 0;
            for (int l = 0; l < 8; ++l)
                if (mask >> l & 1) {
                    row[2 * l] = static_cast<uint8_t>(2 * from);
                    row[2 * l + 1] = static_cast<uint8_t>(2 * from + 1);
                    ++from;
                }
        }
        for (int mask = 0; mask < 16; ++mask) {
            for (int b = 0; b < 16; ++b) pack[mask][b] = 0x80;
            int to = 4;
            for (int l = 3; l >= 0; --l)
                if (mask >> l & 1) {
                    --to;
                    pack[mask][2 * to] = static_cast<uint8_t>(4 * l);
                    pack[mask][2 * to + 1] = static_cast<uint8_t>(4 * l + 1);
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

// What planes.hpp asks for.
struct Vector16 {
    using T = __m256i;
    using Shift = __m128i;
    static constexpr int kLanes = 16;
    static T load(const void* p) { return _mm256_loadu_si256(static_cast<const T*>(p)); }
    static void store(void* p, T a) { _mm256_storeu_si256(static_cast<T*>(p), a); }
    static T set(int a) { return _mm256_set1_epi16(static_cast<short>(a)); }
    static T add(T a, T b) { return _mm256_add_epi16(a, b); }
    static T sub(T a, T b) { return _mm256_sub_epi16(a, b); }
    static T mul_low(T a, T b) { return _mm256_mullo_epi16(a, b); }
    static T mul_high(T a, T b) { return _mm256_mulhi_epu16(a, b); }
    static T bit_and(T a, T b) { return _mm256_and_si256(a, b); }
    static T bit_or(T a, T b) { return _mm256_or_si256(a, b); }
    static T equal(T a, T b) { return _mm256_cmpeq_epi16(a, b); }
    static bool any(T a) { return !_mm256_testz_si256(a, a); }
    static T less(T a, T b) { return _mm256_subs_epu16(a, b); }
    static T least(T a, T b) { return _mm256_min_epu16(a, b); }
    static T average(T a, T b) { return _mm256_avg_epu16(a, b); }
    static T carry(T sum, T part) { return least(less(part, sum), set(1)); }
    static T select(T mask, T a, T b) {   // the compiler adds an instruction to the intrinsic
        using Words = int16_t __attribute__((vector_size(32)));
        return reinterpret_cast<T>(reinterpret_cast<Words>(mask) ? reinterpret_cast<Words>(a) : reinterpret_cast<Words>(b));
    }
    static T half(T a) { return _mm256_srai_epi16(a, 1); }
    static Shift shift(int by) { return _mm_cvtsi32_si128(by); }
    static T right(T a, Shift by) { return _mm256_srl_epi16(a, by); }
    static void widen(T a, int32_t* to) {
        store(to, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(a)));
        store(to + 8, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(a, 1)));
    }
    static void narrow(T a, uint8_t* to) {
        const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    }
    // Lane by lane, as gathers are slow on many machines, and transposed.
    template <class Index>
    static void fetch(const uint64_t* table, const Index* at, T* word) {
        const auto two = [&](int l) {
            const __m128i even = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(table + at[l]));
            const auto* odd = reinterpret_cast<const __m64*>(table + at[l + 1]);
            return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(even), odd));
        };
        // entries l.. and l+8.. side by side, so that unpacking keeps their order
        const auto four = [&](int l) { return _mm256_set_m128i(two(l + 8), two(l)); };
        const T e0 = four(0), e1 = four(2), e2 = four(4), e3 = four(6);
        const T a0 = _mm256_unpacklo_epi16(e0, e1), a1 = _mm256_unpackhi_epi16(e0, e1);
        const T b0 = _mm256_unpacklo_epi16(e2, e3), b1 = _mm256_unpackhi_epi16(e2, e3);
        const T low_a = _mm256_unpacklo_epi16(a0, a1), high_a = _mm256_unpackhi_epi16(a0, a1);
        const T low_b = _mm256_unpacklo_epi16(b0, b1), high_b = _mm256_unpackhi_epi16(b0, b1);
        word[0] = _mm256_unpacklo_epi64(low_a, low_b);
        word[1] = _mm256_unpackhi_epi64(low_a, low_b);
        word[2] = _mm256_unpacklo_epi64(high_a, high_b);
        word[3] = _mm256_unpackhi_epi64(high_a, high_b);
    }
    static T expand(T low, T y, const uint16_t*& word) {
        const __m128i both = _mm_packs_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
        const auto mask = static_cast<size_t>(_mm_movemask_epi8(both));
        const size_t first = mask << 4 & 0xff0, second = mask >> 4 & 0xff0;   // where their shuffles are
        const __m128i words = shuffle(avx2::load(word), kShuffles.expand + first);
        word += __builtin_popcountll(first);
        const __m128i more = shuffle(avx2::load(word), kShuffles.expand + second);
        word += __builtin_popcountll(second);
        return _mm256_or_si256(_mm256_andnot_si256(low, y), _mm256_set_m128i(more, words));
    }
};

}  // namespace avx2

extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2",
                       avx2::encode,
                       resolve_plain,
                       resolve_bits,
                       decode_static<avx2::Vector16>,
                       decode_indexed<avx2::Vector16>,
                       decode_bits<avx2::Vector16>,
                       nullptr,
                       largest,
                       all_bits,
                       least,
                       sum,
                       hash_blocks};

}  // namespace cbench
