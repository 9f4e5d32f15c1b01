// Vectors of eight 16-bit numbers for planes.hpp: with SSE2, which every x86-64 has, with NEON, which every 64-bit ARM
// has, or with what the compiler makes of vectors elsewhere.
#pragma once
#include <cstring>

#include "kernels.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CBENCH_NEON
#include <arm_neon.h>
#endif

namespace cbench {
namespace {   // no external linkage, see kernels.hpp

#if defined(__SSE2__)

struct Vector8 {
    using T = __m128i;
    using Shift = __m128i;
    static constexpr int kLanes = 8;
    static T load(const void* p) { return _mm_loadu_si128(static_cast<const T*>(p)); }
    static void store(void* p, T a) { _mm_storeu_si128(static_cast<T*>(p), a); }
    static T set(int a) { return _mm_set1_epi16(static_cast<short>(a)); }
    static T add(T a, T b) { return _mm_add_epi16(a, b); }
    static T sub(T a, T b) { return _mm_sub_epi16(a, b); }
    static T mul_low(T a, T b) { return _mm_mullo_epi16(a, b); }
    static T mul_high(T a, T b) { return _mm_mulhi_epu16(a, b); }
    static T bit_and(T a, T b) { return _mm_and_si128(a, b); }
    static T bit_or(T a, T b) { return _mm_or_si128(a, b); }
    static T equal(T a, T b) { return _mm_cmpeq_epi16(a, b); }
    static bool any(T a) { return _mm_movemask_epi8(_mm_cmpeq_epi16(a, set(0))) != 0xffff; }
    static T less(T a, T b) { return _mm_subs_epu16(a, b); }
    static T least(T a, T b) { return sub(a, less(a, b)); }
    static T average(T a, T b) { return _mm_avg_epu16(a, b); }
    static T carry(T sum, T part) { return add(equal(less(part, sum), set(0)), set(1)); }
    static T select(T mask, T a, T b) { return bit_or(bit_and(mask, a), _mm_andnot_si128(mask, b)); }
    static T half(T a) { return _mm_srai_epi16(a, 1); }
    static Shift shift(int by) { return _mm_cvtsi32_si128(by); }
    static T right(T a, Shift by) { return _mm_srl_epi16(a, by); }
    static void widen(T a, int32_t* to) {
        store(to, _mm_srai_epi32(_mm_unpacklo_epi16(a, a), 16));
        store(to + 4, _mm_srai_epi32(_mm_unpackhi_epi16(a, a), 16));
    }
    static void narrow(T a, uint8_t* to) { _mm_storel_epi64(reinterpret_cast<T*>(to), _mm_packus_epi16(a, a)); }
    template <class Index>
    static void fetch(const uint64_t* table, const Index* at, T* word) {
        const auto two = [&](int l) {
            const T even = _mm_loadl_epi64(reinterpret_cast<const T*>(table + at[l]));
            const auto* odd = reinterpret_cast<const __m64*>(table + at[l + 1]);
            return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(even), odd));
        };
        const T e0 = two(0), e1 = two(2), e2 = two(4), e3 = two(6);
        const T a0 = _mm_unpacklo_epi16(e0, e1), a1 = _mm_unpackhi_epi16(e0, e1);
        const T b0 = _mm_unpacklo_epi16(e2, e3), b1 = _mm_unpackhi_epi16(e2, e3);
        const T low_a = _mm_unpacklo_epi16(a0, a1), high_a = _mm_unpackhi_epi16(a0, a1);
        const T low_b = _mm_unpacklo_epi16(b0, b1), high_b = _mm_unpackhi_epi16(b0, b1);
        word[0] = _mm_unpacklo_epi64(low_a, low_b);
        word[1] = _mm_unpackhi_epi64(low_a, low_b);
        word[2] = _mm_unpacklo_epi64(high_a, high_b);
        word[3] = _mm_unpackhi_epi64(high_a, high_b);
    }
    static T expand(T low, T y, const uint16_t*& word) {
        const T ones = _mm_srli_epi16(low, 15);
        T sum = add(ones, _mm_slli_si128(ones, 2));   // marked lanes up to this one
        sum = add(sum, _mm_slli_si128(sum, 4));
        sum = add(sum, _mm_slli_si128(sum, 8));
        alignas(16) uint16_t at[8];
        store(at, sub(sum, ones));
        asm("" : "+m"(at));   // quicker than out of a vector register
        T words = _mm_cvtsi32_si128(word[at[0]]);
        words = _mm_insert_epi16(words, word[at[1]], 1);
        words = _mm_insert_epi16(words, word[at[2]], 2);
        words = _mm_insert_epi16(words, word[at[3]], 3);
        words = _mm_insert_epi16(words, word[at[4]], 4);
        words = _mm_insert_epi16(words, word[at[5]], 5);
        words = _mm_insert_epi16(words, word[at[6]], 6);
        words = _mm_insert_epi16(words, word[at[7]], 7);
        word += _mm_extract_epi16(sum, 7);
        return select(low, words, y);
    }
};

