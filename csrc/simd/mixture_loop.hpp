// Mixture coding around the part that each instruction set writes for itself: adding one component for a block of symbols.
#pragma once
#include "mixture.hpp"

namespace cbench {
namespace {

constexpr size_t kMixtureBlock = 64;

// round(2^14 / 2^(r/16))
alignas(64) constexpr int32_t kInverse[16] = {16384, 15689, 15024, 14387, 13777, 13193, 12634, 12098,
                                              11585, 11094, 10624, 10173, 9742,  9329,  8933,  8555};
constexpr int32_t kLargestZ = kCdfSteps * 64 - 1;   // 16 standard scales in 1/2048

// w G for one symbol and component; scale = 16 (power of two, from 2^-4) + r.
inline uint32_t weighted_cdf(const uint32_t* cdf, int32_t distance, uint32_t scale, uint32_t weight) {
    const uint32_t power = scale >> 4, limit = 1u << (power + 9);
    uint32_t a = static_cast<uint32_t>(distance < 0 ? -distance : distance);
    a = (a < limit ? a : limit) << 7 >> power;   // distance / 2^power in 1/2048, at most 2^16
    int32_t z = (static_cast<int32_t>(a) * kInverse[scale & 15]) >> 14;
    z = z < kLargestZ ? z : kLargestZ;
    const uint32_t entry = cdf[z >> 6];
    const uint32_t g = (entry >> 16) + (((entry & 0xffff) * static_cast<uint32_t>(z & 63)) >> 6);
    return weight * (distance < 0 ? 65536 - g : g);
}

// Component::add(cdf, edge, mean, scale, weight, n, sum) adds w G for n <= kMixtureBlock symbols.
template <class Component>
void cumulative(const MixtureView& m, size_t first, const int32_t* k, size_t n, uint32_t* out) {
    const auto room = static_cast<uint32_t>(65536 - m.size);
    for (size_t done = 0; done < n; done += kMixtureBlock) {
        const size_t count = n - done < kMixtureBlock ? n - done : kMixtureBlock;
        int32_t edge[kMixtureBlock];
        uint32_t sum[kMixtureBlock] = {};
        for (size_t i = 0; i < count; ++i) edge[i] = (m.low + k[done + i]) * 256 - 128;
        for (int j = 0; j < m.components; ++j) {
            const size_t at = static_cast<size_t>(j) * m.stride + first + done;
            Component::add(m.cdf, edge, m.mean + at, m.scale + at, m.weight + at, count, sum);
        }
        for (size_t i = 0; i < count; ++i) {
            const int32_t at = k[done + i];
            const uint32_t inner = static_cast<uint32_t>(at) + (((sum[i] >> 16) * room) >> 16);
            out[done + i] = at == 0 ? 0 : at == m.size ? 65536 : inner;
        }
    }
}

}  // namespace
}  // namespace cbench
