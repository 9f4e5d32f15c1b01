// Python sees the CCSDS 123 codec through this file.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "ccsds123.hpp"
#include "ccsds123_codes.hpp"
#include "ccsds123_hybrid.hpp"

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

// Mapped residuals of an image, band by band.
struct Mapped {
    size_t band;   // samples of one
    std::vector<uint16_t> values;

    // What the decoder will have goes to `back`, every line `step` behind the one before.
    Mapped(const CcsdsParams& params, const int32_t* x, py::ssize_t count, int32_t* back, size_t step)
        : band(static_cast<size_t>(count) * params.columns), values(band * params.bands) {
        const size_t area = static_cast<size_t>(params.bands) * params.columns;
        Ccsds123 predictor(params);
        for (py::ssize_t t = 0; t < count; ++t)
            predictor.predict(x + t * area, back + t * step, values.data() + t * params.columns, band);
    }
    Mapped(const CcsdsParams& params, const int32_t* x, py::ssize_t count, int32_t* back)
        : Mapped(params, x, count, back, static_cast<size_t>(params.bands) * params.columns) {}
    const uint16_t* of(int z) const { return values.data() + band * z; }
};

// Line by line with the sample-adaptive coder.
std::vector<uint8_t> encode_lines(const CcsdsParams& params, const int32_t* x, py::ssize_t count, int32_t* back) {
    const size_t area = static_cast<size_t>(params.bands) * params.columns;
    Ccsds123 coder(params);
    BitWriter out;
    for (py::ssize_t t = 0; t < count; ++t) coder.encode(x + t * area, back + t * area, out);
    return out.finish();
}

// Mapped residuals to either coder: line by line, or band by band to the hybrid one.
template <class Writer>
void put_all(const CcsdsParams& params, const Mapped& mapped, bool hybrid, Writer& out) {
    if (hybrid) {
        HybridEncoder coder(params.bands, params.golomb);
        for (int z = 0; z < params.bands; ++z)
            for (size_t i = 0; i < mapped.band; ++i) coder.encode(z, mapped.of(z)[i], out);
        coder.finish(out);
        return;
    }
    std::vector<GolombBand> statistics(params.bands);
    const size_t columns = static_cast<size_t>(params.columns);
    for (size_t at = 0; at < mapped.band; at += columns)
        for (int z = 0; z < params.bands; ++z)
            for (size_t x = at; x < at + columns; ++x) statistics[z].encode(out, mapped.of(z)[x], params.golomb);
}

std::vector<uint8_t> encode_hybrid(const CcsdsParams& params, const int32_t* x, py::ssize_t count, int32_t* back) {
    BitWriter out;
    put_all(params, Mapped(params, x, count, back), true, out);
    return out.finish();
}

// Bits of each band in the stream, without what ends the hybrid coder's. The other coder knows no order of the bands.
std::vector<int64_t> count_bits(const CcsdsParams& params, const int32_t* x, py::ssize_t count, bool hybrid) {
    std::vector<int32_t> back(static_cast<size_t>(params.bands) * params.columns);
    const Mapped mapped(params, x, count, back.data(), 0);
    HybridEncoder coder(params.bands, params.golomb);
    BitCounter out;
    std::vector<int64_t> bits;
    for (int z = 0; z < params.bands; ++z) {
        const uint64_t before = out.count();
        GolombBand statistics;
        for (size_t i = 0; i < mapped.band; ++i) {
            if (hybrid) coder.encode(z, mapped.of(z)[i], out);
            else statistics.encode(out, mapped.of(z)[i], params.golomb);
        }
        bits.push_back(static_cast<int64_t>(out.count() - before));
    }
    return bits;
}

void decode_lines(const CcsdsParams& params, const uint8_t* data, size_t size, py::ssize_t count, int32_t* x) {
    const size_t area = static_cast<size_t>(params.bands) * params.columns;
    Ccsds123 coder(params);
    BitReader in(data, size);
    for (py::ssize_t t = 0; t < count; ++t) coder.decode(in, x + t * area);
    in.finish();
}

void decode_hybrid(const CcsdsParams& params, const uint8_t* data, size_t size, py::ssize_t count, int32_t* x) {
    const size_t area = static_cast<size_t>(params.bands) * params.columns;
    const size_t band = static_cast<size_t>(count) * params.columns;
    std::vector<uint16_t> mapped(area * count);
    HybridDecoder coder(data, size, params.bands, band, params.golomb);
    for (size_t i = mapped.size(); i-- > 0;)
        mapped[i] = static_cast<uint16_t>(coder.decode(static_cast<int>(i / band)));
    coder.finish();
    Ccsds123 predictor(params);
    for (py::ssize_t t = 0; t < count; ++t)
        predictor.restore(mapped.data() + t * params.columns, band, x + t * area);
}

CcsdsParams params_of(const Lines& lines, int depth, int low, int delta, int previous_bands) {
    if (lines.ndim() != 3 || !lines.size()) throw ArgumentError("lines must have the shape (lines, bands, columns)");
    const CcsdsParams params = make_params(lines.shape(1), lines.shape(2), depth, low, delta, previous_bands);
    const int32_t* x = lines.data();
    for (py::ssize_t i = 0; i < lines.size(); ++i)
        if (x[i] < low || (x[i] - low) >> depth) throw ArgumentError("a sample lies outside the range of its depth");
    return params;
}

