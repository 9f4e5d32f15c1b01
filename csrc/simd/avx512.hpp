// What the AVX-512 kernel files share (F, BW, VL, DQ, CD, VBMI, VBMI2).
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"   // false alarms inside the compiler's own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "kernels.hpp"

namespace cbench {
namespace avx512 {

// Kernels of decode_avx512.cpp.
size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups);
size_t decode_two(DecodeJob& one, DecodeJob& two, const TableView& t, int32_t* out_one, int32_t* out_two, size_t groups);
size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups);
size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups);

namespace {   // no external linkage, see kernels.hpp

constexpr int kSelect = 0xca;   // ternary logic: first ? second : third, bit by bit

// 256 bytes in four registers, looked up 64 at a time.
struct Bytes256 {
    __m512i part[4];
    explicit Bytes256(const uint8_t* table) {
        for (int i = 0; i < 4; ++i) part[i] = _mm512_loadu_si512(table + 64 * i);
    }
    __m512i operator()(__m512i at) const {
        // 255 where `at` is below 128: a byte shuffle knows, and is quicker than the way through a mask register
        const __m512i lower = _mm512_shuffle_epi8(_mm512_set1_epi8(-1), at);
        return _mm512_ternarylogic_epi32(lower, _mm512_permutex2var_epi8(part[0], at, part[1]),
                                         _mm512_permutex2var_epi8(part[2], at, part[3]), kSelect);
    }
};

}  // namespace
}  // namespace avx512
}  // namespace cbench
