// The stages of a convolution compiled for AVX2.
#include "conv_kernels_impl.hpp"

namespace cbench {
extern const ConvKernels<float> kConvFloatAvx2;
extern const ConvKernels<double> kConvDoubleAvx2;
const ConvKernels<float> kConvFloatAvx2 = Stages<float>::table("avx2");
const ConvKernels<double> kConvDoubleAvx2 = Stages<double>::table("avx2");
}  // namespace cbench
