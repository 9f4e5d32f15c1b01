// Adaptive residual coding for Python.
#include "adaptive.hpp"
#include "bindings.hpp"

namespace cbench {

namespace {

PlaneShape plane_shape(const py::array& a) {
    if (a.ndim() != 3) throw ArgumentError("residuals must be (planes, lines, samples)");
    return {static_cast<size_t>(a.shape(0)), static_cast<size_t>(a.shape(1)), static_cast<size_t>(a.shape(2))};
}

py::bytes encode(const Array<int32_t>& residuals) {
    const PlaneShape shape = plane_shape(residuals);
    const int32_t* r = residuals.data();
    Bytes out;
    {
        py::gil_scoped_release release;
        out = encode_adaptive(r, shape);
    }
    return to_bytes(out);
}

py::array_t<int32_t> decode(const py::buffer& data, const std::vector<py::ssize_t>& shape) {
    const Data in(data);
    py::array_t<int32_t> out(shape);
    const PlaneShape s = plane_shape(out);
    int32_t* r = out.mutable_data();
    py::gil_scoped_release release;
    decode_adaptive(in.data, in.size, r, s);
    return out;
}

}  // namespace

void bind_adaptive(py::module_& m) {
    m.def("encode_adaptive", &encode, py::arg("residuals"));
    m.def("decode_adaptive", &decode, py::arg("data"), py::arg("shape"));
}

}  // namespace cbench
