// AVX2 kernels: four lanes a register.
#include <immintrin.h>

#include "kernels.hpp"
#include "passes.hpp"
#include "planes.hpp"

namespace cbench {
namespace avx2 {

// Per mask of lanes: shuffles between 16-bit words in order and the marked lanes.
struct Shuffles {
    alignas(16) uint8_t pack[16][16];      // low words of four 32-bit numbers -> the marked ones, at the end of 8 bytes
    alignas(16) uint8_t expand[256][16];   // words in order -> the marked lanes of eight words, zero elsewhere
    constexpr Shuffles() : pack(), expand() {
        for (int mask = 0; mask < 256; ++mask) {
            for (int b = 0; b < 16; ++b) expand[mask][b] = 0x80;
            int from = 0;
            for (int l = 0; l < 8; ++l)
                if (mask >> l & 1) {
                    expand[mask][2 * l] = static_cast<uint8_t>(2 * from);
                    expand[mask][2 * l + 1] = static_cast<uint8_t>(2 * from + 1);
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

struct Steps {
    static inline void split(const uint64_t* e, int n, uint16_t* start, uint16_t* here, uint16_t* next, uint16_t* value) {
        for (int l = 0; l < n; l += 16) {
            // registers of entries l.. and l+8.. side by side, so that unpacking keeps their order
            const auto pair = [&](int k) { return _mm256_inserti128_si256(_mm256_castsi128_si256(load(e + l + k)), load(e + l + k + 8), 1); };
            const __m256i e0 = pair(0), e1 = pair(2), e2 = pair(4), e3 = pair(6);
            const __m256i a0 = _mm256_unpacklo_epi16(e0, e1), a1 = _mm256_unpackhi_epi16(e0, e1);
            const __m256i b0 = _mm256_unpacklo_epi16(e2, e3), b1 = _mm256_unpackhi_epi16(e2, e3);
            const __m256i low_a = _mm256_unpacklo_epi16(a0, a1), high_a = _mm256_unpackhi_epi16(a0, a1);
            const __m256i low_b = _mm256_unpacklo_epi16(b0, b1), high_b = _mm256_unpackhi_epi16(b0, b1);
            const auto store = [&](uint16_t* to, __m256i v) { _mm256_store_si256(reinterpret_cast<__m256i*>(to + l), v); };
            store(start, _mm256_unpacklo_epi64(low_a, low_b));
            store(here, _mm256_unpackhi_epi64(low_a, low_b));
            store(next, _mm256_unpacklo_epi64(high_a, high_b));
            store(value, _mm256_unpackhi_epi64(high_a, high_b));
        }
    }
    static inline void expand(const uint16_t* low, const uint16_t* y, int n, const uint16_t*& word, uint16_t* a) {
        for (int l = 0; l < n; l += 8) {
            const __m128i marked = load(low + l);
            const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(marked, _mm_setzero_si128())));
            const __m128i words = shuffle(load(word), kShuffles.expand[mask]);
            _mm_store_si128(reinterpret_cast<__m128i*>(a + l), _mm_or_si128(_mm_andnot_si128(marked, load(y + l)), words));
            word += __builtin_popcount(mask);
        }
    }
};

}  // namespace avx2

extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2",
                       avx2::encode,
                       resolve_plain,
                       resolve_bits,
                       decode_static<avx2::Steps>,
                       decode_indexed<avx2::Steps>,
                       decode_bits<avx2::Steps>,
                       nullptr,
                       largest,
                       all_bits,
                       least,
                       sum,
                       hash_blocks};

}  // namespace cbench
