// Python sees the adaptive hyperspectral engine through this file: whole lines in, bytes out, and back.
#include "../bindings.hpp"
#include "block_coder.hpp"

namespace cbench {

namespace {

using Experts = std::vector<std::tuple<int, double, int, int, int, bool>>;

rls::Config make_config(const Experts& experts, int64_t bands, int64_t columns, int32_t low, int32_t high,
                        int32_t delta, double variance) {
    if (bands < 1 || columns < 1 || bands > 1 << 20 || columns > 1 << 28)
        throw ArgumentError("a cube has at least one band and one column, and a line of it fits the memory");
    rls::Config c;
    for (const auto& [previous, forgetting, spatial, near, own, network] : experts)
        c.experts.push_back({previous, forgetting, spatial, near, own, network});
    c.bands = static_cast<int>(bands);
    c.columns = static_cast<int>(columns);
    c.low = low;
    c.high = high;
    c.delta = delta;
    c.variance = variance;
    return c;
}

// One independent block of lines -> bytes, as they become final.
class RlsEncoder {
  public:
    RlsEncoder(const rls::Config& config, std::shared_ptr<LineNetwork> network, int threads)
        : config_(config), block_(config, std::move(network), threads) {}

    // Lines (T, bands, columns) -> (final bytes, the lines as the decoder will give them).
    std::pair<py::bytes, py::array_t<int32_t>> encode(const Array<int32_t>& lines) {
        if (lines.ndim() != 3 || lines.shape(1) != config_.bands || lines.shape(2) != config_.columns)
            throw ArgumentError("lines must be an array (lines, bands, columns) of the cube's bands and columns");
        py::array_t<int32_t> out(std::vector<py::ssize_t>(lines.shape(), lines.shape() + 3));
        const int32_t* in = lines.data();
        int32_t* row = out.mutable_data();
        const auto count = static_cast<size_t>(lines.shape(0));
        for (py::ssize_t i = 0; i < lines.size(); ++i)
            if (in[i] < config_.low || in[i] > config_.high)
                throw ArgumentError("a sample lies outside the range of its dtype");
        {
            py::gil_scoped_release release;
            std::copy_n(in, lines.size(), row);
            const size_t area = static_cast<size_t>(config_.bands) * static_cast<size_t>(config_.columns);
            for (size_t t = 0; t < count; ++t, row += area) {
                make_room();
                block_.encode_line(row, coder_);
                used_ = static_cast<size_t>(coder_.out - bytes_.data());
            }
        }
        size_t ready = used_;
        while (ready > 0 && bytes_[ready - 1] == 0xff) --ready;
        return {take(ready > 0 ? ready - 1 : 0), out};
    }

    // What each band of the block has cost so far, in bits.
    py::array_t<double> band_bits() const {
        return py::array_t<double>(static_cast<py::ssize_t>(block_.band_bits().size()), block_.band_bits().data());
    }

    // The remaining bytes; the encoder is ready for the next block.
    py::bytes finish() {
        make_room();
        range_flush(coder_);
        used_ = static_cast<size_t>(coder_.out - bytes_.data());
        const py::bytes out = take(used_);
        coder_ = RangeState{};
        block_.reset();
        return out;
    }

  private:
    void make_room() {
        if (bytes_.size() < used_ + block_.line_bytes()) bytes_.resize(2 * used_ + block_.line_bytes());
        coder_.out = bytes_.data() + used_;
    }
    py::bytes take(size_t count) {
        const py::bytes out(reinterpret_cast<const char*>(bytes_.data()), count);
        const auto at = [this](size_t i) { return bytes_.begin() + static_cast<std::ptrdiff_t>(i); };
        std::copy(at(count), at(used_), bytes_.begin());
        used_ -= count;
        return out;
    }

