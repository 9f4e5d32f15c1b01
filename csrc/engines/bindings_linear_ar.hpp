// The linear pixel model for Python, and its arguments checked.
#pragma once
#include "bindings.hpp"
#include "engines/linear_ar.hpp"

namespace cbench {

// Checks that `parameters` (height, width, channels) belong to `picture` (channels, height, width).
LinearPicture linear_picture(const Array<int32_t>& parameters, py::array_t<uint8_t>& picture, size_t first);

}  // namespace cbench
