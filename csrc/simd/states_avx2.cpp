// Finite-state decoding, AVX2: two comparisons find the block of 32 starts, two more the symbol.
#include <immintrin.h>

#include "states_loop.hpp"

namespace cbench {

namespace {

struct CountBelow {   // how many of 32 numbers are at most `slot`
    static inline int count(const uint16_t* numbers, uint32_t slot) {
        const __m256i key = _mm256_set1_epi16(static_cast<short>(slot));
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers));
        const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + 16));
        const __m256i below = _mm256_packs_epi16(_mm256_cmpeq_epi16(_mm256_min_epu16(a, key), a),
                                                 _mm256_cmpeq_epi16(_mm256_min_epu16(b, key), b));
        return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_epi8(below)));
    }
};

}  // namespace

extern const DecodeRows kDecodeRowsAvx2;
const DecodeRows kDecodeRowsAvx2 = decode_rows_any<BlockSearch<CountBelow>>;

}  // namespace cbench
