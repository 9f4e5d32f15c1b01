// Vectors of floats or doubles as wide as the instruction set has them. Internal linkage, as in lanes.hpp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace cbench {
namespace {

#if defined(__GNUC__)
#if defined(__AVX512F__)
constexpr size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr size_t kVectorBytes = 32;
#else
constexpr size_t kVectorBytes = 16;
#endif
#define CBENCH_INLINE inline __attribute__((always_inline, unused))
typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef double Doubles __attribute__((vector_size(kVectorBytes)));
typedef int32_t FloatBits __attribute__((vector_size(kVectorBytes)));
typedef int64_t DoubleBits __attribute__((vector_size(kVectorBytes)));
#else
#define CBENCH_INLINE inline
using Floats = float;
using Doubles = double;
using FloatBits = int32_t;
using DoubleBits = int64_t;
#endif
constexpr bool kWideRegisters = sizeof(Floats) == 64;   // and twice as many of them

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
    using Vec = Floats;
    static constexpr size_t kCount = sizeof(Vec) / sizeof(float);
};
template <>
struct Lanes<double> {
    using Vec = Doubles;
    static constexpr size_t kCount = sizeof(Vec) / sizeof(double);
};

template <class T>
CBENCH_INLINE typename Lanes<T>::Vec load(const T* from) {
    typename Lanes<T>::Vec v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
template <class T>
CBENCH_INLINE void store(T* to, typename Lanes<T>::Vec v) {
    std::memcpy(to, &v, sizeof v);
}
template <class Vec>
CBENCH_INLINE Vec fill(double x);
template <>
CBENCH_INLINE Floats fill<Floats>(double x) {
    return static_cast<float>(x) - Floats{};   // x - 0 is x, -0 too
}
template <>
CBENCH_INLINE Doubles fill<Doubles>(double x) {
    return x - Doubles{};
}

// a b + c, rounded once where the instruction set can.
#if defined(__GNUC__) && defined(__AVX512F__)
CBENCH_INLINE Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
CBENCH_INLINE Doubles fused(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__GNUC__) && defined(__AVX2__)
CBENCH_INLINE Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
CBENCH_INLINE Doubles fused(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
#else
CBENCH_INLINE Floats fused(Floats a, Floats b, Floats c) { return a * b + c; }
CBENCH_INLINE Doubles fused(Doubles a, Doubles b, Doubles c) { return a * b + c; }
#endif

// e^f 2^n for |f| <= ln 2 / 2, by the power series up to f^degree; n lies in the lowest bits of `whole`.
template <class Vec, class Bits>
CBENCH_INLINE Vec scaled_series(Vec f, int degree, Vec whole, int mantissa) {
    double inverse = 1;   // 1 / degree!
    for (int k = 2; k <= degree; ++k) inverse /= k;
    Vec y = fill<Vec>(inverse);
#pragma GCC unroll 16
    for (int k = degree; k > 0; --k) y = fused(y, f, fill<Vec>(inverse *= k));
    Bits bits, n;
    std::memcpy(&bits, &y, sizeof y);
    std::memcpy(&n, &whole, sizeof n);
    bits += n << mantissa;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

constexpr double kLog2e = 1.4426950408889634;

// e^x, relative error some units of the last place; x is kept where that is a normal number.
CBENCH_INLINE Floats exponential(Floats x) {
    const Floats low = fill<Floats>(-87), high = fill<Floats>(88), round = fill<Floats>(12582912.0);   // 1.5 * 2^23
    x = x < low ? low : x;
    x = x > high ? high : x;
    const Floats whole = fused(x, fill<Floats>(kLog2e), round), n = whole - round;
    const Floats f = fused(n, fill<Floats>(2.12194440e-4), fused(n, fill<Floats>(-0.693359375), x));
    return scaled_series<Floats, FloatBits>(f, 7, whole, 23);
}
CBENCH_INLINE Doubles exponential(Doubles x) {
    const Doubles low = fill<Doubles>(-708), high = fill<Doubles>(709), round = fill<Doubles>(6755399441055744.0);
    x = x < low ? low : x;
    x = x > high ? high : x;
    const Doubles whole = fused(x, fill<Doubles>(kLog2e), round), n = whole - round;
    const Doubles f = fused(n, fill<Doubles>(-1.9082149292705877e-10), fused(n, fill<Doubles>(-0.6931471803691238), x));
    return scaled_series<Doubles, DoubleBits>(f, 13, whole, 52);
}

}  // namespace
}  // namespace cbench
