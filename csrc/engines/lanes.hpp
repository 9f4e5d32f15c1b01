// Eight doubles that are worked on in step, and the functions of them that the engines need.
//
// Everything is +, -, *, /, square root and bit operations in a stated order, so that one AVX-512 register, two AVX
// ones, four SSE ones and eight plain doubles give the same bits. The files that include this are compiled for
// different instruction sets: all of it has internal linkage, so that the linker cannot mix them.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if !defined(__GNUC__)
#include <cmath>
#endif

namespace cbench {
namespace {

constexpr int kLanes = 8;
#if defined(__GNUC__)
#if defined(__AVX512F__)
constexpr int kParts = 1;
#elif defined(__AVX__)
constexpr int kParts = 2;
#else
constexpr int kParts = 4;
#endif
#define CBENCH_INLINE inline __attribute__((always_inline, unused))
typedef double Part __attribute__((vector_size(64 / kParts)));
typedef uint64_t PartBits __attribute__((vector_size(64 / kParts)));
CBENCH_INLINE double square_root(double x) { return __builtin_sqrt(x); }
CBENCH_INLINE double magnitude(double x) { return __builtin_fabs(x); }
#else
constexpr int kParts = kLanes;
#define CBENCH_INLINE inline
using Part = double;
using PartBits = uint64_t;
CBENCH_INLINE double square_root(double x) { return std::sqrt(x); }
CBENCH_INLINE double magnitude(double x) { return std::fabs(x); }
#endif

struct F8 {
    Part p[kParts];
};
struct I8 {
    PartBits p[kParts];
};

// Copies go part by part: GCC keeps larger ones in memory.
constexpr int kPartLanes = kLanes / kParts;
CBENCH_INLINE Part load_part(const double* from) {
    Part p;
    std::memcpy(&p, from, sizeof p);
    return p;
}
CBENCH_INLINE void store_part(double* to, Part p) { std::memcpy(to, &p, sizeof p); }
CBENCH_INLINE F8 load(const double* from) {
    F8 v;
    for (int i = 0; i < kParts; ++i) v.p[i] = load_part(from + i * kPartLanes);
    return v;
}
CBENCH_INLINE void store(double* to, F8 v) {
    for (int i = 0; i < kParts; ++i) store_part(to + i * kPartLanes, v.p[i]);
}
CBENCH_INLINE F8 all(double x) {
    F8 v;
    for (Part& p : v.p) p = x - Part{};   // x - 0 is x, -0 too
    return v;
}
CBENCH_INLINE F8 operator+(F8 a, F8 b) {
    for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] + b.p[i];
    return a;
}
CBENCH_INLINE F8 operator-(F8 a, F8 b) {
    for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] - b.p[i];
    return a;
}
CBENCH_INLINE F8 operator*(F8 a, F8 b) {
    for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] * b.p[i];
    return a;
}
CBENCH_INLINE F8 operator/(F8 a, F8 b) {
    for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] / b.p[i];
    return a;
}
// a where a < b, else b (so b where a is no number).
CBENCH_INLINE F8 lower(F8 a, F8 b) {
    for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] < b.p[i] ? a.p[i] : b.p[i];
    return a;
}
CBENCH_INLINE F8 upper(F8 a, F8 b) {
    for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] > b.p[i] ? a.p[i] : b.p[i];
    return a;
}
CBENCH_INLINE I8 bits_of(F8 v) {
    I8 b;
    for (int i = 0; i < kParts; ++i) std::memcpy(&b.p[i], &v.p[i], sizeof b.p[i]);
    return b;
}
CBENCH_INLINE F8 of_bits(I8 b) {
    F8 v;
    for (int i = 0; i < kParts; ++i) std::memcpy(&v.p[i], &b.p[i], sizeof v.p[i]);
    return v;
}
CBENCH_INLINE I8 masked(I8 a, uint64_t m) {
    for (PartBits& p : a.p) p = p & m;
    return a;
}
CBENCH_INLINE F8 magnitude(F8 v) { return of_bits(masked(bits_of(v), 0x7fffffffffffffff)); }

// The sum of all lanes: always ((0+4) + (2+6)) + ((1+5) + (3+7)).
CBENCH_INLINE double sum(F8 v) {
    double x[kLanes];
    store(x, v);
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

constexpr double kRound = 6755399441055744.0;   // 1.5 * 2^52: adding it leaves the nearest integer in the lowest bits

// 2^x for |x| < 1000, relative error below 2e-7.
CBENCH_INLINE F8 exp2_8(F8 x) {
    const F8 shifted = x + all(kRound);
    const F8 f = x - (shifted - all(kRound));
    F8 y = all(1.535336188e-4);
    y = y * f + all(1.339887440e-3);
    y = y * f + all(9.618437357e-3);
    y = y * f + all(5.550332548e-2);
    y = y * f + all(2.402264791e-1);
    y = y * f + all(6.931472028e-1);
    y = y * f + all(1.0);
    I8 bits = bits_of(y);
    const I8 whole = bits_of(shifted);
    for (int i = 0; i < kParts; ++i) bits.p[i] += whole.p[i] << 52;
    return of_bits(bits);
}

// 2^x of one number, by the same steps.
CBENCH_INLINE double exp2_1(double x) {
    const double shifted = x + kRound, f = x - (shifted - kRound);
    double y = 1.535336188e-4;
    y = y * f + 1.339887440e-3;
    y = y * f + 9.618437357e-3;
    y = y * f + 5.550332548e-2;
    y = y * f + 2.402264791e-1;
    y = y * f + 6.931472028e-1;
    y = y * f + 1.0;
    uint64_t bits, whole;
    std::memcpy(&bits, &y, sizeof bits);
    std::memcpy(&whole, &shifted, sizeof whole);
    bits += whole << 52;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

// log2 of positive normal numbers, error below 1e-5.
CBENCH_INLINE F8 log2_8(F8 x) {
    I8 exponent = bits_of(x), fraction = exponent;
    for (PartBits& p : exponent.p) p = (p >> 52) | 0x4330000000000000;
    for (PartBits& p : fraction.p) p = (p & 0x000fffffffffffff) | 0x3ff0000000000000;
    const F8 m = of_bits(fraction);
    const F8 t = (m - all(1.0)) / (m + all(1.0)), t2 = t * t;
    F8 y = all(0.320598898);
    y = y * t2 + all(0.412198583);
    y = y * t2 + all(0.577078016);
    y = y * t2 + all(0.961796694);
    y = y * t2 + all(2.885390082);
    return y * t + (of_bits(exponent) - all(4503599627370496.0 + 1023.0));
}

// table[2 i] and table[2 i + 1] for the eight indices i.
CBENCH_INLINE void look_up(const double* table, I8 index, F8& first, F8& second) {
#if defined(__AVX512F__)
    // With a mask: the plain form makes GCC warn of its own header.
    const auto at = reinterpret_cast<__m512i>(index.p[0] << 1);
    const __m512d none = _mm512_setzero_pd();
    first.p[0] = _mm512_mask_i64gather_pd(none, 0xff, at, table, 8);
    second.p[0] = _mm512_mask_i64gather_pd(none, 0xff, at, table + 1, 8);
#else
    uint64_t at[kLanes];
    double a[kLanes], b[kLanes];
    for (int i = 0; i < kParts; ++i) std::memcpy(at + i * kPartLanes, &index.p[i], sizeof index.p[i]);
    for (int l = 0; l < kLanes; ++l) {
        a[l] = table[2 * at[l]];
        b[l] = table[2 * at[l] + 1];
    }
    first = load(a);
    second = load(b);
#endif
}

}  // namespace
}  // namespace cbench
