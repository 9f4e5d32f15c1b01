// Whole arrays in one call, tables and kernels for Python. Checks dtypes and shapes, releases the GIL, maps errors.
#include <atomic>
#include <exception>
#include <memory>
#include <thread>

#include "bindings.hpp"

using namespace cbench;

namespace {

constexpr size_t kSegment = size_t{1} << 22;   // larger arrays are cut into independent streams of this many symbols

// Runs job(0..jobs-1) on up to `threads` threads; the first exception is rethrown here.
template <class Job>
void parallel(size_t jobs, int threads, Job&& job) {
    std::atomic<size_t> next{0};
    std::exception_ptr error;
    std::atomic<bool> failed{false};
    const auto work = [&] {
        for (size_t i = next++; i < jobs && !failed; i = next++) {
            try {
                job(i);
            } catch (...) {
                if (!failed.exchange(true)) error = std::current_exception();
            }
        }
    };
    std::vector<std::thread> pool;
    for (int t = 1; t < threads && static_cast<size_t>(t) < jobs; ++t) pool.emplace_back(work);
    work();
    for (auto& t : pool) t.join();
    if (error) std::rethrow_exception(error);
}

// Arrays beyond kSegment symbols: [count], the lengths of all streams but the last, the streams. Comes in pieces that
// belong together.
template <class EncodeOne>   // encode(first, count, stored_count) -> Bytes
std::vector<Bytes> encode_segments(size_t n, bool store_count, int threads, EncodeOne&& encode) {
    const size_t segments = n <= kSegment ? 1 : (n + kSegment - 1) / kSegment;
    std::vector<Bytes> pieces(segments + (segments > 1));
    if (segments == 1) {
        pieces[0] = encode(0, n, store_count ? static_cast<int64_t>(n) : -1);
        return pieces;
    }
    parallel(segments, threads, [&](size_t s) {
        pieces[s + 1] = encode(s * kSegment, std::min(kSegment, n - s * kSegment), -1);
    });
    std::vector<uint8_t> head;
    if (store_count) append_varint(head, 4 | static_cast<uint64_t>(n) << 3);
    for (size_t s = 0; s + 1 < segments; ++s) append_varint(head, pieces[s + 1].size());
    pieces[0] = Bytes(head.size());
    std::copy(head.begin(), head.end(), pieces[0].data());
    return pieces;
}

py::bytes join(const std::vector<Bytes>& pieces) {
    size_t size = 0;
    for (const Bytes& piece : pieces) size += piece.size();
    py::bytes out(nullptr, size);
    char* to = PyBytes_AS_STRING(out.ptr());
    for (const Bytes& piece : pieces) {
        if (piece.size()) std::memcpy(to, piece.data(), piece.size());
        to += piece.size();
    }
    return out;
}

struct Segment {
    StreamReader reader;
    size_t first, count;   // of the whole array's symbols
};

// Calls decode(segments, k) with at most `together` segments.
template <class Decode>
void decode_segments(const uint8_t* data, size_t size, size_t n, bool stored_count, int threads, size_t together,
                     Decode&& decode) {
    if (n <= kSegment) {
        Segment only{StreamReader(data, size), 0, n};
        if (only.reader.has_count() != stored_count || (stored_count && only.reader.count() != n))
            throw BitstreamError("the coded stream was not made for this number of symbols");
        decode(&only, size_t{1});
        only.reader.finish();
        return;
    }
    const uint8_t *p = data, *end = data + size;
    if (stored_count) read_varint(p, end);
    const size_t segments = (n + kSegment - 1) / kSegment;
    std::vector<const uint8_t*> begin(segments + 1);
    std::vector<uint64_t> length(segments);
    uint64_t sum = 0;
    for (size_t s = 0; s + 1 < segments; ++s) sum += length[s] = read_varint(p, end);
    if (sum > static_cast<uint64_t>(end - p)) throw BitstreamError("the coded stream ends too early (it is truncated)");
    length[segments - 1] = static_cast<uint64_t>(end - p) - sum;
    for (size_t s = 0; s < segments; p += length[s++]) begin[s] = p;
    parallel((segments + together - 1) / together, threads, [&](size_t job) {
        std::vector<Segment> some;
        for (size_t s = job * together; s < std::min(segments, (job + 1) * together); ++s) {
            some.push_back({StreamReader(begin[s], length[s]), s * kSegment, std::min(kSegment, n - s * kSegment)});
            if (some.back().reader.has_count()) throw BitstreamError("the coded stream is damaged");
        }
        decode(some.data(), some.size());
        for (Segment& segment : some) segment.reader.finish();
    });
}

IntArray slice(const IntArray& a, size_t first, size_t count) {
    IntArray out = a;
    const size_t width = a.kind == IntArray::kI32 ? 4 : a.kind == IntArray::kU8 || a.kind == IntArray::kI8 ? 1 : 2;
    out.data = static_cast<const uint8_t*>(a.data) + first * width;
    out.n = count;
    return out;
}

py::bytes encode(const py::array& symbols, const TableSet& tables, const std::optional<py::array>& index, int threads) {
    const IntArray s = int_array(symbols, "symbols");
    const auto t = optional_index(index);
    if (t && t->n != s.n) throw ArgumentError("symbols and index have different lengths");
    std::vector<Bytes> out;
    {
        py::gil_scoped_release release;
        out = encode_segments(s.n, !t, threads, [&](size_t first, size_t count, int64_t stored) {
            IntArray part = t ? slice(*t, first, count) : IntArray{};
            auto source = std::make_unique<SymbolSource>(tables, slice(s, first, count), t ? &part : nullptr);
            return encode_stream(*source, source->events(), stored);
        });
    }
    return join(out);
}

// The number of symbols of a stream that stores it.
size_t stored_count(const Data& in, uint64_t limit) {
    const uint8_t* p = in.data;
    const uint64_t head = read_varint(p, in.data + in.size);
    if (!(head & 4)) throw BitstreamError("the coded stream does not store its number of symbols: pass count or index");
    if (head >> 3 > limit)
        throw BitstreamError("the coded stream claims " + std::to_string(head >> 3) + " symbols, more than the limit of " +
                             std::to_string(limit));
    return static_cast<size_t>(head >> 3);
}

py::array_t<int32_t> decode(const py::buffer& data, const TableSet& tables, const std::optional<py::array>& index,
                            std::optional<size_t> count, int threads, uint64_t limit) {
    const Data in(data);
    const auto t = optional_index(index);
    size_t n = t ? t->n : stored_count(in, limit);
    if (count && *count != n) {
        if (t) throw ArgumentError("count differs from the length of index");
        throw BitstreamError("the coded stream holds " + std::to_string(n) + " symbols, not " + std::to_string(*count));
    }
    py::array_t<int32_t> out(static_cast<py::ssize_t>(n));
    int32_t* to = out.mutable_data();
    {
        py::gil_scoped_release release;
        // Two at a time, unless that left a thread idle.
        const size_t segments = (n + kSegment - 1) / kSegment, together = !t && segments >= 2 * static_cast<size_t>(threads) ? 2 : 1;
        decode_segments(in.data, in.size, n, !t, threads, together, [&](Segment* s, size_t k) {
            if (k == 2) {
                read_symbols(s[0].reader, s[1].reader, tables, to + s[0].first, s[0].count, to + s[1].first, s[1].count);
            } else {
                IntArray part = t ? slice(*t, s->first, s->count) : IntArray{};
                read_symbols(s->reader, tables, t ? &part : nullptr, to + s->first, s->count);
            }
        });
    }
    return out;
}

py::bytes encode_bits(const Array<uint8_t>& bits, const Array<uint16_t>& p1, int threads) {
    if (bits.size() != p1.size()) throw ArgumentError("bits and p1 have different lengths");
    const uint8_t* b = bits.data();
    const uint16_t* p = p1.data();
    const auto n = static_cast<size_t>(bits.size());
    std::vector<Bytes> out;
    {
        py::gil_scoped_release release;
        check_bits(b, n);
        out = encode_segments(n, false, threads, [&](size_t first, size_t count, int64_t stored) {
            BitSource source(b + first, p + first);
            return encode_stream(source, count, stored);
        });
    }
    return join(out);
}

py::array_t<uint8_t> decode_bits(const py::buffer& data, const Array<uint16_t>& p1, int threads) {
    const Data in(data);
    py::array_t<uint8_t> out(p1.size());
    uint8_t* to = out.mutable_data();
    const uint16_t* p = p1.data();
    const auto n = static_cast<size_t>(p1.size());
    {
        py::gil_scoped_release release;
        decode_segments(in.data, in.size, n, false, threads, 1, [&](Segment* s, size_t) {
            read_bits(s->reader, p + s->first, to + s->first, s->count);
        });
    }
    return out;
}

size_t row_length(const Array<uint16_t>& rows, std::optional<size_t> n) {
    if (rows.ndim() != 2 || rows.shape(1) < 1 || rows.shape(1) > 32768)
        throw ArgumentError("rows must be (symbols, alphabet) with 1 to 32768 weights a row");
    if (n && static_cast<size_t>(rows.shape(0)) != *n) throw ArgumentError("symbols and rows have different lengths");
    return static_cast<size_t>(rows.shape(1));
}

py::bytes encode_rows(const py::array& symbols, const Array<uint16_t>& rows, int threads) {
    const IntArray s = int_array(symbols, "symbols");
    const size_t length = row_length(rows, s.n);
    const uint16_t* w = rows.data();
    std::vector<Bytes> out;
    {
        py::gil_scoped_release release;
        out = encode_segments(s.n, false, threads, [&](size_t first, size_t count, int64_t stored) {
            RowSource source(slice(s, first, count), w + first * length, length);
            return encode_stream(source, count, stored);
        });
    }
    return join(out);
}

py::array_t<int32_t> decode_rows(const py::buffer& data, const Array<uint16_t>& rows, int threads) {
    const Data in(data);
    const size_t length = row_length(rows, std::nullopt);
    py::array_t<int32_t> out(rows.shape(0));
    int32_t* to = out.mutable_data();
    const uint16_t* w = rows.data();
    const auto n = static_cast<size_t>(rows.shape(0));
    {
        py::gil_scoped_release release;
        decode_segments(in.data, in.size, n, false, threads, 1, [&](Segment* s, size_t) {
            read_rows(s->reader, w + s->first * length, length, to + s->first, s->count);
        });
    }
    return out;
}

std::shared_ptr<TableSet> make_tables(const Array<uint32_t>& cdf, const Array<int32_t>& size, const Array<int32_t>& offset,
                                      int precision, bool escape) {
    if (cdf.ndim() != 2 || size.ndim() != 1 || offset.ndim() != 1 || size.shape(0) != cdf.shape(0) ||
        offset.shape(0) != cdf.shape(0))
        throw ArgumentError("tables need cdf (T, L+1), size (T,) and offset (T,)");
    return std::make_shared<TableSet>(cdf.data(), static_cast<size_t>(cdf.shape(0)), static_cast<size_t>(cdf.shape(1)),
                                      size.data(), offset.data(), precision, escape);
}

// Weights (T, L), of which row t uses the first length[t] -> cumulative frequencies (T, L + 1).
py::array_t<uint32_t> cumulate(const Array<uint32_t>& weights, const Array<int32_t>& length, int precision) {
    if (weights.ndim() != 2 || length.ndim() != 1 || length.shape(0) != weights.shape(0))
        throw ArgumentError("tables need weights (T, L) and length (T,)");
    if (precision < 1 || precision > 16) throw ArgumentError("table precision must be 1 to 16 bits");
    const auto tables = static_cast<size_t>(weights.shape(0)), width = static_cast<size_t>(weights.shape(1));
    py::array_t<uint32_t> out({weights.shape(0), weights.shape(1) + 1});
    uint32_t* cdf = out.mutable_data();
    const uint32_t* w = weights.data();
    const int32_t* n = length.data();
    py::gil_scoped_release release;
    std::vector<uint32_t> frequencies(width);
    for (size_t t = 0; t < tables; ++t, cdf += width + 1, w += width) {
        if (n[t] < 1 || static_cast<size_t>(n[t]) > width)
            throw ArgumentError("table " + std::to_string(t) + " has an impossible size");
        const auto used = static_cast<size_t>(n[t]);
        quantise(w, used, precision, frequencies.data());
        cdf[0] = 0;
        for (size_t k = 0; k < width; ++k) cdf[k + 1] = cdf[k] + (k < used ? frequencies[k] : 0);
    }
    return out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "The entropy coder of cbench (format: csrc/FORMAT.md). Use it through cbench.coding.";
    py::register_exception_translator([](std::exception_ptr p) {
        const auto raise = [](const char* name, const char* text) {
            py::set_error(py::module_::import("cbench.errors").attr(name), text);
        };
        try {
            if (p) std::rethrow_exception(p);
        } catch (const BitstreamError& e) {
            raise("BitstreamError", e.what());
        } catch (const ArgumentError& e) {
            raise("UnsupportedInputError", e.what());
        }
    });

    py::class_<TableSet, std::shared_ptr<TableSet>>(m, "TableSet")
        .def(py::init(&make_tables), py::arg("cdf"), py::arg("size"), py::arg("offset"), py::arg("precision"),
             py::arg("escape"))
        .def(
            "bits",
            [](const TableSet& t, const Array<int32_t>& symbols, const Array<int32_t>& index) {
                if (symbols.size() != index.size()) throw ArgumentError("symbols and index have different lengths");
                const int32_t *s = symbols.data(), *i = index.data();
                const auto n = static_cast<size_t>(symbols.size());
                py::gil_scoped_release release;
                const IntArray all{i, n, IntArray::kI32};
                index_chunk(&all, 0, n, t.view().tables, nullptr);
                return t.bits(s, i, n);
            },
            py::arg("symbols"), py::arg("index"));

    m.def("encode", &encode, py::arg("symbols"), py::arg("tables"), py::arg("index") = py::none(), py::arg("threads") = 1);
    m.def("decode", &decode, py::arg("data"), py::arg("tables"), py::arg("index") = py::none(),
          py::arg("count") = py::none(), py::arg("threads") = 1, py::arg("limit") = uint64_t{1} << 34);
    m.def("encode_bits", &encode_bits, py::arg("bits"), py::arg("p1"), py::arg("threads") = 1);
    m.def("decode_bits", &decode_bits, py::arg("data"), py::arg("p1"), py::arg("threads") = 1);
    m.def("encode_rows", &encode_rows, py::arg("symbols"), py::arg("rows"), py::arg("threads") = 1);
    m.def("decode_rows", &decode_rows, py::arg("data"), py::arg("rows"), py::arg("threads") = 1);
    m.def("cumulate", &cumulate, py::arg("weights"), py::arg("length"), py::arg("precision"));

    bind_adaptive(m);
    bind_states(m);
    bind_mixture(m);
    ::bind_ccsds123(m);
    ::bind_linerwkv(m);
    ::bind_rls(m);
    bind_pixel_ar(m);
    bind_conv(m);
    bind_linear_ar(m);
    bind_io(m);

    m.def("kernels", [] { return std::string(kernels().name); });
    m.def("available_kernels", [] {
        std::vector<std::string> names;
        for (const Kernels* const* k = available_kernels(); *k; ++k) names.emplace_back((*k)->name);
        return names;
    });
    m.def("choose_kernels", [](const std::string& name) {
        if (!choose_kernels(name.c_str())) throw ArgumentError("this machine has no kernels named " + name);
    });
}
