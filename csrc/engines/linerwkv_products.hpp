// Products of matrices and columns for the LineRWKV kernels, in float or in integers. Internal linkage, see
// linerwkv_kernels.hpp.
//
// Integer products take features as 16-bit integers: two in a lane, in the first half of their rows, and in the row
// behind these the scales of the columns. Products with 8-bit weights and their sums are exact in 32 bits, so no order of
// summation has to be kept.
#pragma once
#include "linerwkv_kernels.hpp"
#include "linerwkv_lanes.hpp"

namespace cbench {
namespace {

// `kRows` rows (within one group of 8) for `kVectors` vectors of columns, all in registers.
template <int kRows, int kVectors>
LINERWKV_INLINE void rows_of(const float* w, const float* bias, int cols, const float* x, size_t x_stride, float* y,
                             size_t y_stride, bool add) {
    F32 sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v)
            sum[r][v] = add    ? load<F32>(y + r * y_stride + v * kLanes)
                        : bias ? all<F32>(bias[r])
                               : F32{};
    for (int c = 0; c < cols; ++c, w += 8, x += x_stride) {
        F32 in[kVectors];
        for (int v = 0; v < kVectors; ++v) in[v] = load<F32>(x + v * kLanes);
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] + w[r] * in[v];
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(y + r * y_stride + v * kLanes, sum[r][v]);
}

// sum + the products of the two 16-bit halves of every lane.
LINERWKV_INLINE I32 add_products(I32 sum, I32 x, int32_t w) {
#if defined(LINERWKV_VNNI)
    return (I32)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, _mm512_set1_epi32(w));
#elif defined(__GNUC__) && defined(__AVX512BW__)
    return sum + (I32)_mm512_madd_epi16((__m512i)x, _mm512_set1_epi32(w));
#elif defined(__GNUC__) && defined(__AVX2__)
    return sum + (I32)_mm256_madd_epi16((__m256i)x, _mm256_set1_epi32(w));
#elif defined(__GNUC__) && defined(__SSE2__)
    return sum + (I32)_mm_madd_epi16((__m128i)x, _mm_set1_epi32(w));
#else
    const int32_t low = static_cast<int16_t>(w & 0xffff), high = w >> 16;
    return sum + ((x << 16) >> 16) * low + (x >> 16) * high;
#endif
}

// The same in integers.
template <int kRows, int kVectors>
LINERWKV_INLINE void rows_of(const int32_t* w, const float* row_scale, const float* bias, int cols, const float* x,
                             size_t x_stride, float* y, size_t y_stride, bool add) {
    I32 sum[kRows][kVectors] = {};
    for (int c = 0; c < cols; c += 2, w += 8, x += x_stride) {
        I32 in[kVectors];
        for (int v = 0; v < kVectors; ++v) in[v] = load<I32>(x + v * kLanes);
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] = add_products(sum[r][v], in[v], w[r]);
    }
    F32 scale[kVectors];
    for (int v = 0; v < kVectors; ++v) scale[v] = load<F32>(x + v * kLanes);
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            float* to = y + r * y_stride + v * kLanes;
            const F32 start = add ? load<F32>(to) : bias ? all<F32>(bias[r]) : F32{};
            store(to, start + to_float(sum[r][v]) * scale[v] * row_scale[r]);
        }
}

// Eight rows: at once where there are registers enough, else in two halves.
template <int kVectors>
LINERWKV_INLINE void eight_rows(const Linear& layer, int row, const float* x, size_t x_stride, float* y,
                                size_t y_stride, bool add) {
    constexpr int kRows = sizeof(F32) == 64 ? 8 : 4;
    for (int end = row + 8; row < end; row += kRows, y += kRows * y_stride) {
        const float* bias = layer.bias ? layer.bias + row : nullptr;
        const size_t group = static_cast<size_t>(row / 8 * 8) * layer.cols, inside = row % 8;
        if (layer.w)
            rows_of<kRows, kVectors>(layer.w + group + inside, bias, layer.cols, x, x_stride, y, y_stride, add);
        else
            rows_of<kRows, kVectors>(layer.pairs + group / 2 + inside, layer.scale + row, bias, layer.cols, x, x_stride,
                                     y, y_stride, add);
    }
}

// y = W x + bias, or y += W x; for integer weights, x in integers.
void linear(const Linear& layer, const float* x, size_t x_stride, float* y, size_t y_stride, int width,
            bool add = false) {
    for (int row = 0; row < layer.rows; row += 8) {
        float* out = y + row * y_stride;
        int c = 0;
        for (; c + 2 * kLanes <= width; c += 2 * kLanes)
            eight_rows<2>(layer, row, x + c, x_stride, out + c, y_stride, add);
        for (; c < width; c += kLanes) eight_rows<1>(layer, row, x + c, x_stride, out + c, y_stride, add);
    }
}

// For integer weights: features, as floats, give way to integers, the largest of each column 32767.
void quantise(const Linear& layer, float* x, int features, int width) {
    if (layer.w) return;
    const size_t w = width;
    for (int c = 0; c < width; c += kLanes) {
        I32 largest = bits_of<I32>(all<F32>(1e-30f));   // as integers: numbers without sign have the same order
        for (int f = 0; f < features; ++f) {
            const I32 size = load<I32>(x + f * w + c) & 0x7fffffff;
            largest = size > largest ? size : largest;
        }
        const F32 most = bits_of<F32>(largest), inverse = 32767.0f / most;
        for (int f = 0; f < features; f += 2)
            store(x + f / 2 * w + c, pair(load<F32>(x + f * w + c) * inverse, load<F32>(x + (f + 1) * w + c) * inverse));
        store(x + features / 2 * w + c, most * (1.0f / 32767.0f));
    }
}

// y = W x + bias, or y += W x, of floats; x is used up.
void product(const Linear& layer, float* x, float* y, int width, bool add = false) {
    quantise(layer, x, layer.cols, width);
    linear(layer, x, width, y, width, width, add);
}

// Token shift of up to three kinds, to out[0], out[1] ...; what came before gives way to what is now.
template <bool kIntegers>
void shift(const Mix* const* mixes, int count, const float* now, float* before, float* const* out, int features,
           int width) {
    constexpr int kStep = kIntegers ? 2 : 1;
    for (int f = 0; f < features; f += kStep)
        for (int c = 0; c < width; c += kLanes) {
            const size_t at = static_cast<size_t>(f) * width + c, to = static_cast<size_t>(f / kStep) * width + c;
            F32 present[kStep], past[kStep];
            for (int i = 0; i < kStep; ++i) {
                present[i] = load<F32>(now + at + i * width);
                past[i] = load<F32>(before + at + i * width);
                store(before + at + i * width, present[i]);
            }
            for (int k = 0; k < count; ++k) {
                const float *m = mixes[k]->now + f, *n = mixes[k]->before + f;
                F32 mixed[kStep];
                for (int i = 0; i < kStep; ++i) mixed[i] = present[i] * m[i] + past[i] * n[i];
                if constexpr (kIntegers) store(out[k] + to, pair(mixed[0], mixed[1]));
                else store(out[k] + to, mixed[0]);
            }
        }
    for (int k = 0; kIntegers && k < count; ++k)   // mixes for integers give them in full; 1 means 1
        for (int c = 0; c < width; c += kLanes)
            store(out[k] + static_cast<size_t>(features / 2) * width + c, all<F32>(1.0f));
}

}  // namespace
}  // namespace cbench
