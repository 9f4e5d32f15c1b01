// Vectors of floats and doubles, and the functions of them that LineRWKV needs, from + - * / and square root alone.
// Internal linkage and no library functions that are inlined, see linerwkv_kernels.hpp.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#if !defined(__GNUC__)
#include <cmath>
#endif

namespace cbench {
namespace {

#if defined(__GNUC__)
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float F32 __attribute__((vector_size(kBytes)));
typedef int32_t I32 __attribute__((vector_size(kBytes)));
typedef double F64 __attribute__((vector_size(kBytes)));
typedef int64_t I64 __attribute__((vector_size(kBytes)));
#define LINERWKV_INLINE inline __attribute__((always_inline))
#else   // one lane: slow, but the same bits
typedef float F32;
typedef int32_t I32;
typedef double F64;
typedef int64_t I64;
#define LINERWKV_INLINE inline
#endif
constexpr int kLanes = sizeof(F32) / sizeof(float);

template <class V, class S>
LINERWKV_INLINE V load(const S* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V, class S>
LINERWKV_INLINE void store(S* p, V v) {
    std::memcpy(p, &v, sizeof v);
}

template <class V, class S>
LINERWKV_INLINE V all(S s) {
    return V{} + s;
}

template <class To, class From>
LINERWKV_INLINE To bits_of(From v) {
    To out;
    static_assert(sizeof out == sizeof v, "same width");
    std::memcpy(&out, &v, sizeof out);
    return out;
}

LINERWKV_INLINE F32 to_float(I32 x) {
#if defined(__GNUC__)
    return __builtin_convertvector(x, F32);
#else
    return static_cast<float>(x);
#endif
}

LINERWKV_INLINE F32 root(F32 x) {
#if defined(__GNUC__) && defined(__AVX512F__)
    return (F32)_mm512_sqrt_ps((__m512)x);
#elif defined(__GNUC__) && defined(__AVX2__)
    return (F32)_mm256_sqrt_ps((__m256)x);
#elif defined(__GNUC__) && defined(__SSE2__)
    return (F32)_mm_sqrt_ps((__m128)x);
#elif defined(__GNUC__) && defined(__aarch64__)
    return (F32)vsqrtq_f32((float32x4_t)x);
#elif defined(__GNUC__)
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
#else
    return sqrtf(x);
#endif
}

// e^x for x <= 80; 0 below -80, so that no denormal number appears.
LINERWKV_INLINE F32 exponential(F32 x) {
    const F32 limit = all<F32>(80.0f);
    x = x > limit ? limit : x;
    const F32 inside = x < -limit ? -limit : x;
    const F32 magic = all<F32>(12582912.0f);   // 1.5 2^23: adding it rounds to an integer
    const F32 shifted = inside * 1.44269504f + magic;
    const F32 n = shifted - magic;
    F32 r = inside - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    F32 p = r * 1.38888889e-3f + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    const I32 power = (bits_of<I32>(shifted) - bits_of<I32>(magic) + 127) << 23;
    return x < -limit ? F32{} : p * bits_of<F32>(power);
}

// 2^x for x in -100..100, within 3e-6; beyond, and for what is no number, the nearest end or -100.
LINERWKV_INLINE F32 power_of_two(F32 x) {
    const F32 low = all<F32>(-100.0f), high = all<F32>(100.0f);
    x = high < x ? high : x;
    x = x > low ? x : low;
    const F32 magic = all<F32>(12582912.0f);
    const F32 shifted = x + magic, f = x - (shifted - magic);
    F32 p = f * 9.58285e-3f + 5.590644e-2f;
    p = p * f + 2.4024099e-1f;
    p = p * f + 6.9312419e-1f;
    p = p * f + 1.0f;
    return bits_of<F32>(bits_of<I32>(p) + (bits_of<I32>(shifted) << 23));
}

// a and b, rounded to 16 bits, as the lower and the upper half of a number; |a|, |b| < 32767.5.
LINERWKV_INLINE I32 pair(F32 a, F32 b) {
    const F32 magic = all<F32>(12582912.0f);
    return (bits_of<I32>(a + magic) & 0xffff) | (bits_of<I32>(b + magic) << 16);
}

LINERWKV_INLINE F64 exponential(F64 x) {
    const F64 limit = all<F64>(600.0);
    x = x > limit ? limit : x;
    const F64 inside = x < -limit ? -limit : x;
    const F64 magic = all<F64>(6755399441055744.0);
    const F64 shifted = inside * 1.4426950408889634 + magic;
    const F64 n = shifted - magic;
    F64 r = inside - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    F64 p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r;
    p = p + 1.0;
    const I64 power = (bits_of<I64>(shifted) - bits_of<I64>(magic) + 1023) << 52;
    return x < -limit ? F64{} : p * bits_of<F64>(power);
}

LINERWKV_INLINE F32 sigmoid(F32 x) { return 1.0f / (1.0f + exponential(-x)); }

// x Phi(x); erf is a rational function of its square, within 4e-7.
LINERWKV_INLINE F32 gelu(F32 x) {
    F32 z = x * 0.707106781f;
    const F32 limit = all<F32>(3.92f);
    z = z > limit ? limit : z;
    z = z < -limit ? -limit : z;
    const F32 t = z * z;
    F32 p = t * 2.05011224e-6f + 2.84879963e-4f;
    p = p * t + 3.76548944e-3f;
    p = p * t + 5.27483374e-2f;
    p = p * t + 1.90403476e-1f;
    p = p * t + 1.12837911f;
    F32 q = t * 3.80918282e-5f + 1.16250466e-3f;
    q = q * t + 1.49689633e-2f;
    q = q * t + 1.14107884e-1f;
    q = q * t + 5.02073407e-1f;
    q = q * t + 1.0f;
    return x * 0.5f * (1.0f + z * p / q);
}

}  // namespace
}  // namespace cbench
