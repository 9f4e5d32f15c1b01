// What the binding files share: arrays and buffers of Python, checked before use.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "rans.hpp"
#include "sources.hpp"
#include "tables.hpp"

namespace cbench {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class Buffer>
py::bytes to_bytes(const Buffer& b) {
    return {reinterpret_cast<const char*>(b.data()), b.size()};
}

struct Data {   // any contiguous buffer of bytes
    py::buffer_info info;
    const uint8_t* data;
    size_t size;
    explicit Data(const py::buffer& b) : info(b.request()) {
        if (info.ndim > 1 || info.itemsize != 1 || (info.ndim == 1 && info.size > 1 && info.strides[0] != 1))
            throw ArgumentError("coded data must be a contiguous buffer of bytes");
        data = static_cast<const uint8_t*>(info.ptr);
        size = static_cast<size_t>(info.size);
    }
};

inline IntArray int_array(const py::array& a, const char* what) {
    if (!(a.flags() & py::array::c_style)) throw ArgumentError(std::string(what) + " must be a contiguous array");
    IntArray out;
    out.data = a.data();
    out.n = static_cast<size_t>(a.size());
    const char kind = a.dtype().kind();
    const auto size = a.dtype().itemsize();
    const bool native = a.dtype().byteorder() != '>' && a.dtype().byteorder() != '<';
    if (!native && size > 1) throw ArgumentError(std::string(what) + " must be in native byte order");
    if (kind == 'i' && size == 4) out.kind = IntArray::kI32;
    else if (kind == 'i' && size == 2) out.kind = IntArray::kI16;
    else if (kind == 'i' && size == 1) out.kind = IntArray::kI8;
    else if (kind == 'u' && size == 2) out.kind = IntArray::kU16;
    else if (kind == 'u' && size == 1) out.kind = IntArray::kU8;
    else throw ArgumentError(std::string(what) + " must be an array of int8, uint8, int16, uint16 or int32");
    return out;
}

inline std::optional<IntArray> optional_index(const std::optional<py::array>& a) {
    if (!a) return std::nullopt;
    return int_array(*a, "index");
}

inline void check_bits(const uint8_t* bits, size_t n) {
    if (kernels().all_bits(bits, n) > 1) throw ArgumentError("bits must be 0 or 1");
}

inline void check_width(int width) {
    if (width < 1 || width > 32) throw ArgumentError("raw values are 1 to 32 bits wide");
}

inline void append_raw(std::vector<Op>& ops, uint32_t value, int width) {
    if (width < 32 && value >> width) throw ArgumentError("a raw value does not fit its width");
    for (int done = 0; done < width; done += 16) {
        const int bits = std::min(16, width - done);
        ops.push_back(raw_op(value >> done & ((1u << bits) - 1), bits));
    }
}

void bind_adaptive(py::module_& m); // bindings_adaptive.cpp: adaptive residual coding
void bind_io(py::module_& m);       // bindings_io.cpp: Encoder, Decoder, Stack
void bind_states(py::module_& m);   // bindings_states.cpp: StateModel
void bind_mixture(py::module_& m);  // bindings_mixture.cpp: MixtureModel
void bind_pixel_ar(py::module_& m); // engines/bindings_pixel_ar.cpp: PixelModel
void bind_linear_ar(py::module_& m); // engines/bindings_linear_ar.cpp: LinearModel
void bind_conv(py::module_& m);     // engines/bindings_conv.cpp: Convolution32, Convolution64

}  // namespace cbench

// Engines of single models, each in engines/bindings_<name>.cpp.
void bind_ccsds123(pybind11::module_& m);
void bind_linerwkv(pybind11::module_& m);
void bind_rls(pybind11::module_& m);
