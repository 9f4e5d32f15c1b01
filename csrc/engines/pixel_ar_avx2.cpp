#include <immintrin.h>

#include <cstring>

#include "pixel_ar_kernels.hpp"

namespace cbench {

namespace {

template <int N>   // vectors of 8 outputs at a time
void block(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum) {
    __m256i total[N];
    for (int v = 0; v < N; ++v) total[v] = _mm256_setzero_si256();
    for (int p = 0; p < pairs; ++p) {
        int32_t both;
        std::memcpy(&both, in + 2 * p, 4);
        const __m256i x = _mm256_set1_epi32(both);
        for (int v = 0; v < N; ++v) {
            const auto* at = reinterpret_cast<const __m256i*>(w + 2 * (p * outputs + 8 * v));
            total[v] = _mm256_add_epi32(total[v], _mm256_madd_epi16(_mm256_loadu_si256(at), x));
        }
    }
    for (int v = 0; v < N; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(sum + 8 * v), total[v]);
}

}  // namespace

void multiply_avx2(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum) {
    int o = 0;
    for (; o + 48 <= outputs; o += 48) block<6>(w + 2 * o, in, pairs, outputs, sum + o);
    for (; o + 32 <= outputs; o += 32) block<4>(w + 2 * o, in, pairs, outputs, sum + o);
    for (; o < outputs; o += 16) block<2>(w + 2 * o, in, pairs, outputs, sum + o);
}

}  // namespace cbench
