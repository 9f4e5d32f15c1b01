// What is fuzzed: every decoder of the core on arbitrary bytes. A decoder may refuse or decode; if it decodes, encoding the
// result must give the same bytes back, else the program aborts.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "../adaptive.hpp"
#include "../mixture.hpp"
#include "../rans.hpp"
#include "../sources.hpp"
#include "../stack.hpp"
#include "../states.hpp"
#include "../tables.hpp"
#include "engines.hpp"
#include "modes.hpp"

namespace cbench::fuzz {

// Fixed models: tables of 1 to 40 symbols, an index, probabilities, rows, mixtures, a context map.
struct Models {
    static constexpr size_t kMost = 80000;   // enough for streams of 64 lanes
    std::unique_ptr<TableSet> plain, escaping;
    std::unique_ptr<RowTables> rows;
    std::unique_ptr<ContextMap> map;
    std::vector<int32_t> index, means, table_of;
    std::vector<uint16_t> p1, row_weights;
    std::vector<uint8_t> scales;

    Models() : index(kMost), means(2 * kMost), p1(kMost), row_weights(kMost * 9), scales(2 * kMost) {
        uint32_t random = 1;
        const auto next = [&] { return (random = random * 1664525 + 1013904223) >> 8; };
        plain = tables(next, false);
        escaping = tables(next, true);
        for (size_t i = 0; i < kMost; ++i) {
            index[i] = static_cast<int32_t>(next() % 7);
            p1[i] = static_cast<uint16_t>(1 + next() % 65535);
        }
        for (auto& w : row_weights) w = static_cast<uint16_t>(1 + next() % 1000);
        for (auto& m : means) m = static_cast<int32_t>(next() % 70000);
        for (auto& s : scales) s = static_cast<uint8_t>(next());
        std::vector<uint32_t> weights(20 * 5);
        for (auto& w : weights) w = 1 + next() % 5000;
        rows = std::make_unique<RowTables>(weights.data(), 20, 5);
        table_of.resize(2 * 36);
        for (auto& t : table_of) t = static_cast<int32_t>(next() % 20);
        map = std::make_unique<ContextMap>(*rows, table_of.data(), 2, 36, std::vector<Offset>{{0, -1, 0}, {0, 0, -1}});
    }
    Mixture mixture(size_t n) const { return {means.data(), scales.data(), nullptr, n, 2, 0, 256, Family::kLogistic}; }

