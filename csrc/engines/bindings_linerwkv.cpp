// Python sees LineRWKV's engine, its coder, the wkv kernels for training, and the Golomb coder through this file.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "linerwkv_coder.hpp"

namespace py = pybind11;
using namespace cbench;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

py::bytes to_bytes(const std::vector<uint8_t>& v) { return {reinterpret_cast<const char*>(v.data()), v.size()}; }

std::shared_ptr<LineNetwork> make_network(int features, int encoder_layers, int line_blocks, int band_blocks,
                                          int decoder_layers, const std::map<std::string, Array<float>>& arrays,
                                          bool integers) {
    LineTensors tensors;
    for (const auto& [name, array] : arrays) tensors[name].assign(array.data(), array.data() + array.size());
    return std::make_shared<LineNetwork>(features, encoder_layers, line_blocks, band_blocks, decoder_layers, tensors,
                                         integers);
}

// Normalised lines (T, I, C) -> predictions of the lines after the first that the engine has seen, (T or T - 1, I, C).
Array<float> predict(LineEngine& engine, const Array<float>& u) {
    if (u.ndim() != 3 || u.shape(1) != engine.bands() || u.shape(2) != engine.columns() || u.shape(0) < 1)
        throw ArgumentError("samples must have the shape (lines, bands, columns) of the engine's image");
    const py::ssize_t skip = engine.lines() ? 0 : 1, area = u.shape(1) * u.shape(2);
    Array<float> out({u.shape(0) - skip, u.shape(1), u.shape(2)});
    const float* in = u.data();
    float* to = out.mutable_data();
    const py::ssize_t lines = u.shape(0);
    py::gil_scoped_release release;
    for (py::ssize_t t = 0; t < lines; ++t)
        engine.line(in + t * area, to + std::max<py::ssize_t>(t - skip, 0) * area);
    return out;
}

LineFormat make_format(py::ssize_t bands, py::ssize_t columns, int step, int low, int high, int depth) {
    if (bands < 1 || columns < 1 || bands > 1 << 24 || columns > 1 << 24)
        throw ArgumentError("an image has at least one band and column");
    if (step < 1 || low > high || depth < 1 || depth > 16 || int64_t{high} - low >= int64_t{1} << depth)
        throw ArgumentError("the range of the samples does not fit the format");
    LineFormat format;
    format.bands = static_cast<int>(bands);
    format.columns = static_cast<int>(columns);
    format.step = step;
    format.low = low;
    format.high = high;
    format.golomb.d = depth;
    return format;
}

struct Coded {
    std::vector<uint8_t> stream;
    std::vector<int64_t> band_bits;   // what each band has cost
};

Coded code(std::shared_ptr<LineNetwork> network, const Array<int32_t>& lines, int step, int low, int high, int depth,
           int threads) {
    if (lines.ndim() != 3 || !lines.size()) throw ArgumentError("lines must have the shape (lines, bands, columns)");
    const LineFormat format = make_format(lines.shape(1), lines.shape(2), step, low, high, depth);
    const int32_t* x = lines.data();
    const py::ssize_t count = lines.shape(0), area = lines.shape(1) * lines.shape(2);
    py::gil_scoped_release release;
    for (py::ssize_t i = 0; i < count * area; ++i)
        if (x[i] < low || x[i] > high) throw ArgumentError("a sample lies outside the range of the format");
    LineCoder coder(std::move(network), format, threads);
    BitWriter out;
    for (py::ssize_t t = 0; t < count; ++t) coder.encode(x + t * area, out);
    return {out.finish(), coder.band_bits()};
}

py::bytes encode(std::shared_ptr<LineNetwork> network, const Array<int32_t>& lines, int step, int low, int high,
                 int depth, int threads) {
    return to_bytes(code(std::move(network), lines, step, low, high, depth, threads).stream);
}

Array<int64_t> band_bits(std::shared_ptr<LineNetwork> network, const Array<int32_t>& lines, int step, int low,
                         int high, int depth, int threads) {
    const std::vector<int64_t> bits = code(std::move(network), lines, step, low, high, depth, threads).band_bits;
    return Array<int64_t>(static_cast<py::ssize_t>(bits.size()), bits.data());
}

