// The pixel model for Python, and its arguments checked.
#pragma once
#include "bindings.hpp"
#include "engines/pixel_ar.hpp"

namespace cbench {

// Checks that `biases` (rows, width, 3, hidden) belong to rows first .. of `picture` (channels, height, width).
PixelRows pixel_rows(const PixelModel& model, const Array<int16_t>& biases, py::array_t<uint8_t>& picture, size_t first);

}  // namespace cbench