#elif defined(CBENCH_NEON)

struct Vector8 {
    using T = uint16x8_t;
    using Shift = int16x8_t;
    static constexpr int kLanes = 8;
    static T load(const void* p) { return vld1q_u16(static_cast<const uint16_t*>(p)); }
    static void store(void* p, T a) { vst1q_u16(static_cast<uint16_t*>(p), a); }
    static T set(int a) { return vdupq_n_u16(static_cast<uint16_t>(a)); }
    static T add(T a, T b) { return vaddq_u16(a, b); }
    static T sub(T a, T b) { return vsubq_u16(a, b); }
    static T mul_low(T a, T b) { return vmulq_u16(a, b); }
    static T mul_high(T a, T b) {
        const uint32x4_t low = vmull_u16(vget_low_u16(a), vget_low_u16(b)), high = vmull_high_u16(a, b);
        return vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
    }
    static T bit_and(T a, T b) { return vandq_u16(a, b); }
    static T bit_or(T a, T b) { return vorrq_u16(a, b); }
    static T equal(T a, T b) { return vceqq_u16(a, b); }
    static bool any(T a) { return vmaxvq_u16(a) != 0; }
    static T less(T a, T b) { return vqsubq_u16(a, b); }
    static T least(T a, T b) { return vminq_u16(a, b); }
    static T average(T a, T b) { return vrhaddq_u16(a, b); }
    static T carry(T sum, T part) { return vshrq_n_u16(vcltq_u16(sum, part), 15); }
    static T select(T mask, T a, T b) { return vbslq_u16(mask, a, b); }
    static T half(T a) { return vreinterpretq_u16_s16(vshrq_n_s16(vreinterpretq_s16_u16(a), 1)); }
    static Shift shift(int by) { return vdupq_n_s16(static_cast<int16_t>(-by)); }
    static T right(T a, Shift by) { return vshlq_u16(a, by); }
    static void widen(T a, int32_t* to) {
        vst1q_s32(to, vmovl_s16(vget_low_s16(vreinterpretq_s16_u16(a))));
        vst1q_s32(to + 4, vmovl_high_s16(vreinterpretq_s16_u16(a)));
    }
    static void narrow(T a, uint8_t* to) { vst1_u8(to, vmovn_u16(a)); }
    template <class Index>
    static void fetch(const uint64_t* table, const Index* at, T* word) {
        alignas(16) uint64_t e[8];
        for (int l = 0; l < 8; ++l) e[l] = table[at[l]];
        const uint16x8x4_t words = vld4q_u16(reinterpret_cast<const uint16_t*>(e));
        for (int w = 0; w < 4; ++w) word[w] = words.val[w];
    }
    // Byte numbers of the next words, in the marked lanes: twice the marked lanes before, and one more.
    static T expand(T low, T y, const uint16_t*& word) {
        const uint16x8_t ones = vshrq_n_u16(low, 15), zero = set(0);
        uint16x8_t sum = vaddq_u16(ones, vextq_u16(zero, ones, 7));
        sum = vaddq_u16(sum, vextq_u16(zero, sum, 6));
        sum = vaddq_u16(sum, vextq_u16(zero, sum, 4));
        const uint16x8_t bytes = vmlaq_n_u16(set(0x100), vsubq_u16(sum, ones), 0x202);
        const uint8x16_t words = vqtbl1q_u8(vreinterpretq_u8_u16(load(word)), vreinterpretq_u8_u16(bytes));
        word += vgetq_lane_u16(sum, 7);
        return select(low, vreinterpretq_u16_u8(words), y);
    }
};

