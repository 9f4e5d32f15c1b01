// Finite-state decoding, portable: a branch-free binary search in each row. Also picks the kernel.
#include <cstring>

#include "states_loop.hpp"

namespace cbench {

namespace {

struct BinarySearch {
    static inline int symbol(const uint16_t* start, int symbols, uint32_t slot) {
        int at = 0;
        for (int left = symbols; left > 1;) {
            const int half = left / 2;
            at += start[at + half] <= slot ? half : 0;
            left -= half;
        }
        return at;
    }
};

}  // namespace

#if defined(__x86_64__)
extern const DecodeRows kDecodeRowsAvx2, kDecodeRowsAvx512;
#endif

DecodeRows decode_rows_kernel() {
#if defined(__x86_64__)
    if (!std::strcmp(kernels().name, "avx512")) return kDecodeRowsAvx512;
    if (!std::strcmp(kernels().name, "avx2")) return kDecodeRowsAvx2;
#endif
    return decode_rows_any<BinarySearch>;
}

}  // namespace cbench
