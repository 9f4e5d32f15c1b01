// Encoder, Decoder and Stack for Python: coding in several calls.
#include "bindings.hpp"
#include "bindings_mixture.hpp"
#include "bindings_states.hpp"
#include "engines/bindings_linear_ar.hpp"
#include "engines/bindings_pixel_ar.hpp"
#include "stack.hpp"

namespace cbench {

namespace {

// Collects events of several calls and codes them at the end (the last event first).
class Encoder final : public OpSource {
  public:
    void code(const TableSet& tables, const py::array& index, const py::array& symbols) {
        const IntArray t = int_array(index, "index"), s = int_array(symbols, "symbols");
        py::gil_scoped_release release;
        SymbolSource source(tables, s, &t);
        append(source, source.events());
    }
    void binary(const Array<uint16_t>& p1, const Array<uint8_t>& bits) {
        if (bits.size() != p1.size()) throw ArgumentError("bits and p1 have different lengths");
        check_bits(bits.data(), static_cast<size_t>(bits.size()));
        BitSource source(bits.data(), p1.data());
        append(source, static_cast<size_t>(bits.size()));
    }
    void raw(int width, const Array<uint32_t>& values) {
        check_width(width);
        for (py::ssize_t i = 0; i < values.size(); ++i) append_raw(ops_, values.data()[i], width);
    }
    void mixture(const MixtureModel& model, const Array<int32_t>& symbols) {
        if (static_cast<size_t>(symbols.size()) != model.get().n())
            throw ArgumentError("symbols and mixture parameters have different lengths");
        MixtureSource source(model.get(), symbols.data());
        append(source, model.get().n());
    }
    void states(const StateModel& model, const Array<int32_t>& symbols) {
        const Shape4 shape = model.shape(symbols);
        py::gil_scoped_release release;
        append_states(model.map(), symbols.data(), shape, ops_);
    }
    void pixels(const PixelModel& model, const Array<int16_t>& biases, py::array_t<uint8_t> picture, size_t first) {
        const PixelRows rows = pixel_rows(model, biases, picture, first);
        py::gil_scoped_release release;
        model.append(rows, ops_);
    }
    void linear(const LinearModel& model, const Array<int32_t>& parameters, py::array_t<uint8_t> picture, size_t first) {
        const LinearPicture given = linear_picture(parameters, picture, first);
        py::gil_scoped_release release;
        model.append(given, ops_);
    }
    py::bytes finish() {
        Bytes out;
        {
            py::gil_scoped_release release;
            out = encode_stream(*this, ops_.size(), -1);
            ops_.clear();
        }
        return to_bytes(out);
    }
    void resolve(size_t first, size_t count, Op* ops) override {
        std::copy_n(ops_.begin() + static_cast<std::ptrdiff_t>(first), count, ops);
    }

  private:
    void append(OpSource& source, size_t n) {
        const size_t first = ops_.size();
        ops_.resize(first + n);
        try {
            source.resolve(0, n, ops_.data() + first);
        } catch (...) {
            ops_.resize(first);
            throw;
        }
    }
    std::vector<Op> ops_;
};

class Decoder {
  public:
    explicit Decoder(const py::buffer& data) : in_(Data(data).data, Data(data).size) {
        if (in_.has_count()) throw BitstreamError("this coded stream holds a single array: decode it with decode()");
    }
    py::array_t<int32_t> code(const TableSet& tables, const py::array& index) {
        const IntArray t = int_array(index, "index");
        py::array_t<int32_t> out(std::vector<py::ssize_t>(index.shape(), index.shape() + index.ndim()));
        int32_t* to = out.mutable_data();
        py::gil_scoped_release release;
        read_symbols(in_, tables, &t, to, t.n);
        return out;
    }
    py::array_t<uint8_t> binary(const Array<uint16_t>& p1) {
        py::array_t<uint8_t> out(std::vector<py::ssize_t>(p1.shape(), p1.shape() + p1.ndim()));
        uint8_t* to = out.mutable_data();
        const uint16_t* p = p1.data();
        const auto n = static_cast<size_t>(p1.size());
        py::gil_scoped_release release;
        read_bits(in_, p, to, n);
        return out;
    }
    py::array_t<uint32_t> raw(int width, size_t count) {
        check_width(width);
        py::array_t<uint32_t> out(static_cast<py::ssize_t>(count));
        in_.decode_raw(width, out.mutable_data(), count);
        return out;
    }
    py::array_t<int32_t> mixture(const MixtureModel& model) {
        py::array_t<int32_t> out(static_cast<py::ssize_t>(model.get().n()));
        int32_t* to = out.mutable_data();
        py::gil_scoped_release release;
        read_mixture(in_, model.get(), to, 0, model.get().n());
        return out;
    }
    py::array_t<int32_t> states(const StateModel& model, const std::vector<py::ssize_t>& shape) {
        py::array_t<int32_t> out(shape);
        const Shape4 s = model.shape(out);
        int32_t* to = out.mutable_data();
        py::gil_scoped_release release;
        read_states(model.map(), in_, to, s);
        return out;
    }
    void pixels(const PixelModel& model, const Array<int16_t>& biases, py::array_t<uint8_t> picture, size_t first) {
        picture.mutable_data();   // raises if the array must not be written
        const PixelRows rows = pixel_rows(model, biases, picture, first);
        py::gil_scoped_release release;
        model.read(in_, rows);
    }
    void linear(const LinearModel& model, const Array<int32_t>& parameters, py::array_t<uint8_t> picture, size_t first) {
        picture.mutable_data();   // as above
        const LinearPicture given = linear_picture(parameters, picture, first);
        py::gil_scoped_release release;
        model.read(in_, given);
    }
    void finish() { in_.finish(); }

