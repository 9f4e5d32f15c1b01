// The rows of the hyperspectral engine, compiled for AVX-512.
#include "rls_row.hpp"

namespace cbench::rls {

extern const RowKernels kRowAvx512;
const RowKernels kRowAvx512 = {"avx512", encode_row, decode_row};

}  // namespace cbench::rls