py::array_t<int64_t> band_bits(const Lines& lines, int depth, int low, int delta, int previous_bands, bool hybrid) {
    const CcsdsParams params = params_of(lines, depth, low, delta, previous_bands);
    const std::vector<int64_t> bits = count_bits(params, lines.data(), lines.shape(0), hybrid);
    return py::array_t<int64_t>(static_cast<py::ssize_t>(bits.size()), bits.data());
}

py::tuple encode(const Lines& lines, int depth, int low, int delta, int previous_bands, bool hybrid) {
    const CcsdsParams params = params_of(lines, depth, low, delta, previous_bands);
    Lines restored({lines.shape(0), lines.shape(1), lines.shape(2)});
    const int32_t* x = lines.data();
    int32_t* back = restored.mutable_data();
    std::vector<uint8_t> stream;
    {
        py::gil_scoped_release release;
        stream = (hybrid ? encode_hybrid : encode_lines)(params, x, lines.shape(0), back);
    }
    return py::make_tuple(py::bytes(reinterpret_cast<const char*>(stream.data()), stream.size()), restored);
}

// The smallest of several streams: (number of its setting, stream, what the decoder will have). A setting is a number of
// previous bands and whether the coder is the hybrid one; neighbours with the same bands share the prediction.
py::tuple smallest(const Lines& lines, int depth, int low, int delta, const std::vector<std::pair<int, bool>>& settings) {
    if (settings.empty()) throw ArgumentError("there is no setting to choose");
    std::vector<CcsdsParams> params;
    for (const auto& [bands, hybrid] : settings) params.push_back(params_of(lines, depth, low, delta, bands));
    Lines restored({lines.shape(0), lines.shape(1), lines.shape(2)});
    const int32_t* x = lines.data();
    int32_t* back = restored.mutable_data();
    std::optional<Mapped> mapped, best;
    std::vector<int32_t> decoded(static_cast<size_t>(lines.size()));
    size_t chosen = 0;
    uint64_t least = UINT64_MAX;
    std::vector<uint8_t> stream;
    {
        py::gil_scoped_release release;
        for (size_t i = 0; i < settings.size(); ++i) {
            if (!i || settings[i].first != settings[i - 1].first)
                mapped.emplace(params[i], x, lines.shape(0), decoded.data());
            BitCounter bits;
            put_all(params[i], *mapped, settings[i].second, bits);
            const uint64_t bytes = (bits.count() + 7) / 8;
            if (bytes >= least) continue;
            if (!best || settings[i].first != settings[chosen].first) {
                best = mapped;
                std::copy(decoded.begin(), decoded.end(), back);
            }
            least = bytes;
            chosen = i;
        }
        BitWriter out;
        put_all(params[chosen], *best, settings[chosen].second, out);
        stream = out.finish();
    }
    const py::bytes bytes(reinterpret_cast<const char*>(stream.data()), stream.size());
    return py::make_tuple(chosen, bytes, restored);
}

Lines decode(const py::bytes& data, py::ssize_t count, py::ssize_t bands, py::ssize_t columns, int depth, int low,
             int delta, int previous_bands, bool hybrid) {
    if (count < 1) throw ArgumentError("an image has at least one line");
    const CcsdsParams params = make_params(bands, columns, depth, low, delta, previous_bands);
    const std::string_view view = data;
    const auto* bytes = reinterpret_cast<const uint8_t*>(view.data());
    Lines lines({count, bands, columns});
    int32_t* x = lines.mutable_data();
    py::gil_scoped_release release;
    (hybrid ? decode_hybrid : decode_lines)(params, bytes, view.size(), count, x);
    return lines;
}

// (word of symbols, bits, number of bits, whether the word is complete) of one low-entropy code, to look at.
std::vector<std::tuple<std::string, uint32_t, int, bool>> code_words(int i) {
    if (i < 0 || i >= kLowEntropyCodes) throw ArgumentError("there are sixteen low-entropy codes");
    const LowEntropyCode& code = low_entropy_code(i);
    std::vector<std::tuple<std::string, uint32_t, int, bool>> words;
    for (int n = 0; n < code.size(); ++n) {
        std::string word;
        for (int at = n; code.node(at).parent >= 0; at = code.node(at).parent)
            word += code.node(at).symbol > code.limit() ? 'X' : "0123456789ABC"[code.node(at).symbol];
        std::reverse(word.begin(), word.end());
        words.emplace_back(word, code.node(n).bits, code.node(n).length, code.node(n).leaf());
    }
    return words;
}

}  // namespace

void bind_ccsds123(py::module_& m) {
    m.def("ccsds123_encode", &encode, py::arg("lines"), py::arg("depth"), py::arg("low"), py::arg("delta"),
          py::arg("previous_bands") = 3, py::arg("hybrid") = false);
    m.def("ccsds123_smallest", &smallest, py::arg("lines"), py::arg("depth"), py::arg("low"), py::arg("delta"),
          py::arg("settings"));
    m.def("ccsds123_band_bits", &band_bits, py::arg("lines"), py::arg("depth"), py::arg("low"), py::arg("delta"),
          py::arg("previous_bands") = 3, py::arg("hybrid") = false);
    m.def("ccsds123_code_words", &code_words, py::arg("code"));
    m.def("ccsds123_decode", &decode, py::arg("data"), py::arg("lines"), py::arg("bands"), py::arg("columns"),
          py::arg("depth"), py::arg("low"), py::arg("delta"), py::arg("previous_bands") = 3,
          py::arg("hybrid") = false);
}
