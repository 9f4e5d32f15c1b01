// The matrix products of pixel networks, for each instruction set. All sums are exact, so every one gives the same numbers.
#pragma once
#include <cstdint>

namespace cbench {

constexpr int kOutputBlock = 16;   // outputs are padded to a multiple of this

// sum[o] = sum over input pairs p of w[p][o][0] in[2 p] + w[p][o][1] in[2 p + 1], for weights w[pairs][outputs][2].
using Multiply = void (*)(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum);

void multiply_portable(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum);
void multiply_avx2(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum);
void multiply_avx512(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum);

}  // namespace cbench
