// One component of a mixture at one edge, and what the vector form shares with it.
#pragma once
#include <cstdint>

#include "mixture.hpp"

namespace cbench {
namespace {

// round(2^14 / 2^(r/16))
alignas(64) constexpr uint32_t kInverse[16] = {16384, 15689, 15024, 14387, 13777, 13193, 12634, 12098,
                                               11585, 11094, 10624, 10173, 9742,  9329,  8933,  8555};
constexpr uint32_t kLargestZ = kCdfSteps * 64 - 1;   // 16 standard scales in 1/2048

// w G; scale = 16 (power of two, from 2^-4) + r.
inline uint32_t weighted_cdf(const uint32_t* cdf, int32_t distance, uint32_t scale, uint32_t weight) {
    const uint32_t power = scale >> 4, limit = 1u << (power + 9);
    uint32_t a = static_cast<uint32_t>(distance < 0 ? -distance : distance);
    a = (a < limit ? a : limit) << 7 >> power;   // distance / 2^power in 1/2048, at most 2^16
    uint32_t z = (a * kInverse[scale & 15]) >> 14;
    z = z < kLargestZ ? z : kLargestZ;
    const uint32_t entry = cdf[z >> 6];
    const uint32_t g = (entry >> 16) + (((entry & 0xffff) * (z & 63)) >> 6);
    return weight * (distance < 0 ? 65536 - g : g);
}

}  // namespace
}  // namespace cbench