#else

struct Vector8 {
    using T = uint16_t __attribute__((vector_size(16)));
    using Signed = int16_t __attribute__((vector_size(16)));
    using Wide = uint32_t __attribute__((vector_size(32)));
    using Shift = int;
    static constexpr int kLanes = 8;
    static T load(const void* p) {
        T a;
        std::memcpy(&a, p, sizeof a);
        return a;
    }
    static void store(void* p, T a) { std::memcpy(p, &a, sizeof a); }
    static T set(int a) { return T{} + static_cast<uint16_t>(a); }
    static T add(T a, T b) { return a + b; }
    static T sub(T a, T b) { return a - b; }
    static T mul_low(T a, T b) { return a * b; }
    static T mul_high(T a, T b) {
        return __builtin_convertvector(__builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide) >> 16, T);
    }
    static T bit_and(T a, T b) { return a & b; }
    static T bit_or(T a, T b) { return a | b; }
    static T equal(T a, T b) { return reinterpret_cast<T>(a == b); }
    static T less(T a, T b) { return (a - b) & reinterpret_cast<T>(a > b); }
    static T least(T a, T b) { return a < b ? a : b; }
    static T average(T a, T b) { return (a | b) - ((a ^ b) >> 1); }
    static T carry(T sum, T part) { return reinterpret_cast<T>(sum < part) & 1; }
    static bool any(T a) {
        uint64_t half[2];
        std::memcpy(half, &a, sizeof half);
        return (half[0] | half[1]) != 0;
    }
    static T select(T mask, T a, T b) { return b ^ ((a ^ b) & mask); }
    static T half(T a) { return reinterpret_cast<T>(reinterpret_cast<Signed>(a) >> 1); }
    static Shift shift(int by) { return by; }
    static T right(T a, Shift by) { return a >> static_cast<uint16_t>(by); }
    static void widen(T a, int32_t* to) {
        for (int l = 0; l < 8; ++l) to[l] = static_cast<int16_t>(a[l]);
    }
    static void narrow(T a, uint8_t* to) {
        for (int l = 0; l < 8; ++l) to[l] = static_cast<uint8_t>(a[l]);
    }
    template <class Index>
    static void fetch(const uint64_t* table, const Index* at, T* word) {
        alignas(16) uint16_t part[4][8];
        for (int l = 0; l < 8; ++l)
            for (int w = 0; w < 4; ++w) part[w][l] = static_cast<uint16_t>(table[at[l]] >> (16 * w));
        for (int w = 0; w < 4; ++w) word[w] = load(part[w]);
    }
    static T expand(T low, T y, const uint16_t*& word) {
        alignas(16) uint16_t marked[8], a[8];
        store(marked, low);
        store(a, y);
        for (int l = 0; l < 8; ++l) {   // without a branch, which nobody could predict
            a[l] = static_cast<uint16_t>(a[l] ^ ((a[l] ^ *word) & marked[l]));
            word += marked[l] & 1;
        }
        return load(a);
    }
};

#endif

}  // namespace
}  // namespace cbench
