// The LineRWKV kernels compiled for the AVX2 instruction set, named by this file.
#define LINERWKV_NAME "avx2"
#include "linerwkv_kernels_impl.hpp"

namespace cbench {
extern const LineKernels kLineAvx2;
const LineKernels kLineAvx2 = LINERWKV_TABLE;
}  // namespace cbench
