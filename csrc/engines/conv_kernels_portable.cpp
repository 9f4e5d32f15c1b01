// The stages of a convolution compiled for every machine.
#include "conv_kernels_impl.hpp"

namespace cbench {
extern const ConvKernels<float> kConvFloatPortable;
extern const ConvKernels<double> kConvDoublePortable;
const ConvKernels<float> kConvFloatPortable = Stages<float>::table("portable");
const ConvKernels<double> kConvDoublePortable = Stages<double>::table("portable");
}  // namespace cbench
