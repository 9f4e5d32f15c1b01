// The inner loops of mixture coding: the interval of a symbol, and the search for a slot, for many symbols.
#pragma once
#include "kernels.hpp"

namespace cbench {

constexpr int kCdfSteps = 512;      // the family's function is tabulated at 32 points a unit, from 0 to 16
constexpr int kMaxComponents = 64;

struct MixtureView {
    const int32_t* mean;      // [component * stride + symbol], 1/256 of a symbol
    const uint8_t* scale;     // likewise
    const uint32_t* weight;   // likewise, sums to 65536 over the components
    const uint32_t* cdf;      // kCdfSteps entries: G in the upper 16 bits, the step to the next one in the lower
    size_t stride;
    int components;
    int32_t low, size;
};

struct MixtureKernels {
    // from = C(k) and to = C(k + 1) of every symbol first + i, for 0 <= k < size.
    void (*interval)(const MixtureView& m, size_t first, const int32_t* k, size_t n, uint32_t* from, uint32_t* to);
    // The k of every symbol first + i with from = C(k) <= slot < C(k + 1) = to.
    void (*search)(const MixtureView& m, size_t first, const uint32_t* slot, size_t n, int32_t* k, uint32_t* from,
                   uint32_t* to);
};

const MixtureKernels& mixture_kernels();   // of the set that kernels() has chosen

}  // namespace cbench