  private:
    template <class Next>
    static std::unique_ptr<TableSet> tables(Next&& next, bool escape) {
        constexpr size_t kTables = 7, kWidth = 40;
        std::vector<uint32_t> cdf(kTables * (kWidth + 1)), weights(kWidth), frequencies(kWidth);
        std::vector<int32_t> size(kTables), offset(kTables);
        for (size_t t = 0; t < kTables; ++t) {
            const size_t n = 2 + next() % (kWidth - 2);
            for (size_t k = 0; k < n; ++k) weights[k] = 1 + (next() >> next() % 20);
            quantise(weights.data(), n, 16, frequencies.data());
            for (size_t k = 0; k < n; ++k) cdf[t * (kWidth + 1) + k + 1] = cdf[t * (kWidth + 1) + k] + frequencies[k];
            size[t] = static_cast<int32_t>(n) - escape;
            offset[t] = static_cast<int32_t>(next() % 100) - 50;
        }
        return std::make_unique<TableSet>(cdf.data(), kTables, kWidth + 1, size.data(), offset.data(), 16, escape);
    }
};

inline const Models& models() {
    static const Models instance;
    return instance;
}

inline PlaneShape planes_of(size_t n) { return {3, n / 60, 20}; }
inline Shape4 shape_of(size_t n) { return {n / 40, 2, 5, 4}; }

// Codes n values (any integers; each mode folds them into its range).
inline Bytes encode(Mode mode, const std::vector<int32_t>& values, size_t n) {
    const Models& m = models();
    std::vector<int32_t> s(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n));
    const IntArray index{m.index.data(), n, IntArray::kI32};
    const auto fold = [](int32_t v, int32_t size) { return static_cast<int32_t>(static_cast<uint32_t>(v) % static_cast<uint32_t>(size)); };
    if (mode >= kGolomb) {
        const Engines::Shape shape = Engines::shape(mode);
        for (auto& v : s) v = shape.low + fold(v, shape.high - shape.low + 1);
        return engines().encode(mode, s);
    }
    const auto symbols = [&](const TableSet& t, bool indexed, int64_t count) {
        for (size_t i = 0; i < n && mode != kEscape; ++i) {
            const int32_t table = indexed ? m.index[i] : 0;
            s[i] = t.view().offset[table] + fold(s[i], t.view().size[table]);
        }
        SymbolSource source(t, IntArray{s.data(), n, IntArray::kI32}, indexed ? &index : nullptr);
        return encode_stream(source, source.events(), count);
    };
    switch (mode) {
        case kStatic: return symbols(*m.plain, false, static_cast<int64_t>(n));
        case kIndexed: return symbols(*m.plain, true, -1);
        case kEscape: return symbols(*m.escaping, true, -1);
        case kBits: {
            std::vector<uint8_t> bits(n);
            for (size_t i = 0; i < n; ++i) bits[i] = s[i] & 1;
            BitSource source(bits.data(), m.p1.data());
            return encode_stream(source, n, -1);
        }
        case kRows: {
            for (auto& v : s) v = fold(v, 9);
            RowSource source(IntArray{s.data(), n, IntArray::kI32}, m.row_weights.data(), 9);
            return encode_stream(source, n, -1);
        }
        case kRaw: {
            OpList source;
            for (const int32_t v : s) source.ops.push_back(raw_op(static_cast<uint32_t>(v) & 0x7ff, 11));
            return encode_stream(source, n, -1);
        }
        case kMixture: {
            for (auto& v : s) v = fold(v, 256);
            const Mixture mixture = m.mixture(n);
            MixtureSource source(mixture, s.data());
            return encode_stream(source, n, -1);
        }
        case kStates:
            for (auto& v : s) v = fold(v, 5);
            return encode_states(*m.map, s.data(), shape_of(n));
        case kAdaptive:
            for (auto& v : s) v = fold(v, 1 << 24) >> (fold(v, 97) % 24);
            return encode_adaptive(s.data(), planes_of(n));
        case kTwo: {   // three bytes of length, a stream, another
            const Bytes one = encode(kStatic, values, n), two = encode(kStatic, {values.rbegin(), values.rend()}, n);
            Bytes both;
            for (int shift = 0; shift < 24; shift += 8) both.push_back(static_cast<uint8_t>(one.size() >> shift));
            both.insert(both.end(), one.begin(), one.end());
            both.insert(both.end(), two.begin(), two.end());
            return both;
        }
        default: return Stack().bytes();
    }
}

// Where the second of two streams begins.
inline size_t second_of(const uint8_t* data, size_t size) {
    if (size < 3) return size;
    return std::min<size_t>(size, 3 + (data[0] | static_cast<size_t>(data[1]) << 8 | static_cast<size_t>(data[2]) << 16));
}

// Two streams side by side give what they give alone, or both ways refuse.
inline void decode_two(size_t n, const uint8_t* data, size_t size) {
    const TableSet& tables = *models().plain;
    const size_t at = second_of(data, size), first = std::min<size_t>(3, at);
    std::vector<int32_t> alone(2 * n), together(2 * n);
    const auto attempt = [&](bool both, int32_t* out) {
        try {
            StreamReader one(data + first, at - first), two(data + at, size - at);
            if (both) {
                read_symbols(one, two, tables, out, n, out + n, n);
            } else {
                read_symbols(one, tables, nullptr, out, n);
                read_symbols(two, tables, nullptr, out + n, n);
            }
            one.finish();
            two.finish();
            return true;
        } catch (const BitstreamError&) {
            return false;
        }
    };
    const bool good = attempt(false, alone.data());
    if (attempt(true, together.data()) == good && (!good || alone == together)) return;
    std::fprintf(stderr, "mode two, n %zu: two streams together are not what they are alone\n", n);
    std::abort();
}

// What an engine decodes is what it decodes after encoding it again. The stream is the same, too; only the range coder may
// have ended in another byte.
inline void decode_engine(Mode mode, size_t n, const uint8_t* data, size_t size) {
    std::vector<int32_t> out(n), twice(n);
    try {
        engines().decode(mode, data, size, out);
    } catch (const BitstreamError&) {
        return;
    }
    std::vector<int32_t> restored = out;
    const Bytes again = engines().encode(mode, restored);
    const bool open_end = mode == kExperts || mode == kGuided;
    if (!open_end && again == Bytes(data, data + size) && restored == out) return;
    engines().decode(mode, again.data(), again.size(), twice);   // must not refuse
    if (open_end && again.size() == size && restored == out && twice == out) return;
    std::fprintf(stderr, "mode %s, n %zu: decoded values do not encode to the same stream\n", kNames[mode], n);
    std::abort();
}

