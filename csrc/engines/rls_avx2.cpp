// The rows of the hyperspectral engine, compiled for AVX2.
#include "rls_row.hpp"

namespace cbench::rls {

extern const RowKernels kRowAvx2;
const RowKernels kRowAvx2 = {"avx2", encode_row, decode_row};

}  // namespace cbench::rls
