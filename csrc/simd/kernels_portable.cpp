// Portable kernels: the plain statement of what the vector kernels do.
#include <cstring>

#include "kernels.hpp"
#include "passes.hpp"
#include "planes.hpp"
#include "vector8.hpp"

namespace cbench {
namespace portable {

template <int N>
uint16_t* encode_lanes(uint64_t* state, const Op* ops, size_t groups, uint16_t* word) {
    uint64_t x[N];
    std::memcpy(x, state, sizeof x);
    for (size_t g = groups; g-- > 0;) {
        const Op* op = ops + g * N;
        for (int l = N - 1; l >= 0; --l) {
            const uint64_t f = op_frequency(op[l]);
            const bool full = x[l] >= f << 32;
            word[-1] = static_cast<uint16_t>(x[l]);
            word -= full;
            const uint64_t y = full ? x[l] >> 16 : x[l];
            // y / f < 2^32 and f <= 2^16: a correctly rounded double quotient never reaches the next integer
            const auto q = static_cast<uint64_t>(static_cast<double>(static_cast<int64_t>(y)) /
                                                 static_cast<double>(static_cast<int64_t>(f)));
            x[l] = y + q * (65536 - f) + op_start(op[l]);
        }
    }
    std::memcpy(state, x, sizeof x);
    return word;
}

uint16_t* encode(uint64_t* x, int lanes, const Op* ops, size_t groups, uint16_t* end) {
    return lanes == 64   ? encode_lanes<64>(x, ops, groups, end)
           : lanes == 32 ? encode_lanes<32>(x, ops, groups, end)
                         : encode_lanes<8>(x, ops, groups, end);
}

}  // namespace portable

extern const Kernels kPortable;
const Kernels kPortable = {"portable",
                           portable::encode,
                           resolve_plain,
                           resolve_bits,
                           decode_static<Vector8>,
                           decode_indexed<Vector8>,
                           decode_bits<Vector8>,
                           nullptr,
                           largest,
                           all_bits,
                           least,
                           sum,
                           hash_blocks};

}  // namespace cbench
