// The LineRWKV kernels compiled for the AVX512 instruction set, named by this file.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512vnni")   // line_kernels() makes sure of it
#define LINERWKV_VNNI
#endif
#define LINERWKV_NAME "avx512"
#include "linerwkv_kernels_impl.hpp"

namespace cbench {
extern const LineKernels kLineAvx512;
const LineKernels kLineAvx512 = LINERWKV_TABLE;
}  // namespace cbench
