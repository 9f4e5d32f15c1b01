// Mixture coding, portable. Also picks the kernel.
#include <cstring>

#include "mixture_loop.hpp"

namespace cbench {

namespace {

struct Scalar {
    static void add(const uint32_t* cdf, const int32_t* edge, const int32_t* mean, const uint8_t* scale,
                    const uint32_t* weight, size_t n, uint32_t* sum) {
        for (size_t i = 0; i < n; ++i) sum[i] += weighted_cdf(cdf, edge[i] - mean[i], scale[i], weight[i]);
    }
};

}  // namespace

#if defined(__x86_64__)
extern const Cumulative kCumulativeAvx2, kCumulativeAvx512;
#endif

Cumulative cumulative_kernel() {
#if defined(__x86_64__)
    if (!std::strcmp(kernels().name, "avx512")) return kCumulativeAvx512;
    if (!std::strcmp(kernels().name, "avx2")) return kCumulativeAvx2;
#endif
    return cumulative<Scalar>;
}

}  // namespace cbench
