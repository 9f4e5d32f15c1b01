// Mixture coding on vectors of any width; each instruction set includes this file and names the width that it wants.
#pragma once
#include <cstring>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "mixture_value.hpp"

namespace cbench {
namespace {

template <int N>
struct Vectors {
    typedef int32_t I __attribute__((vector_size(4 * N)));
    typedef uint32_t U __attribute__((vector_size(4 * N)));
    typedef uint8_t B __attribute__((vector_size(N)));
};
template <int N>
using I = typename Vectors<N>::I;
template <int N>
using U = typename Vectors<N>::U;

template <class Vector>
inline Vector load(const void* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
template <class Vector>
inline void store(void* to, const Vector& v) {
    std::memcpy(to, &v, sizeof v);
}

template <int N>
inline U<N> gather(const uint32_t* table, U<N> at) {
#if defined(__AVX512F__)
    if constexpr (N == 16) return (U<N>)_mm512_i32gather_epi32((__m512i)at, table, 4);
#endif
#if defined(__AVX2__)
    if constexpr (N == 8) return (U<N>)_mm256_i32gather_epi32(reinterpret_cast<const int*>(table), (__m256i)at, 4);
#endif
    U<N> out;
    for (int i = 0; i < N; ++i) out[i] = table[at[i]];
    return out;
}

// One component of N symbols.
template <int N>
struct Component {
    I<N> mean;
    U<N> power, limit, inverse, weight;

    void set(const MixtureView& m, size_t at) {
        const U<N> scale = __builtin_convertvector(load<typename Vectors<N>::B>(m.scale + at), U<N>);
        mean = load<I<N>>(m.mean + at);
        weight = load<U<N>>(m.weight + at);
        power = scale >> 4;
        limit = 512u << power;
        inverse = gather<N>(kInverse, scale & 15u);
    }
    // As weighted_cdf, at an edge in 1/256 of a symbol.
    U<N> value(const uint32_t* cdf, I<N> edge) const {
        const I<N> distance = edge - mean;
        const auto left = distance < 0;
        U<N> a = (U<N>)(left ? -distance : distance);
        a = (a < limit ? a : limit) << 7 >> power;   // distance / 2^power in 1/2048, at most 2^16
        U<N> z = (a * inverse) >> 14;
        z = z < kLargestZ ? z : U<N>{} + kLargestZ;
        const U<N> entry = gather<N>(cdf, z >> 6);
        const U<N> g = (entry >> 16) + (((entry & 0xffffu) * (z & 63u)) >> 6);
        return weight * (left ? 65536u - g : g);
    }
};

// C(k) for 0 < k < size.
template <int N>
inline U<N> inner_value(const MixtureView& m, const Component<N>* part, I<N> k) {
    const I<N> edge = (k + m.low) * 256 - 128;
    U<N> sum{};
    for (int j = 0; j < m.components; ++j) sum += part[j].value(m.cdf, edge);
    return (U<N>)k + (((sum >> 16) * static_cast<uint32_t>(65536 - m.size)) >> 16);
}

template <int N>
inline U<N> any_value(const MixtureView& m, const Component<N>* part, I<N> k) {
    const U<N> inner = inner_value<N>(m, part, k);
    return k == 0 ? U<N>{} : k == m.size ? U<N>{} + 65536u : inner;
}

template <int N>
inline void set_all(const MixtureView& m, size_t first, Component<N>* part) {
    for (int j = 0; j < m.components; ++j) part[j].set(m, static_cast<size_t>(j) * m.stride + first);
}

template <int N>
inline void search_block(const MixtureView& m, size_t first, const uint32_t* slots, int32_t* out, uint32_t* from_out,
                         uint32_t* to_out) {
    Component<N> part[kMaxComponents];
    set_all<N>(m, first, part);
    const U<N> slot = load<U<N>>(slots);
    I<N> k{};
    U<N> from{}, to = U<N>{} + 65536u;
    for (int32_t left = m.size; left > 1;) {
        const int32_t half = left / 2;
        const I<N> middle = k + half;
        const U<N> value = inner_value<N>(m, part, middle);
        const auto right = value <= slot;
        k = right ? middle : k;
        from = right ? value : from;
        to = right ? to : value;
        left -= half;
    }
    // Sizes that are no power of two can end before the next edge was looked at.
    if (m.size & (m.size - 1)) to = any_value<N>(m, part, k + 1);
    store(out, k);
    store(from_out, from);
    store(to_out, to);
}

template <int N>
inline void interval_block(const MixtureView& m, size_t first, const int32_t* symbols, uint32_t* from, uint32_t* to) {
    Component<N> part[kMaxComponents];
    set_all<N>(m, first, part);
    const I<N> k = load<I<N>>(symbols);
    store(from, any_value<N>(m, part, k));
    store(to, any_value<N>(m, part, k + 1));
}

// Whole vectors of N, then of 8 if that is less, then one by one.
template <int N, class Block>
inline void over(size_t n, Block&& block) {
    size_t i = 0;
    for (; i + N <= n; i += N) block(std::integral_constant<int, N>{}, i);
    if constexpr (N > 8)
        for (; i + 8 <= n; i += 8) block(std::integral_constant<int, 8>{}, i);
    for (; i < n; ++i) block(std::integral_constant<int, 1>{}, i);
}

template <int N>
void interval(const MixtureView& m, size_t first, const int32_t* k, size_t n, uint32_t* from, uint32_t* to) {
    over<N>(n, [&](auto width, size_t i) { interval_block<width>(m, first + i, k + i, from + i, to + i); });
}

template <int N>
void search(const MixtureView& m, size_t first, const uint32_t* slot, size_t n, int32_t* k, uint32_t* from, uint32_t* to) {
    over<N>(n, [&](auto width, size_t i) { search_block<width>(m, first + i, slot + i, k + i, from + i, to + i); });
}

}  // namespace
}  // namespace cbench