// Decodes and, where that succeeds, encodes again.
inline void decode(Mode mode, size_t n, const uint8_t* data, size_t size) {
    if (mode == kTwo) return decode_two(n, data, size);
    if (mode >= kGolomb) return decode_engine(mode, n, data, size);
    const Models& m = models();
    std::vector<int32_t> out(n);
    const IntArray index{m.index.data(), n, IntArray::kI32};
    Bytes again;
    try {
        if (mode == kStack) {
            Stack stack(data, size, false, 0);
            for (size_t i = 0; i < n; ++i) {
                const uint32_t p = m.p1[i];
                stack.slot() < p ? stack.pop(0, p) : stack.pop(p, 65536 - p);
            }
            return;
        }
        if (mode == kAdaptive) {
            decode_adaptive(data, size, out.data(), planes_of(n));
            again = encode_adaptive(out.data(), planes_of(n));
        } else {
            StreamReader in(data, size);
            if (in.has_count() != (mode == kStatic) || (mode == kStatic && in.count() != n))
                throw BitstreamError("another number of symbols");
            switch (mode) {
                case kStatic: read_symbols(in, *m.plain, nullptr, out.data(), n); break;
                case kIndexed: read_symbols(in, *m.plain, &index, out.data(), n); break;
                case kEscape: read_symbols(in, *m.escaping, &index, out.data(), n); break;
                case kBits: {
                    std::vector<uint8_t> bits(n);
                    read_bits(in, m.p1.data(), bits.data(), n);
                    std::copy(bits.begin(), bits.end(), out.begin());
                    break;
                }
                case kRows: read_rows(in, m.row_weights.data(), 9, out.data(), n); break;
                case kRaw: {
                    std::vector<uint32_t> raw(n);
                    in.decode_raw(11, raw.data(), n);
                    std::copy(raw.begin(), raw.end(), out.begin());
                    break;
                }
                case kMixture: read_mixture(in, m.mixture(n), out.data(), 0, n); break;
                default: read_states(*m.map, in, out.data(), shape_of(n)); break;
            }
            in.finish();
            if (mode == kStatic || mode == kIndexed)   // encode() folds its input; undo the offset first
                for (size_t i = 0; i < n; ++i) out[i] -= m.plain->view().offset[mode == kIndexed ? m.index[i] : 0];
            again = encode(mode, out, n);
        }
    } catch (const BitstreamError&) {
        return;
    }
    if (again != Bytes(data, data + size)) {
        std::fprintf(stderr, "mode %s, n %zu: decoded bytes do not encode to themselves\n", kNames[mode], n);
        std::abort();
    }
}

// Puts the right check into a many-lane stream that was damaged behind it, so that its lanes get to see the damage.
inline void repair(Mode mode, uint8_t* data, size_t size) {
    if (mode == kTwo) {
        const size_t at = second_of(data, size);
        if (at > 3) repair(kStatic, data + 3, at - 3);
        return repair(kStatic, data + at, size - at);
    }
    if (mode >= kGolomb && mode != kPixels && mode != kLinear) return;   // these know no lanes
    try {
        const uint8_t *p = data, *end = data + size;
        const uint64_t head = read_varint(p, end);
        if (!(head & 3)) return;
        const uint64_t groups = read_varint(p, end);
        if (end - p < 4) return;
        const uint32_t check = stream_check(head, groups, p + 4, static_cast<size_t>(end - p) - 4);
        for (int b = 0; b < 4; ++b) data[p - data + b] = static_cast<uint8_t>(check >> (8 * b));
    } catch (const BitstreamError&) {
    }
}

inline size_t length_of(Mode mode, uint32_t number) {
    if (mode >= kGolomb) {
        const Engines::Shape shape = Engines::shape(mode);
        return (1 + number / shape.area() % static_cast<uint32_t>(shape.most_lines)) * shape.area();
    }
    const size_t n = number % Models::kMost;
    return mode == kAdaptive ? n / 60 * 60 : mode == kStates ? n / 40 * 40 : n;
}

}  // namespace cbench::fuzz
