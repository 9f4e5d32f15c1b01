// The one inner loop of mixture coding: cumulative frequencies at given edges, for many symbols.
#pragma once
#include "kernels.hpp"

namespace cbench {

constexpr int kCdfSteps = 512;   // the family's function is tabulated at 32 points a unit, from 0 to 16

struct MixtureView {
    const int32_t* mean;      // [component * stride + symbol], 1/256 of a symbol
    const uint8_t* scale;     // likewise
    const uint32_t* weight;   // likewise, sums to 65536 over the components
    const uint32_t* cdf;      // kCdfSteps entries: G in the upper 16 bits, the step to the next one in the lower
    size_t stride;
    int components;
    int32_t low, size;
};

// out[i] = C(k[i]) of symbol first + i, for 0 <= k[i] <= size.
using Cumulative = void (*)(const MixtureView& m, size_t first, const int32_t* k, size_t n, uint32_t* out);

Cumulative cumulative_kernel();   // the set that kernels() has chosen

}  // namespace cbench