  private:
    StreamReader in_;
};

// Bits-back stack on arrays. Arrays are pushed last element first, so that pop returns them in order.
class PyStack {
  public:
    PyStack(bool clean_bits, uint64_t seed) : stack_(clean_bits, seed) {}
    explicit PyStack(Stack stack) : stack_(std::move(stack)) {}
    static PyStack from_bytes(const py::buffer& data, bool clean_bits, uint64_t seed) {
        const Data in(data);
        return PyStack(Stack(in.data, in.size, clean_bits, seed));
    }
    void push(const TableSet& tables, const py::array& index, const py::array& symbols) {
        const IntArray t = int_array(index, "index"), s = int_array(symbols, "symbols");
        if (tables.view().escape) throw ArgumentError("a stack takes tables without escape");
        py::gil_scoped_release release;
        SymbolSource source(tables, s, &t);
        push_all(source, s.n);
    }
    py::array_t<int32_t> pop(const TableSet& tables, const py::array& index) {
        const IntArray t = int_array(index, "index");
        const TableView& view = tables.view();
        if (view.escape) throw ArgumentError("a stack takes tables without escape");
        py::array_t<int32_t> out(std::vector<py::ssize_t>(index.shape(), index.shape() + index.ndim()));
        int32_t* to = out.mutable_data();
        py::gil_scoped_release release;
        const Stack before = stack_;
        try {
            int32_t buffer[1];
            for (size_t i = 0; i < t.n; ++i) {
                const int32_t table = *index_chunk(&t, i, 1, view.tables, buffer);
                const uint32_t slot = stack_.slot();
                const uint64_t b = view.bucket[(static_cast<size_t>(table) << view.bucket_bits) +
                                               (slot >> (16 - view.bucket_bits))];
                int32_t k = static_cast<int32_t>(b >> 32) - view.offset[table];
                const Op* row = view.entry + view.first[table];
                while (slot - op_start(row[k]) > (row[k] >> 16)) ++k;
                to[i] = view.offset[table] + k;
                stack_.pop(op_start(row[k]), op_frequency(row[k]));
            }
        } catch (...) {
            stack_ = before;
            throw;
        }
        return out;
    }
    void push_bits(const Array<uint16_t>& p1, const Array<uint8_t>& bits) {
        if (bits.size() != p1.size()) throw ArgumentError("bits and p1 have different lengths");
        check_bits(bits.data(), static_cast<size_t>(bits.size()));
        BitSource source(bits.data(), p1.data());
        push_all(source, static_cast<size_t>(bits.size()));
    }
    py::array_t<uint8_t> pop_bits(const Array<uint16_t>& p1) {
        py::array_t<uint8_t> out(std::vector<py::ssize_t>(p1.shape(), p1.shape() + p1.ndim()));
        const Stack before = stack_;
        try {
            for (py::ssize_t i = 0; i < p1.size(); ++i) {
                const uint32_t p = std::max<uint32_t>(p1.data()[i], 1);
                const bool one = stack_.slot() < p;
                out.mutable_data()[i] = one;
                one ? stack_.pop(0, p) : stack_.pop(p, 65536 - p);
            }
        } catch (...) {
            stack_ = before;
            throw;
        }
        return out;
    }
    void push_raw(int width, const Array<uint32_t>& values) {
        check_width(width);
        std::vector<Op> ops;
        for (py::ssize_t i = 0; i < values.size(); ++i) append_raw(ops, values.data()[i], width);
        for (size_t i = ops.size(); i-- > 0;) stack_.push(ops[i]);
    }
    py::array_t<uint32_t> pop_raw(int width, size_t count) {
        check_width(width);
        py::array_t<uint32_t> out(static_cast<py::ssize_t>(count));
        const Stack before = stack_;
        try {
            for (size_t i = 0; i < count; ++i) {
                uint32_t value = 0;
                for (int done = 0; done < width; done += 16) {
                    const int bits = std::min(16, width - done);
                    const uint32_t part = stack_.slot() >> (16 - bits);
                    value |= part << done;
                    stack_.pop(part << (16 - bits), 1u << (16 - bits));
                }
                out.mutable_data()[i] = value;
            }
        } catch (...) {
            stack_ = before;
            throw;
        }
        return out;
    }
    double bits() const { return stack_.bits(); }
    uint64_t clean_bits() const { return stack_.clean_bits_used(); }
    py::bytes bytes() const { return to_bytes(stack_.bytes()); }

