// Mixture coding, portable. Also picks the kernels.
#include "mixture_loop.hpp"

namespace cbench {

#if defined(__x86_64__)
extern const MixtureKernels kMixtureAvx2, kMixtureAvx512;
#endif

const MixtureKernels& mixture_kernels() {
    static const MixtureKernels portable = {interval<4>, search<4>};
#if defined(__x86_64__)
    if (!std::strcmp(kernels().name, "avx512")) return kMixtureAvx512;
    if (!std::strcmp(kernels().name, "avx2")) return kMixtureAvx2;
#endif
    return portable;
}

}  // namespace cbench
