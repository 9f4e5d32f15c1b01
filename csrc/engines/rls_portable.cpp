// The rows of the hyperspectral engine, for any machine.
#include "rls_row.hpp"

namespace cbench::rls {

extern const RowKernels kRowPortable;
const RowKernels kRowPortable = {"portable", encode_row, decode_row};

}  // namespace cbench::rls