  private:
    void push_all(OpSource& source, size_t n) {
        std::vector<Op> ops(n);
        source.resolve(0, n, ops.data());
        for (size_t i = n; i-- > 0;) stack_.push(ops[i]);
    }
    Stack stack_;
};

}  // namespace

void bind_io(py::module_& m) {
    py::class_<Encoder>(m, "Encoder")
        .def(py::init<>())
        .def("code", &Encoder::code, py::arg("tables"), py::arg("index"), py::arg("symbols"))
        .def("binary", &Encoder::binary, py::arg("p1"), py::arg("bits"))
        .def("raw", &Encoder::raw, py::arg("width"), py::arg("values"))
        .def("mixture", &Encoder::mixture, py::arg("model"), py::arg("symbols"))
        .def("states", &Encoder::states, py::arg("model"), py::arg("symbols"))
        .def("pixels", &Encoder::pixels, py::arg("model"), py::arg("biases"), py::arg("picture"), py::arg("first"))
        .def("pixels", &Encoder::linear, py::arg("model"), py::arg("parameters"), py::arg("picture"), py::arg("first"))
        .def("finish", &Encoder::finish);
    py::class_<Decoder>(m, "Decoder")
        .def(py::init<const py::buffer&>(), py::arg("data"))
        .def("code", &Decoder::code, py::arg("tables"), py::arg("index"))
        .def("binary", &Decoder::binary, py::arg("p1"))
        .def("raw", &Decoder::raw, py::arg("width"), py::arg("count"))
        .def("mixture", &Decoder::mixture, py::arg("model"))
        .def("states", &Decoder::states, py::arg("model"), py::arg("shape"))
        .def("pixels", &Decoder::pixels, py::arg("model"), py::arg("biases"), py::arg("picture").noconvert(),
             py::arg("first"))
        .def("pixels", &Decoder::linear, py::arg("model"), py::arg("parameters"), py::arg("picture").noconvert(),
             py::arg("first"))
        .def("finish", &Decoder::finish);
    py::class_<PyStack>(m, "Stack")
        .def(py::init<bool, uint64_t>(), py::arg("clean_bits") = false, py::arg("seed") = 0)
        .def_static("from_bytes", &PyStack::from_bytes, py::arg("data"), py::arg("clean_bits") = false, py::arg("seed") = 0)
        .def("push", &PyStack::push, py::arg("tables"), py::arg("index"), py::arg("symbols"))
        .def("pop", &PyStack::pop, py::arg("tables"), py::arg("index"))
        .def("push_bits", &PyStack::push_bits, py::arg("p1"), py::arg("bits"))
        .def("pop_bits", &PyStack::pop_bits, py::arg("p1"))
        .def("push_raw", &PyStack::push_raw, py::arg("width"), py::arg("values"))
        .def("pop_raw", &PyStack::pop_raw, py::arg("width"), py::arg("count"))
        .def_property_readonly("bits", &PyStack::bits)
        .def_property_readonly("clean_bits", &PyStack::clean_bits)
        .def("to_bytes", &PyStack::bytes);
}

}  // namespace cbench
