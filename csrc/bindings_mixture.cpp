// Mixture coding for Python.
#include "bindings_mixture.hpp"

namespace cbench {

MixtureModel::MixtureModel(Array<int32_t> mean, Array<uint8_t> scale, std::optional<Array<uint16_t>> weight, int32_t low,
                           int32_t size, bool gaussian)
    : mean_(std::move(mean)), scale_(std::move(scale)), weight_(std::move(weight)) {
    const auto same = [&](const py::array& a) {
        return a.ndim() == 2 && a.shape(0) == mean_.shape(0) && a.shape(1) == mean_.shape(1);
    };
    if (mean_.ndim() != 2 || !same(scale_) || (weight_ && !same(*weight_)))
        throw ArgumentError("mixture parameters must be (components, symbols), all of one shape");
    mixture_.emplace(mean_.data(), scale_.data(), weight_ ? weight_->data() : nullptr, static_cast<size_t>(mean_.shape(1)),
                     static_cast<size_t>(mean_.shape(0)), low, size, gaussian ? Family::kGaussian : Family::kLogistic);
}

namespace {

void check_length(const MixtureModel& model, const Array<int32_t>& symbols) {
    if (static_cast<size_t>(symbols.size()) != model.get().n())
        throw ArgumentError("symbols and mixture parameters have different lengths");
}

py::bytes encode(const MixtureModel& model, const Array<int32_t>& symbols) {
    check_length(model, symbols);
    const int32_t* s = symbols.data();
    Bytes out;
    {
        py::gil_scoped_release release;
        MixtureSource source(model.get(), s);
        out = encode_stream(source, model.get().n(), -1);
    }
    return to_bytes(out);
}

py::array_t<int32_t> decode(const MixtureModel& model, const py::buffer& data) {
    const Data in(data);
    py::array_t<int32_t> out(static_cast<py::ssize_t>(model.get().n()));
    int32_t* to = out.mutable_data();
    py::gil_scoped_release release;
    StreamReader reader(in.data, in.size);
    if (reader.has_count()) throw BitstreamError("this coded stream was not made from mixture parameters");
    read_mixture(reader, model.get(), to, 0, model.get().n());
    reader.finish();
    return out;
}

py::array_t<uint32_t> intervals(const MixtureModel& model, const Array<int32_t>& symbols) {
    check_length(model, symbols);
    py::array_t<uint32_t> out({static_cast<py::ssize_t>(2), static_cast<py::ssize_t>(model.get().n())});
    std::vector<Op> ops(model.get().n());
    MixtureSource(model.get(), symbols.data()).resolve(0, ops.size(), ops.data());
    for (size_t i = 0; i < ops.size(); ++i) {
        out.mutable_data()[i] = op_start(ops[i]);
        out.mutable_data()[ops.size() + i] = op_frequency(ops[i]);
    }
    return out;
}

}  // namespace

void bind_mixture(py::module_& m) {
    py::class_<MixtureModel>(m, "MixtureModel")
        .def(py::init<Array<int32_t>, Array<uint8_t>, std::optional<Array<uint16_t>>, int32_t, int32_t, bool>(),
             py::arg("mean"), py::arg("scale"), py::arg("weight"), py::arg("low"), py::arg("size"), py::arg("gaussian"))
        .def("encode", &encode, py::arg("symbols"))
        .def("decode", &decode, py::arg("data"))
        .def("intervals", &intervals, py::arg("symbols"));
}

}  // namespace cbench