Array<int32_t> decode(std::shared_ptr<LineNetwork> network, const py::bytes& data, py::ssize_t count,
                      py::ssize_t bands, py::ssize_t columns, int step, int low, int high, int depth, int threads) {
    if (count < 1) throw ArgumentError("an image has at least one line");
    const LineFormat format = make_format(bands, columns, step, low, high, depth);
    const std::string_view bytes = data;
    Array<int32_t> lines({count, bands, columns});
    int32_t* x = lines.mutable_data();
    py::gil_scoped_release release;
    LineCoder coder(std::move(network), format, threads);
    BitReader in(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    for (py::ssize_t t = 0; t < count; ++t) coder.decode(in, x + t * bands * columns);
    in.finish();
    return lines;
}

// ---- wkv ------------------------------------------------------------------------------------------------------------

template <class T>
struct Sequences {   // shapes of k: (batch, steps, channels)
    py::ssize_t batch;
    int steps, channels;
    Sequences(const Array<T>& decay, const Array<T>& first, const Array<T>& k, std::initializer_list<const Array<T>*> like) {
        if (k.ndim() != 3 || decay.size() != k.shape(2) || first.size() != k.shape(2))
            throw ArgumentError("wkv takes k (batch, steps, channels) and one decay and bonus a channel");
        for (const Array<T>* other : like)
            if (other->size() != k.size()) throw ArgumentError("the arrays of wkv have different shapes");
        batch = k.shape(0);
        steps = static_cast<int>(k.shape(1));
        channels = static_cast<int>(k.shape(2));
    }
    size_t area() const { return static_cast<size_t>(steps) * channels; }
};

// Calls job(first, last) for parts of the batch, one a thread.
template <class Job>
void over_batch(py::ssize_t batch, int threads, Job&& job) {
    threads = static_cast<int>(std::max<py::ssize_t>(1, std::min<py::ssize_t>(threads, batch / 16)));
    std::vector<std::thread> pool;
    for (int i = 1; i < threads; ++i)
        pool.emplace_back([&, i] { job(batch * i / threads, batch * (i + 1) / threads); });
    job(0, batch / threads);
    for (auto& thread : pool) thread.join();
}

template <class T>
void wkv_forward(const Array<T>& decay, const Array<T>& first, const Array<T>& k, const Array<T>& v, Array<T>& y,
                 int threads) {
    const Sequences<T> s(decay, first, k, {&v, &y});
    const T *d = decay.data(), *f = first.data(), *kk = k.data(), *vv = v.data();
    T* out = y.mutable_data();
    py::gil_scoped_release release;
    over_batch(s.batch, threads, [&](py::ssize_t from, py::ssize_t to) {
        for (py::ssize_t b = from; b < to; ++b) {
            const size_t at = b * s.area();
            if constexpr (sizeof(T) == 4)
                line_kernels().wkv_forward_f32(d, f, kk + at, vv + at, out + at, s.steps, s.channels);
            else
                line_kernels().wkv_forward_f64(d, f, kk + at, vv + at, out + at, s.steps, s.channels);
        }
    });
}

template <class T>
void wkv_backward(const Array<T>& decay, const Array<T>& first, const Array<T>& k, const Array<T>& v,
                  const Array<T>& gy, Array<T>& g_decay, Array<T>& g_first, Array<T>& gk, Array<T>& gv, int threads) {
    const Sequences<T> s(decay, first, k, {&v, &gy, &gk, &gv});
    if (g_decay.size() != s.batch * s.channels || g_first.size() != s.batch * s.channels)
        throw ArgumentError("the arrays of wkv have different shapes");
    const T *d = decay.data(), *f = first.data(), *kk = k.data(), *vv = v.data(), *g = gy.data();
    T *gd = g_decay.mutable_data(), *gf = g_first.mutable_data(), *to_k = gk.mutable_data(), *to_v = gv.mutable_data();
    py::gil_scoped_release release;
    over_batch(s.batch, threads, [&](py::ssize_t from, py::ssize_t to) {
        std::vector<T> scratch(static_cast<size_t>(3) * s.steps * 16);
        for (py::ssize_t b = from; b < to; ++b) {
            const size_t at = b * s.area(), row = static_cast<size_t>(b) * s.channels;
            if constexpr (sizeof(T) == 4)
                line_kernels().wkv_backward_f32(d, f, kk + at, vv + at, g + at, gd + row, gf + row, to_k + at, to_v + at,
                                                s.steps, s.channels, scratch.data());
            else
                line_kernels().wkv_backward_f64(d, f, kk + at, vv + at, g + at, gd + row, gf + row, to_k + at, to_v + at,
                                                s.steps, s.channels, scratch.data());
        }
    });
}

// ---- Golomb ---------------------------------------------------------------------------------------------------------

GolombParams golomb_params(int depth, int u_max, int gamma_0, int k, int gamma_star) {
    if (depth < 2 || depth > 16 || u_max < 8 || u_max > 31 || gamma_0 < 1 || gamma_0 > 8 || gamma_star <= gamma_0 ||
        gamma_star > 9 || k < 0 || k > std::min(14, depth - 2))
        throw ArgumentError("the parameters of the Golomb coder lie outside the standard's ranges");
    return {depth, u_max, gamma_0, k, gamma_star};
}

py::bytes golomb_encode(const Array<uint16_t>& mapped, int depth, int u_max, int gamma_0, int k, int gamma_star) {
    if (mapped.ndim() != 3) throw ArgumentError("mapped residuals must have the shape (lines, bands, columns)");
    const GolombParams params = golomb_params(depth, u_max, gamma_0, k, gamma_star);
    BitWriter out;
    std::vector<GolombBand> bands(mapped.shape(1));
    const uint16_t* m = mapped.data();
    for (py::ssize_t t = 0; t < mapped.shape(0); ++t)
        for (GolombBand& band : bands)
            for (py::ssize_t c = 0; c < mapped.shape(2); ++c, ++m) {
                if (*m >> depth) throw ArgumentError("a mapped residual has more bits than the coder was told");
                band.encode(out, *m, params);
            }
    return to_bytes(out.finish());
}

Array<uint16_t> golomb_decode(const py::bytes& data, py::ssize_t lines, py::ssize_t bands, py::ssize_t columns,
                              int depth, int u_max, int gamma_0, int k, int gamma_star) {
    if (lines < 1 || bands < 1 || columns < 1) throw ArgumentError("mapped residuals have three dimensions");
    const GolombParams params = golomb_params(depth, u_max, gamma_0, k, gamma_star);
    const std::string_view bytes = data;
    BitReader in(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    Array<uint16_t> mapped({lines, bands, columns});
    std::vector<GolombBand> statistics(bands);
    uint16_t* m = mapped.mutable_data();
    for (py::ssize_t t = 0; t < lines; ++t)
        for (GolombBand& band : statistics)
            for (py::ssize_t c = 0; c < columns; ++c) {
                const uint32_t value = band.decode(in, params);
                if (value >> depth) throw BitstreamError("the coded stream is damaged");
                *m++ = static_cast<uint16_t>(value);
            }
    in.finish();
    return mapped;
}

template <class T>
void bind_wkv(py::module_& m) {
    m.def("wkv_forward", &wkv_forward<T>, py::arg("decay").noconvert(), py::arg("first").noconvert(),
          py::arg("k").noconvert(), py::arg("v").noconvert(), py::arg("y").noconvert(), py::arg("threads") = 1);
    m.def("wkv_backward", &wkv_backward<T>, py::arg("decay").noconvert(), py::arg("first").noconvert(),
          py::arg("k").noconvert(), py::arg("v").noconvert(), py::arg("gy").noconvert(), py::arg("g_decay").noconvert(),
          py::arg("g_first").noconvert(), py::arg("gk").noconvert(), py::arg("gv").noconvert(), py::arg("threads") = 1);
}

}  // namespace

void bind_linerwkv(py::module_& m) {
    py::class_<LineNetwork, std::shared_ptr<LineNetwork>>(m, "LineNetwork")
        .def(py::init(&make_network), py::arg("features"), py::arg("encoder_layers"), py::arg("line_blocks"),
             py::arg("band_blocks"), py::arg("decoder_layers"), py::arg("tensors"), py::arg("integers") = false);
    py::class_<LineEngine>(m, "LineEngine")
        .def(py::init([](std::shared_ptr<LineNetwork> network, int bands, int columns, int threads) {
                 return std::make_unique<LineEngine>(std::move(network), bands, columns, threads);
             }),
             py::arg("network"), py::arg("bands"), py::arg("columns"), py::arg("threads") = 1)
        .def("predict", &predict, py::arg("u"))
        .def_property_readonly("lines", &LineEngine::lines)
        .def("save",
             [](const LineEngine& engine) {
                 const std::vector<float> state = engine.save();
                 return Array<float>(static_cast<py::ssize_t>(state.size()), state.data());
             })
        .def(
            "restore",
            [](LineEngine& engine, const Array<float>& state, int64_t lines) {
                engine.restore(state.data(), static_cast<size_t>(state.size()), lines);
            },
            py::arg("state"), py::arg("lines"));
    m.def("linerwkv_encode", &encode, py::arg("network"), py::arg("lines"), py::arg("step"), py::arg("low"),
          py::arg("high"), py::arg("depth") = 16, py::arg("threads") = 1);
    m.def("linerwkv_band_bits", &band_bits, py::arg("network"), py::arg("lines"), py::arg("step"), py::arg("low"),
          py::arg("high"), py::arg("depth") = 16, py::arg("threads") = 1);
    m.def("linerwkv_decode", &decode, py::arg("network"), py::arg("data"), py::arg("lines"), py::arg("bands"),
          py::arg("columns"), py::arg("step"), py::arg("low"), py::arg("high"), py::arg("depth") = 16,
          py::arg("threads") = 1);
    bind_wkv<float>(m);
    bind_wkv<double>(m);
    m.def("golomb_encode", &golomb_encode, py::arg("mapped"), py::arg("depth") = 16, py::arg("u_max") = 18,
          py::arg("gamma_0") = 1, py::arg("k") = 3, py::arg("gamma_star") = 6);
    m.def("golomb_decode", &golomb_decode, py::arg("data"), py::arg("lines"), py::arg("bands"), py::arg("columns"),
          py::arg("depth") = 16, py::arg("u_max") = 18, py::arg("gamma_0") = 1, py::arg("k") = 3,
          py::arg("gamma_star") = 6);
}
