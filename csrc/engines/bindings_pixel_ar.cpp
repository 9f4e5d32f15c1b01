// Pixel coding with decoded neighbours, for Python.
#include "engines/bindings_pixel_ar.hpp"

#include <tuple>

namespace cbench {

namespace {

void check_shape(const py::array& a, std::vector<py::ssize_t> shape, const char* what) {
    if (std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()) != shape)
        throw ArgumentError(std::string(what) + " of a pixel network has the wrong shape");
}

using Layer = std::tuple<Array<int16_t>, Array<int32_t>, Array<int32_t>>;   // weight, base, shift

LayerWeights layer(const Layer& arrays, py::ssize_t hidden, py::ssize_t outputs) {
    const auto& [weight, base, shift] = arrays;
    check_shape(weight, {3, hidden, outputs}, "a layer");
    check_shape(base, {3, outputs}, "a bias");
    check_shape(shift, {3, outputs}, "a shift");
    return {weight.data(), base.data(), shift.data()};
}

PixelModel make(const Array<int16_t>& inner, int inner_shift, const Layer& middle, const Layer& outer,
                const Array<int16_t>& linear, int linear_shift) {
    const py::array& last = std::get<0>(outer);
    if (inner.ndim() != 3 || last.ndim() != 3) throw ArgumentError("the weights of a pixel network have three axes");
    const auto hidden = inner.shape(2), outputs = last.shape(2) / 3 * 3;
    if (hidden > kMaxHidden || outputs > 3 * kMaxPixelMixtures) throw ArgumentError("a pixel network is too large");
    check_shape(inner, {3, kPixelFeatures, hidden}, "the inner layer");
    check_shape(linear, {3, kPixelFeatures}, "the linear part");
    return PixelModel({static_cast<int>(hidden), static_cast<int>(outputs / 3), inner.data(), inner_shift,
                       layer(middle, hidden, hidden), layer(outer, hidden, outputs), linear.data(), linear_shift});
}

}  // namespace

PixelRows pixel_rows(const PixelModel& model, const Array<int16_t>& biases, py::array_t<uint8_t>& picture, size_t first) {
    if (picture.ndim() != 3 || (picture.shape(0) != 1 && picture.shape(0) != 3) || !(picture.flags() & py::array::c_style))
        throw ArgumentError("pixels are coded in contiguous pictures of 1 or 3 channels");
    const auto channels = static_cast<size_t>(picture.shape(0)), height = static_cast<size_t>(picture.shape(1)),
               width = static_cast<size_t>(picture.shape(2));
    if (biases.ndim() != 4 || static_cast<size_t>(biases.shape(1)) != width || biases.shape(2) != 3 ||
        biases.shape(3) != model.hidden() || first > height || static_cast<size_t>(biases.shape(0)) > height - first)
        throw ArgumentError("the biases of pixels must be (rows, width, 3, hidden), with rows inside the picture");
    // Only decoding writes, and asks for a writeable array before.
    auto* samples = const_cast<uint8_t*>(picture.data());
    return {samples, channels, height, width, first, static_cast<size_t>(biases.shape(0)), biases.data()};
}

void bind_pixel_ar(py::module_& m) {
    py::class_<PixelModel>(m, "PixelModel")
        .def(py::init(&make), py::arg("inner"), py::arg("inner_shift"), py::arg("middle"), py::arg("outer"),
             py::arg("linear"), py::arg("linear_shift"))
        .def(
            "bits",
            [](const PixelModel& model, const Array<int16_t>& biases, py::array_t<uint8_t> picture, size_t first) {
                const PixelRows rows = pixel_rows(model, biases, picture, first);
                py::gil_scoped_release release;
                return model.bits(rows);
            },
            py::arg("biases"), py::arg("picture"), py::arg("first"))
        .def_property_readonly("hidden", &PixelModel::hidden);
}

}  // namespace cbench
