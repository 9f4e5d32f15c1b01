// The stages of a convolution compiled for AVX-512.
#include "conv_kernels_impl.hpp"

namespace cbench {
extern const ConvKernels<float> kConvFloatAvx512;
extern const ConvKernels<double> kConvDoubleAvx512;
const ConvKernels<float> kConvFloatAvx512 = Stages<float>::table("avx512");
const ConvKernels<double> kConvDoubleAvx512 = Stages<double>::table("avx512");
}  // namespace cbench
