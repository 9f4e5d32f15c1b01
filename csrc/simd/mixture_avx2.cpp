// Mixture coding, AVX2: eight symbols at a time.
#include <immintrin.h>

#include "mixture_loop.hpp"

namespace cbench {

namespace {

struct Eight {
    static void add(const uint32_t* cdf, const int32_t* edge, const int32_t* mean, const uint8_t* scale,
                    const uint32_t* weight, size_t n, uint32_t* sum) {
        const auto load = [](const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); };
        const __m256i low_half = load(kInverse), high_half = load(kInverse + 8);
        size_t i = 0;
        for (; i + 8 <= n; i += 8) {
            const __m256i distance = _mm256_sub_epi32(load(edge + i), load(mean + i));
            const __m256i s = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(scale + i)));
            const __m256i power = _mm256_srli_epi32(s, 4);
            const __m256i limit = _mm256_sllv_epi32(_mm256_set1_epi32(512), power);
            __m256i a = _mm256_min_epu32(_mm256_abs_epi32(distance), limit);
            a = _mm256_srlv_epi32(_mm256_slli_epi32(a, 7), power);
            const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(s, 28));   // bit 3 picks the half
            const __m256i inverse = _mm256_castps_si256(
                _mm256_blendv_ps(_mm256_castsi256_ps(_mm256_permutevar8x32_epi32(low_half, s)),
                                 _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(high_half, s)), upper));
            __m256i z = _mm256_srli_epi32(_mm256_mullo_epi32(a, inverse), 14);
            z = _mm256_min_epi32(z, _mm256_set1_epi32(kLargestZ));
            const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(cdf), _mm256_srli_epi32(z, 6), 4);
            const __m256i step = _mm256_and_si256(entry, _mm256_set1_epi32(0xffff));
            const __m256i part = _mm256_and_si256(z, _mm256_set1_epi32(63));
            const __m256i g = _mm256_add_epi32(_mm256_srli_epi32(entry, 16),
                                               _mm256_srli_epi32(_mm256_mullo_epi32(step, part), 6));
            const __m256i mirrored = _mm256_sub_epi32(_mm256_set1_epi32(65536), g);
            const __m256i signed_g = _mm256_blendv_epi8(g, mirrored, _mm256_srai_epi32(distance, 31));
            const __m256i total = _mm256_add_epi32(load(sum + i), _mm256_mullo_epi32(load(weight + i), signed_g));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(sum + i), total);
        }
        for (; i < n; ++i) sum[i] += weighted_cdf(cdf, edge[i] - mean[i], scale[i], weight[i]);
    }
};

}  // namespace

extern const Cumulative kCumulativeAvx2;
const Cumulative kCumulativeAvx2 = cumulative<Eight>;

}  // namespace cbench
