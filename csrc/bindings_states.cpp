// Finite-state coding for Python.
#include <array>

#include "bindings_states.hpp"

namespace cbench {

namespace {

size_t dimension(const py::array& a, int axes, int axis, const char* what) {
    if (a.ndim() != axes) throw ArgumentError(std::string(what) + " has the wrong number of dimensions");
    return static_cast<size_t>(a.shape(axis));
}

std::vector<Offset> offset_list(const std::vector<std::array<int, 3>>& offsets) {
    std::vector<Offset> out;
    for (const auto& o : offsets) out.push_back({o[0], o[1], o[2]});
    return out;
}

py::bytes encode(const StateModel& model, const Array<int32_t>& symbols) {
    const Shape4 shape = model.shape(symbols);
    Bytes out;
    {
        py::gil_scoped_release release;
        out = encode_states(model.map(), symbols.data(), shape);
    }
    return to_bytes(out);
}

py::array_t<int32_t> decode(const StateModel& model, const py::buffer& data, const std::vector<py::ssize_t>& shape) {
    const Data in(data);
    py::array_t<int32_t> out(shape);
    const Shape4 s = model.shape(out);
    int32_t* to = out.mutable_data();
    py::gil_scoped_release release;
    StreamReader reader(in.data, in.size);
    if (reader.has_count()) throw BitstreamError("this coded stream was not made by finite-state coding");
    read_states(model.map(), reader, to, s);
    reader.finish();
    return out;
}

}  // namespace

StateModel::StateModel(const Array<uint32_t>& weights, Array<int32_t> map, const std::vector<std::array<int, 3>>& offsets)
    : map_(std::move(map)),
      tables_(weights.data(), dimension(weights, 2, 0, "weights"), dimension(weights, 2, 1, "weights")),
      context_(tables_, map_.data(), dimension(map_, 2, 0, "map"), dimension(map_, 2, 1, "map"), offset_list(offsets)) {}

Shape4 StateModel::shape(const py::array& symbols) const {
    if (symbols.ndim() != 4 || static_cast<size_t>(symbols.shape(1)) != context_.groups())
        throw ArgumentError("symbols must be (pictures, groups, height, width) with the model's number of groups");
    return {static_cast<size_t>(symbols.shape(0)), static_cast<size_t>(symbols.shape(1)),
            static_cast<size_t>(symbols.shape(2)), static_cast<size_t>(symbols.shape(3))};
}

void bind_states(py::module_& m) {
    py::class_<StateModel>(m, "StateModel")
        .def(py::init<const Array<uint32_t>&, Array<int32_t>, const std::vector<std::array<int, 3>>&>(), py::arg("weights"),
             py::arg("map"), py::arg("offsets"))
        .def("encode", &encode, py::arg("symbols"))
        .def("decode", &decode, py::arg("data"), py::arg("shape"))
        .def(
            "bits",
            [](const StateModel& model, const Array<int32_t>& symbols) {
                const Shape4 shape = model.shape(symbols);
                const int32_t* s = symbols.data();
                py::gil_scoped_release release;
                return states_bits(model.map(), s, shape);
            },
            py::arg("symbols"))
        .def_property_readonly("nbytes", &StateModel::bytes);
}

}  // namespace cbench
