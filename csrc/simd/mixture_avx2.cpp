// Mixture coding, AVX2: eight symbols at a time.
#include "mixture_loop.hpp"

namespace cbench {

extern const MixtureKernels kMixtureAvx2;
const MixtureKernels kMixtureAvx2 = {interval<8>, search<8>};

}  // namespace cbench
