// Adaptive coding of integer residuals: no model needs to be sent, everything follows what has been coded.
//
// Residuals form (planes, lines, samples): bands of a cube or of a picture. Whatever a predictor has left of a mean is taken
// off with two least-squares weights, one for the line above, one for the plane before; what remains is coded with tables of
// counts, chosen by the magnitudes around it. Only samples known when a line starts are looked at, so all samples of a line
// are independent given their tables, which is what the lanes of the coder need. Weights are doubles in a fixed order of
// operations, all else is integers.
#pragma once
#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace cbench {

struct PlaneShape {
    size_t planes, lines, samples;
    size_t size() const { return planes * lines * samples; }
};

Bytes encode_adaptive(const int32_t* residuals, PlaneShape shape);
void decode_adaptive(const uint8_t* data, size_t size, int32_t* residuals, PlaneShape shape);

}  // namespace cbench
