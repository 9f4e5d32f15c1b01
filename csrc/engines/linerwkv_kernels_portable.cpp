// The LineRWKV kernels compiled for the compiler's default instruction set.
#define LINERWKV_NAME "portable"
#include "linerwkv_kernels_impl.hpp"

namespace cbench {
extern const LineKernels kLinePortable;
const LineKernels kLinePortable = LINERWKV_TABLE;
}  // namespace cbench
