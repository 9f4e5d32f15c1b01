// Convolutions for Python.
#include "bindings.hpp"
#include <tuple>

#include "engines/conv.hpp"

namespace cbench {

namespace {

using Weights = py::array_t<double, py::array::c_style>;
using Norm = std::tuple<Weights, Weights, size_t, double>;   // weight, bias, groups, eps

template <class T>
std::vector<T> filter(const Weights& a, py::ssize_t size) {
    if (a.ndim() != 1 || a.shape(0) != size)
        throw ArgumentError("what stands before a convolution does not fit its inputs");
    return {a.data(), a.data() + a.size()};
}

template <class T>
std::unique_ptr<Convolution<T>> make(const Weights& weight, const Weights& bias, const std::optional<Norm>& norm,
                                     const std::optional<Weights>& gate, bool silu) {
    if (weight.ndim() != 4 || weight.shape(2) != weight.shape(3) || (weight.shape(2) != 1 && weight.shape(2) != 3) ||
        weight.size() == 0 || bias.ndim() != 1 || bias.shape(0) != weight.shape(0))
        throw ArgumentError("a convolution takes weights (O, I, 3, 3) or (O, I, 1, 1), and a bias (O)");
    const py::ssize_t inputs = weight.shape(1);
    ConvFront<T> front;
    front.silu = silu;
    if (norm) {
        front.gain = filter<T>(std::get<0>(*norm), inputs);
        front.base = filter<T>(std::get<1>(*norm), inputs);
        std::tie(std::ignore, std::ignore, front.groups, front.eps) = *norm;
        if (gate || front.groups == 0 || static_cast<size_t>(inputs) % front.groups)
            throw ArgumentError("a group norm before a convolution divides its inputs, and there is no gate beside it");
    }
    if (gate) {
        front.gate = filter<T>(*gate, gate->size());
        if (front.gate.size() % 2 == 0 || front.gate.size() > kMaxTaps)
            throw ArgumentError("a gate before a convolution has an odd number of taps, at most 15");
    }
    return std::make_unique<Convolution<T>>(weight.data(), bias.data(), weight.shape(0), inputs, weight.shape(2),
                                            std::move(front));
}

template <class T>
const T* checked(const std::optional<Array<T>>& a, const std::vector<py::ssize_t>& shape) {
    if (!a) return nullptr;
    if (std::vector<py::ssize_t>(a->shape(), a->shape() + a->ndim()) != shape)
        throw ArgumentError("what goes into a convolution and what comes out of it have shapes that do not fit");
    return a->data();
}

template <class T>
void run(const Convolution<T>& convolution, ConvCrew& crew, const std::vector<Array<T>>& parts, Array<T>& out,
         const std::optional<Array<T>>& shift, const std::optional<Array<T>>& skip) {
    if (parts.empty() || parts.size() > kMaxParts || out.ndim() != 4 || out.size() == 0)
        throw ArgumentError("a convolution maps one to four arrays to a picture (B, H, W, O) that is not empty");
    const auto outputs = static_cast<py::ssize_t>(convolution.outputs());
    const std::vector<py::ssize_t> shape{out.shape(0), out.shape(1), out.shape(2), outputs};
    checked<T>(out, shape);
    const auto size = [&](int axis) { return static_cast<size_t>(shape[axis]); };
    ConvCall<T> call{size(0), size(1), size(2), {}, checked<T>(shift, {shape[0], outputs}), checked<T>(skip, shape),
                     out.mutable_data()};
    size_t inputs = 0;
    for (const Array<T>& part : parts) {
        const py::ssize_t channels = part.ndim() == 4 ? part.shape(3) : 0;
        const T* x = checked<T>(part, {shape[0], shape[1], shape[2], channels});
        call.parts.push_back({x, static_cast<size_t>(channels)});
        inputs += call.parts.back().channels;
    }
    if (inputs != convolution.inputs()) throw ArgumentError("a convolution was given another number of channels");
    py::gil_scoped_release release;
    convolution.run(crew, call);
}

template <class T>
void bind(py::module_& m, const char* name) {
    py::class_<Convolution<T>>(m, name)
        .def(py::init(&make<T>), py::arg("weight"), py::arg("bias"), py::arg("norm") = py::none(),
             py::arg("gate") = py::none(), py::arg("silu") = false)
        .def("run", &run<T>, py::arg("crew"), py::arg("parts").noconvert(), py::arg("out").noconvert(),
             py::arg("shift").noconvert() = py::none(), py::arg("skip").noconvert() = py::none());
}

}  // namespace

void bind_conv(py::module_& m) {
    py::class_<ConvCrew>(m, "ConvCrew").def(py::init<int>(), py::arg("threads") = 1);
    bind<float>(m, "Convolution32");
    bind<double>(m, "Convolution64");
}

}  // namespace cbench
