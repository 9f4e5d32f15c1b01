// Pixel coding with linear autoregression, for Python.
#include "engines/bindings_linear_ar.hpp"

#include <array>
#include <memory>

namespace cbench {

namespace {

std::vector<int32_t> numbers(const Array<int32_t>& a) { return {a.data(), a.data() + a.size()}; }

std::unique_ptr<LinearModel> make(const TableSet& tables, const std::array<Array<int32_t>, 4>& levels,
                                  const Array<int32_t>& row, const Array<int32_t>& centre, const Array<int32_t>& weight,
                                  const Array<int32_t>& bias) {
    if (weight.size() != 9 || bias.size() != 3) throw ArgumentError("linear autoregression has 3 x 3 weights and 3 biases");
    PixelMap map{numbers(levels[0]), numbers(levels[1]), numbers(levels[2]), numbers(levels[3]), numbers(row),
                 numbers(centre)};
    return std::make_unique<LinearModel>(tables, std::move(map), weight.data(), bias.data());
}

}  // namespace

LinearPicture linear_picture(const Array<int32_t>& parameters, py::array_t<uint8_t>& picture, size_t first) {
    if (first) throw ArgumentError("linear autoregression codes whole pictures");
    if (picture.ndim() != 3 || (picture.shape(0) != 1 && picture.shape(0) != 3) || !(picture.flags() & py::array::c_style))
        throw ArgumentError("pixels are coded in contiguous pictures of 1 or 3 channels");
    if (parameters.ndim() != 3 || parameters.shape(0) != picture.shape(1) || parameters.shape(1) != picture.shape(2) ||
        parameters.shape(2) != picture.shape(0))
        throw ArgumentError("the parameters of pixels must be (height, width, channels)");
    // Only decoding writes, and asks for a writeable array before.
    return {const_cast<uint8_t*>(picture.data()), static_cast<size_t>(picture.shape(0)), static_cast<size_t>(picture.shape(1)),
            static_cast<size_t>(picture.shape(2)), parameters.data()};
}

void bind_linear_ar(py::module_& m) {
    py::class_<LinearModel>(m, "LinearModel")
        .def(py::init(&make), py::arg("tables"), py::arg("levels"), py::arg("row"), py::arg("centre"), py::arg("weight"),
             py::arg("bias"), py::keep_alive<1, 2>())
        .def(
            "bits",
            [](const LinearModel& model, const Array<int32_t>& parameters, py::array_t<uint8_t> picture, size_t first) {
                const LinearPicture given = linear_picture(parameters, picture, first);
                py::gil_scoped_release release;
                return model.bits(given);
            },
            py::arg("parameters"), py::arg("picture"), py::arg("first"));
}

}  // namespace cbench
