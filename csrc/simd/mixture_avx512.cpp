// Mixture coding, AVX-512: sixteen symbols at a time.
#include <immintrin.h>

#include "mixture_loop.hpp"

namespace cbench {

namespace {

struct Sixteen {
    static void add(const uint32_t* cdf, const int32_t* edge, const int32_t* mean, const uint8_t* scale,
                    const uint32_t* weight, size_t n, uint32_t* sum) {
        const __m512i inverses = _mm512_load_si512(kInverse);
        size_t i = 0;
        for (; i + 16 <= n; i += 16) {
            const __m512i distance = _mm512_sub_epi32(_mm512_loadu_si512(edge + i), _mm512_loadu_si512(mean + i));
            const __m512i s = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scale + i)));
            const __m512i power = _mm512_srli_epi32(s, 4);
            const __m512i limit = _mm512_sllv_epi32(_mm512_set1_epi32(512), power);
            __m512i a = _mm512_min_epu32(_mm512_abs_epi32(distance), limit);
            a = _mm512_srlv_epi32(_mm512_slli_epi32(a, 7), power);
            __m512i z = _mm512_srli_epi32(_mm512_mullo_epi32(a, _mm512_permutexvar_epi32(s, inverses)), 14);
            z = _mm512_min_epi32(z, _mm512_set1_epi32(kLargestZ));
            const __m512i entry = _mm512_i32gather_epi32(_mm512_srli_epi32(z, 6), cdf, 4);
            const __m512i step = _mm512_and_si512(entry, _mm512_set1_epi32(0xffff));
            const __m512i part = _mm512_and_si512(z, _mm512_set1_epi32(63));
            __m512i g = _mm512_add_epi32(_mm512_srli_epi32(entry, 16),
                                         _mm512_srli_epi32(_mm512_mullo_epi32(step, part), 6));
            const __mmask16 left = _mm512_movepi32_mask(distance);
            g = _mm512_mask_sub_epi32(g, left, _mm512_set1_epi32(65536), g);
            const __m512i product = _mm512_mullo_epi32(_mm512_loadu_si512(weight + i), g);
            _mm512_storeu_si512(sum + i, _mm512_add_epi32(_mm512_loadu_si512(sum + i), product));
        }
        for (; i < n; ++i) sum[i] += weighted_cdf(cdf, edge[i] - mean[i], scale[i], weight[i]);
    }
};

}  // namespace

extern const Cumulative kCumulativeAvx512;
const Cumulative kCumulativeAvx512 = cumulative<Sixteen>;

}  // namespace cbench
