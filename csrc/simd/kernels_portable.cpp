// Portable kernels: the plain statement of what the vector kernels do.
#include <cstring>

#include "kernels.hpp"

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

size_t resolve(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    for (size_t i = 0; i < n; ++i) {
        const int32_t table = index ? index[i] : 0, size = t.size[table];
        uint32_t k = static_cast<uint32_t>(symbols[i]) - static_cast<uint32_t>(t.offset[table]);
        if (k >= static_cast<uint32_t>(size)) {
            if (!t.escape) return i;
            k = static_cast<uint32_t>(size);
        }
        ops[i] = t.entry[static_cast<uint32_t>(t.first[table]) + k];
    }
    return n;
}

void resolve_bits(const uint8_t* bits, const uint16_t* p1, size_t n, Op* ops) {
    for (size_t i = 0; i < n; ++i) {
        const uint32_t p = p1[i];
        ops[i] = bits[i] ? (p - 1) << 16 : p | (65535 - p) << 16;
    }
}

// Takes one word where the state has fallen below 2^32, without a branch.
inline void refill(uint64_t& x, const uint16_t*& word) {
    const uint64_t low = x < kLow;
    x = x << (low << 4) | (*word & (0 - low));
    word += low;
}

template <int N, bool kIndexed>
size_t decode_lanes(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    uint64_t x[N];
    std::memcpy(x, job.x, sizeof x);
    const uint16_t* word = job.word;
    const int shift = 16 - t.bucket_bits;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        for (int l = 0; l < N; ++l) {
            const size_t i = g * N + static_cast<size_t>(l);
            const uint32_t table = kIndexed ? static_cast<uint32_t>(index[i]) : 0;
            const uint32_t slot = x[l] & 0xffff;
            const uint64_t b = t.bucket[(static_cast<size_t>(table) << t.bucket_bits) + (slot >> shift)];
            uint32_t rest = slot - (b & 0xffff), less = b >> 16 & 0xffff;
            auto value = static_cast<int32_t>(b >> 32);
            if (__builtin_expect(rest > less, 0)) {
                int32_t k = value - t.offset[table];
                const Op* row = t.entry + t.first[table];
                do ++k;
                while (slot - op_start(row[k]) > (row[k] >> 16));
                rest = slot - op_start(row[k]);
                less = row[k] >> 16;
                value = k < t.size[table] ? t.offset[table] + k : kEscaped;
            }
            out[i] = value;
            x[l] = (x[l] >> 16) * (less + 1) + rest;
            refill(x[l], word);
        }
    }
    std::memcpy(job.x, x, sizeof x);
    job.word = word;
    return g;
}

size_t decode_static(DecodeJob& job, const TableView& t, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_lanes<64, false>(job, t, nullptr, out, groups)
           : job.lanes == 32 ? decode_lanes<32, false>(job, t, nullptr, out, groups)
                             : decode_lanes<8, false>(job, t, nullptr, out, groups);
}

size_t decode_indexed(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups) {
    return job.lanes == 64   ? decode_lanes<64, true>(job, t, index, out, groups)
           : job.lanes == 32 ? decode_lanes<32, true>(job, t, index, out, groups)
                             : decode_lanes<8, true>(job, t, index, out, groups);
}

template <int N>
size_t decode_bit_lanes(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    uint64_t x[N];
    std::memcpy(x, job.x, sizeof x);
    const uint16_t* word = job.word;
    size_t g = 0;
    for (; g < groups && word <= job.limit; ++g) {
        for (int l = 0; l < N; ++l) {
            const size_t i = g * N + static_cast<size_t>(l);
            const uint64_t p = p1[i], slot = x[l] & 0xffff, zero = slot >= p, mask = 0 - zero;
            const uint64_t f = p ^ ((p ^ (65536 - p)) & mask);
            x[l] = (x[l] >> 16) * f + slot - (p & mask);
            out[i] = static_cast<uint8_t>(1 - zero);
            refill(x[l], word);
        }
    }
    std::memcpy(job.x, x, sizeof x);
    job.word = word;
    return g;
}

size_t decode_bits(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups) {
    return job.lanes == 64   ? decode_bit_lanes<64>(job, p1, out, groups)
           : job.lanes == 32 ? decode_bit_lanes<32>(job, p1, out, groups)
                             : decode_bit_lanes<8>(job, p1, out, groups);
}

}  // namespace portable

extern const Kernels kPortable;
const Kernels kPortable = {"portable",
                           portable::encode,
                           portable::resolve,
                           portable::resolve_bits,
                           portable::decode_static,
                           portable::decode_indexed,
                           portable::decode_bits};

}  // namespace cbench
