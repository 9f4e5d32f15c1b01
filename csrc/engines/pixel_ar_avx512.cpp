#include <immintrin.h>

#include <cstring>

#include "pixel_ar_kernels.hpp"

namespace cbench {

namespace {

template <int N>   // vectors of 16 outputs at a time; even and odd pairs apart, as one chain of additions would be too slow
void block(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum) {
    __m512i total[2][N];
    for (int v = 0; v < N; ++v) total[0][v] = total[1][v] = _mm512_setzero_si512();
    const auto add = [&](int p, __m512i* to) {
        int32_t both;
        std::memcpy(&both, in + 2 * p, 4);
        const __m512i x = _mm512_set1_epi32(both);
        for (int v = 0; v < N; ++v)
            to[v] = _mm512_add_epi32(to[v], _mm512_madd_epi16(_mm512_loadu_si512(w + 2 * (p * outputs + 16 * v)), x));
    };
    int p = 0;
    for (; p + 2 <= pairs; p += 2) {
        add(p, total[0]);
        add(p + 1, total[1]);
    }
    if (p < pairs) add(p, total[0]);
    for (int v = 0; v < N; ++v) _mm512_storeu_si512(sum + 16 * v, _mm512_add_epi32(total[0][v], total[1][v]));
}

}  // namespace

void multiply_avx512(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum) {
    int o = 0;
    for (; o + 48 <= outputs; o += 48) block<3>(w + 2 * o, in, pairs, outputs, sum + o);
    for (; o + 32 <= outputs; o += 32) block<2>(w + 2 * o, in, pairs, outputs, sum + o);
    for (; o < outputs; o += 16) block<1>(w + 2 * o, in, pairs, outputs, sum + o);
}

}  // namespace cbench
