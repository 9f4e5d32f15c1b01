// The short passes over whole arrays (checks, the stream's hash). Plain loops that every kernel file compiles for its own
// instruction set: on memory that is in the cache they would otherwise take as long as the coding itself.
#pragma once
#include <cstring>

#include "kernels.hpp"

namespace cbench {
namespace {   // no external linkage, see kernels.hpp

// Encoding takes arrays in chunks from their end. No processor foresees where the next chunk starts, so loops ask for what
// lies 16 KiB before (an address that may lie outside the array, which a prefetch may).
inline void prefetch_before(const void* p) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) - 16384));
}

// Compilers would make gathers of table look-ups, or collect single loads in vectors; plain loads and stores are quicker.
template <class T>
inline T load_alone(const T* p) {
    T value = *p;
#if defined(__GNUC__)
    asm("" : "+r"(value));
#endif
    return value;
}

// Symbols from..n-1 -> ops, one by one.
size_t resolve_from(size_t from, const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    for (size_t i = from; i < n; ++i) {
        if (i % 16 == 0) {
            prefetch_before(symbols + i);
            if (index) prefetch_before(index + i);
        }
        const int32_t table = index ? index[i] : 0;
        uint32_t k = static_cast<uint32_t>(symbols[i]) - static_cast<uint32_t>(t.offset[table]);
        if (__builtin_expect(k >= static_cast<uint32_t>(t.size[table]), 0)) {
            if (!t.escape) return i;
            k = static_cast<uint32_t>(t.size[table]);
        }
        ops[i] = load_alone(t.entry + static_cast<uint32_t>(t.first[table]) + k);
    }
    return n;
}

// The same, the symbols of a static table being checked 16 at a time.
size_t resolve_plain(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    if (index) return resolve_from(0, t, symbols, index, n, ops);
    const auto size = static_cast<uint32_t>(t.size[0]), offset = static_cast<uint32_t>(t.offset[0]);
    const Op* entry = t.entry + t.first[0];
    for (size_t i = 0; i < n; i += 16) {
        const size_t end = n - i < 16 ? n : i + 16;
        uint32_t outside = end - i < 16;
        if (!outside)
            for (size_t j = i; j < i + 16; ++j) outside |= static_cast<uint32_t>(symbols[j]) - offset >= size ? 1u : 0u;
        if (__builtin_expect(outside, 0)) {
            const size_t done = resolve_from(i, t, symbols, nullptr, end, ops);
            if (done != end) return done;
            continue;
        }
        prefetch_before(symbols + i);
        for (size_t j = i; j < i + 16; ++j) ops[j] = load_alone(entry + (static_cast<uint32_t>(symbols[j]) - offset));
    }
    return n;
}

void resolve_bits(const uint8_t* bits, const uint16_t* p1, size_t n, Op* ops) {
    for (size_t i = 0; i < n; ++i) {
        const uint32_t p = p1[i], zero = p | (65535 - p) << 16, one = (p - 1) << 16;
        ops[i] = bits[i] ? one : zero;
    }
}

uint32_t largest(const int32_t* values, size_t n) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; ++i) {
        const auto v = static_cast<uint32_t>(values[i]);
        most = v > most ? v : most;
    }
    return most;
}

uint8_t all_bits(const uint8_t* values, size_t n) {
    uint8_t all = 0;
    for (size_t i = 0; i < n; ++i) all = static_cast<uint8_t>(all | values[i]);
    return all;
}

uint16_t least(const uint16_t* values, size_t n) {
    uint16_t least = 65535;
    for (size_t i = 0; i < n; ++i) least = values[i] < least ? values[i] : least;
    return least;
}

uint32_t sum(const uint16_t* values, size_t n) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum += values[i];
    return sum;
}

void hash_blocks(const uint8_t* data, size_t blocks, uint32_t* part) {
    uint32_t h[kHashParts];   // a local copy stays in registers
    std::memcpy(h, part, sizeof h);
    for (size_t b = 0; b < blocks; ++b, data += 2 * kHashParts) {
        for (int j = 0; j < kHashParts; ++j) {
            uint16_t word;
            std::memcpy(&word, data + 2 * j, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            word = static_cast<uint16_t>(word << 8 | word >> 8);
#endif
            h[j] = h[j] * kHashFactor + word;
        }
    }
    std::memcpy(part, h, sizeof h);
}

}  // namespace
}  // namespace cbench