    rls::Config config_;
    BlockCoder block_;
    RangeState coder_;
    std::vector<uint8_t> bytes_;
    size_t used_ = 0;
};

// The bytes of one independent block, in pieces -> lines, as soon as they are certain.
class RlsDecoder {
  public:
    RlsDecoder(const rls::Config& config, std::shared_ptr<LineNetwork> network, int threads)
        : config_(config), block_(config, std::move(network), threads) {}

    void feed(const py::buffer& piece, bool last) {
        const Data data(piece);
        const size_t done = coder_.in ? static_cast<size_t>(coder_.in - bytes_.data()) : 0;
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(done));
        bytes_.insert(bytes_.end(), data.data, data.data + data.size);
        bytes_.reserve(1);
        coder_.in = bytes_.data();
        coder_.end = bytes_.data() + bytes_.size();
        last_ = last_ || last;
    }

    // Up to `limit` lines (n, bands, columns); fewer when the next line might need bytes that were not fed.
    py::array_t<int32_t> decode(size_t limit) {
        const auto area = static_cast<size_t>(config_.bands) * static_cast<size_t>(config_.columns);
        size_t count = 0;
        std::vector<int32_t> out;
        {
            py::gil_scoped_release release;
            for (; count < limit && enough(area); ++count) {
                out.resize((count + 1) * area);
                decode_line(out.data() + count * area);
            }
        }
        py::array_t<int32_t> lines({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(config_.bands),
                                    static_cast<py::ssize_t>(config_.columns)});
        std::copy(out.begin(), out.end(), lines.mutable_data());
        return lines;
    }

    // Checks that the block was used up exactly; the decoder is ready for the next one.
    void finish() {
        open();
        const bool fine = last_ && range_ended(coder_);
        bytes_.clear();
        coder_ = RangeState{};
        opened_ = last_ = false;
        block_.reset();
        if (!fine) throw BitstreamError("the coded lines end too early or too late (they are damaged)");
    }

  private:
    bool enough(size_t area) const {
        return last_ || static_cast<size_t>(coder_.end - coder_.in) >= area * kSymbolBytes + 2 * kLookAhead;
    }
    void open() {
        if (opened_) return;
        range_open(coder_);
        opened_ = true;
    }
    void decode_line(int32_t* line) {
        open();
        block_.decode_line(line, coder_);
        if (coder_.damaged || coder_.beyond >= kLookAhead)
            throw BitstreamError("the coded lines are damaged or cut off");
    }

    rls::Config config_;
    BlockCoder block_;
    RangeState coder_;
    std::vector<uint8_t> bytes_;
    bool opened_ = false, last_ = false;
};

}  // namespace

}  // namespace cbench

template <class Coder>
cbench::py::class_<Coder> bind_coder(cbench::py::module_& m, const char* name) {
    using namespace cbench;
    const auto make = [](const Experts& experts, int64_t bands, int64_t columns, int32_t low, int32_t high,
                         int32_t delta, std::shared_ptr<LineNetwork> network, int threads, double variance) {
        const rls::Config config = make_config(experts, bands, columns, low, high, delta, variance);
        return std::make_unique<Coder>(config, std::move(network), threads);
    };
    return py::class_<Coder>(m, name)
        .def(py::init(make), py::arg("experts"), py::arg("bands"), py::arg("columns"), py::arg("low"), py::arg("high"),
             py::arg("delta"), py::arg("network") = nullptr, py::arg("threads") = 1,
             py::arg("variance") = 1e12);
}

void bind_rls(pybind11::module_& m) {
    using namespace cbench;
    bind_coder<RlsEncoder>(m, "RlsEncoder")
        .def("encode", &RlsEncoder::encode, py::arg("lines"))
        .def_property_readonly("band_bits", &RlsEncoder::band_bits)
        .def("finish", &RlsEncoder::finish);
    bind_coder<RlsDecoder>(m, "RlsDecoder")
        .def("feed", &RlsDecoder::feed, py::arg("data"), py::arg("last"))
        .def("decode", &RlsDecoder::decode, py::arg("limit"))
        .def("finish", &RlsDecoder::finish);
}
