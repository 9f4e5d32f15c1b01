// Finite-state decoding, AVX-512: one comparison finds the block of 32 starts, one more the symbol.
#include <immintrin.h>

#include "states_loop.hpp"

namespace cbench {

namespace {

struct CountBelow {   // how many of 32 numbers are at most `slot`
    static inline int count(const uint16_t* numbers, uint32_t slot) {
        const __m512i key = _mm512_set1_epi16(static_cast<short>(slot));
        return static_cast<int>(_mm_popcnt_u32(_mm512_cmple_epu16_mask(_mm512_loadu_si512(numbers), key)));
    }
};

}  // namespace

extern const DecodeRows kDecodeRowsAvx512;
const DecodeRows kDecodeRowsAvx512 = decode_rows_any<BlockSearch<CountBelow>>;

}  // namespace cbench
