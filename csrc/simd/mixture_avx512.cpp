// Mixture coding, AVX-512: sixteen symbols at a time.
#include "mixture_loop.hpp"

namespace cbench {

extern const MixtureKernels kMixtureAvx512;
const MixtureKernels kMixtureAvx512 = {interval<16>, search<16>};

}  // namespace cbench
