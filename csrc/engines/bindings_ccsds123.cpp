// Python sees the CCSDS 123 codec through this file.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "ccsds123.hpp"

namespace py = pybind11;
using namespace cbench;

namespace {

using Lines = py::array_t<int32_t, py::array::c_style>;

CcsdsParams make_params(py::ssize_t bands, py::ssize_t columns, int depth, int low, int delta, int previous_bands) {
    if (bands < 1 || columns < 1 || bands > 1 << 24 || columns > 1 << 24)
        throw ArgumentError("an image has at least one band and column");
    if (depth < 2 || depth > 16 || low < -32768 || low > 0 || delta < 0 || delta >= 1 << (depth - 1) ||
        previous_bands < 0 || previous_bands > Ccsds123::kMaxPrevious)
        throw ArgumentError("the parameters of CCSDS 123 lie outside the standard's ranges");
    CcsdsParams p;
    p.bands = static_cast<int>(bands);
    p.columns = static_cast<int>(columns);
    p.depth = p.golomb.d = depth;
    p.low = low;
    p.delta = delta;
    p.previous_bands = previous_bands;
    // The accumulators start near the magnitudes to be expected, which a coarser quantiser divides.
    p.golomb.k = 5;
    for (int m = delta; m && p.golomb.k; m >>= 1) --p.golomb.k;
    if (p.golomb.k > depth - 2) p.golomb.k = depth - 2;
    return p;
}

py::tuple encode(const Lines& lines, int depth, int low, int delta, int previous_bands) {
    if (lines.ndim() != 3 || !lines.size()) throw ArgumentError("lines must have the shape (lines, bands, columns)");
    const CcsdsParams params = make_params(lines.shape(1), lines.shape(2), depth, low, delta, previous_bands);
    Lines restored({lines.shape(0), lines.shape(1), lines.shape(2)});
    const int32_t* x = lines.data();
    int32_t* back = restored.mutable_data();
    const py::ssize_t count = lines.shape(0), area = lines.shape(1) * lines.shape(2);
    std::vector<uint8_t> stream;
    {
        py::gil_scoped_release release;
        for (py::ssize_t i = 0; i < count * area; ++i)
            if (x[i] < low || (x[i] - low) >> depth) throw ArgumentError("a sample lies outside the range of its depth");
        Ccsds123 coder(params);
        BitWriter out;
        for (py::ssize_t t = 0; t < count; ++t) coder.encode(x + t * area, back + t * area, out);
        stream = out.finish();
    }
    return py::make_tuple(py::bytes(reinterpret_cast<const char*>(stream.data()), stream.size()), restored);
}

Lines decode(const py::bytes& data, py::ssize_t count, py::ssize_t bands, py::ssize_t columns, int depth, int low,
             int delta, int previous_bands) {
    if (count < 1) throw ArgumentError("an image has at least one line");
    const CcsdsParams params = make_params(bands, columns, depth, low, delta, previous_bands);
    const std::string_view bytes = data;
    Lines lines({count, bands, columns});
    int32_t* x = lines.mutable_data();
    py::gil_scoped_release release;
    Ccsds123 coder(params);
    BitReader in(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    for (py::ssize_t t = 0; t < count; ++t) coder.decode(in, x + t * bands * columns);
    in.finish();
    return lines;
}

}  // namespace

void bind_ccsds123(py::module_& m) {
    m.def("ccsds123_encode", &encode, py::arg("lines"), py::arg("depth"), py::arg("low"), py::arg("delta"),
          py::arg("previous_bands") = 3);
    m.def("ccsds123_decode", &decode, py::arg("data"), py::arg("lines"), py::arg("bands"), py::arg("columns"),
          py::arg("depth"), py::arg("low"), py::arg("delta"), py::arg("previous_bands") = 3);
}
