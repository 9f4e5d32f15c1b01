// Where events come from: arrays of symbols and tables, bits and probabilities, rows of weights.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "rans.hpp"
#include "tables.hpp"

namespace cbench {

// A one-dimensional array of integers of any width, read as int32 in chunks without converting the whole.
struct IntArray {
    enum Kind { kU8, kI8, kU16, kI16, kI32 };
    const void* data = nullptr;
    size_t n = 0;
    Kind kind = kI32;

    const int32_t* chunk(size_t first, size_t count, int32_t* buffer) const {
        switch (kind) {
            case kI32: return static_cast<const int32_t*>(data) + first;
            case kU8: return widen(static_cast<const uint8_t*>(data) + first, count, buffer);
            case kI8: return widen(static_cast<const int8_t*>(data) + first, count, buffer);
            case kU16: return widen(static_cast<const uint16_t*>(data) + first, count, buffer);
            default: return widen(static_cast<const int16_t*>(data) + first, count, buffer);
        }
    }

  private:
    template <class T>
    static const int32_t* widen(const T* from, size_t count, int32_t* buffer) {
        for (size_t i = 0; i < count; ++i) buffer[i] = from[i];
        return buffer;
    }
};

// A chunk of table indices, checked against the number of tables; null when there is no index.
inline const int32_t* index_chunk(const IntArray* index, size_t first, size_t count, int tables, int32_t* buffer) {
    if (!index) return nullptr;
    const int32_t* t = index->chunk(first, count, buffer);
    if (count && kernels().largest(t, count) >= static_cast<uint32_t>(tables))
        throw ArgumentError("a table index lies outside 0.." + std::to_string(tables - 1));
    return t;
}

// Events of `symbols` with tables chosen by `index`, followed by the values that lie outside their table.
class SymbolSource final : public OpSource {
  public:
    SymbolSource(const TableSet& tables, const IntArray& symbols, const IntArray* index)
        : t_(tables.view()), symbols_(symbols), index_(index) {
        if (index && index->n != symbols.n) throw ArgumentError("symbols and index have different lengths");
        if (t_.escape) find_escapes();
    }
    size_t events() const { return symbols_.n + escapes_.size(); }
    void resolve(size_t first, size_t count, Op* ops) override {
        const size_t n = symbols_.n;
        for (size_t done = 0; done < count;) {
            const size_t at = first + done;
            if (at >= n) {
                std::copy_n(escapes_.begin() + static_cast<std::ptrdiff_t>(at - n), count - done, ops + done);
                return;
            }
            const size_t step = std::min({kChunk, count - done, n - at});
            const int32_t* s = symbols_.chunk(at, step, symbol_buffer_);
            const int32_t* t = index_chunk(index_, at, step, t_.tables, index_buffer_);
            const size_t good = kernels().resolve(t_, s, t, step, ops + done);
            if (good != step)
                throw ArgumentError("symbol " + std::to_string(s[good]) + " at position " + std::to_string(at + good) +
                                    " lies outside its table (use tables with escape=True for such values)");
            done += step;
        }
    }

  private:
    void find_escapes() {
        for (size_t at = 0; at < symbols_.n; at += kChunk) {
            const size_t step = std::min(kChunk, symbols_.n - at);
            const int32_t* s = symbols_.chunk(at, step, symbol_buffer_);
            const int32_t* t = index_chunk(index_, at, step, t_.tables, index_buffer_);
            for (size_t i = 0; i < step; ++i) {
                const int32_t table = t ? t[i] : 0;
                const uint32_t k = static_cast<uint32_t>(s[i]) - static_cast<uint32_t>(t_.offset[table]);
                if (k >= static_cast<uint32_t>(t_.size[table])) append_escape(s[i], table);
            }
        }
    }
    void append_escape(int32_t value, int32_t table) {
        if (value == kEscaped) throw ArgumentError("symbol -2147483648 cannot be coded");
        const uint64_t number = escape_number(value, t_.offset[table], t_.size[table]);
        const int width = escape_width(number);
        escapes_.push_back(raw_op(static_cast<uint32_t>(width), 6));
        for (int done = 0; done < width - 1; done += 16) {
            const int bits = std::min(16, width - 1 - done);
            escapes_.push_back(raw_op(static_cast<uint32_t>((number + 1) >> done) & ((1u << bits) - 1), bits));
        }
    }

    const TableView& t_;
    IntArray symbols_;
    const IntArray* index_;
    std::vector<Op> escapes_;
    int32_t symbol_buffer_[kChunk], index_buffer_[kChunk];
};

// Puts the values of escaped symbols in their places.
inline void read_escaped(StreamReader& in, const TableView& t, const IntArray* index, int32_t* out, size_t n) {
    if (!t.escape) return;
    int32_t buffer[kChunk];
    for (size_t at = 0; at < n; ++at) {
        if (out[at] != kEscaped) continue;
        const int32_t table = index ? *index->chunk(at, 1, buffer) : 0;
        uint32_t width = 0;
        in.decode_raw(6, &width, 1);
        if (width < 1 || width > 34) throw BitstreamError("a value outside its table has an impossible size");
        uint64_t low = 0;
        for (uint32_t done = 0; done + 1 < width; done += 16) {
            uint32_t part = 0;
            in.decode_raw(static_cast<int>(std::min(16u, width - 1 - done)), &part, 1);
            low |= static_cast<uint64_t>(part) << done;
        }
        const uint64_t number = (uint64_t{1} << (width - 1) | low) - 1;
        const auto steps = static_cast<int64_t>(number / 2);
        const int64_t value = number % 2 ? int64_t{t.offset[table]} - 1 - steps
                                         : int64_t{t.offset[table]} + t.size[table] + steps;
        if (value <= INT32_MIN || value > INT32_MAX) throw BitstreamError("a value outside its table exceeds 32 bits");
        out[at] = static_cast<int32_t>(value);
    }
}

// Decodes what SymbolSource produced: symbols, then the values of the escaped ones.
inline void read_symbols(StreamReader& in, const TableSet& tables, const IntArray* index, int32_t* out, size_t n) {
    const TableView& t = tables.view();
    if (index) {
        int32_t buffer[kChunk];
        for (size_t at = 0; at < n; at += kChunk) {
            const size_t step = std::min(kChunk, n - at);
            in.decode(t, index_chunk(index, at, step, t.tables, buffer), out + at, step);
        }
    } else {
        in.decode(t, nullptr, out, n);
    }
    read_escaped(in, t, index, out, n);
}

// The same without index for two streams.
inline void read_symbols(StreamReader& one, StreamReader& two, const TableSet& tables, int32_t* out_one, size_t n_one,
                         int32_t* out_two, size_t n_two) {
    const TableView& t = tables.view();
    StreamReader::decode_two(one, two, t, out_one, n_one, out_two, n_two);
    read_escaped(one, t, nullptr, out_one, n_one);
    read_escaped(two, t, nullptr, out_two, n_two);
}

// Bits with one probability each. p1 = P(1) * 65536; 0 is taken as 1, so that every bit can be coded.
class BitSource final : public OpSource {
  public:
    BitSource(const uint8_t* bits, const uint16_t* p1) : bits_(bits), p1_(p1) {}
    void resolve(size_t first, size_t count, Op* ops) override {
        for (size_t done = 0; done < count; done += kChunk) {
            const size_t step = std::min(kChunk, count - done);
            const uint16_t* p = clamp_probabilities(p1_ + first + done, step, buffer_);
            kernels().resolve_bits(bits_ + first + done, p, step, ops + done);
        }
    }
    static const uint16_t* clamp_probabilities(const uint16_t* p1, size_t n, uint16_t* buffer) {
        if (kernels().least(p1, n) > 0) return p1;
        for (size_t i = 0; i < n; ++i) buffer[i] = std::max<uint16_t>(p1[i], 1);
        return buffer;
    }

  private:
    const uint8_t* bits_;
    const uint16_t* p1_;
    uint16_t buffer_[kChunk];
};

inline void read_bits(StreamReader& in, const uint16_t* p1, uint8_t* out, size_t n) {
    uint16_t buffer[kChunk];
    for (size_t at = 0; at < n; at += kChunk) {
        const size_t step = std::min(kChunk, n - at);
        in.decode_bits(BitSource::clamp_probabilities(p1 + at, step, buffer), out + at, step);
    }
}

// One row of integer weights a symbol (row rule of tables.hpp).
class RowSource final : public OpSource {
  public:
    RowSource(const IntArray& symbols, const uint16_t* rows, size_t length)
        : symbols_(symbols), rows_(rows), length_(static_cast<uint32_t>(length)) {}
    void resolve(size_t first, size_t count, Op* ops) override {
        int32_t buffer[1];
        for (size_t i = 0; i < count; ++i) {
            const uint32_t s = static_cast<uint32_t>(*symbols_.chunk(first + i, 1, buffer));
            if (s >= length_) throw ArgumentError("symbol " + std::to_string(static_cast<int32_t>(s)) + " lies outside its row");
            const uint16_t* w = rows_ + (first + i) * length_;
            const uint64_t below = kernels().sum(w, s), sum = below + kernels().sum(w + s, length_ - s);
            if (!sum) throw ArgumentError("a row whose weights are all zero has no distribution");
            const uint32_t start = row_cumulative(below, sum, s, length_);
            ops[i] = make_op(start, row_cumulative(below + w[s], sum, s + 1, length_) - start);
        }
    }

  private:
    IntArray symbols_;
    const uint16_t* rows_;
    uint32_t length_;
};

inline void read_rows(StreamReader& in, const uint16_t* rows, size_t length, int32_t* out, size_t n) {
    constexpr uint32_t kBlock = 16;
    const auto size = static_cast<uint32_t>(length);
    std::vector<uint32_t> sums((size + kBlock - 1) / kBlock);
    for (size_t i = 0; i < n; ++i) {
        const uint16_t* w = rows + i * length;
        uint64_t sum = 0;
        for (uint32_t b = 0; b < sums.size(); ++b) {
            uint32_t part = 0;
            for (uint32_t k = b * kBlock; k < std::min(size, (b + 1) * kBlock); ++k) part += w[k];
            sum += sums[b] = part;
        }
        if (!sum) throw ArgumentError("a row whose weights are all zero has no distribution");
        const uint32_t slot = in.slot();
        const uint64_t room = kTotal - size;
        // C(i) <= slot without a division: floor(W room / S) <= slot - i
        const auto reached = [&](uint64_t below, uint32_t at) {
            return at <= slot && below * room < (uint64_t{slot} - at + 1) * sum;
        };
        uint64_t below = 0;
        uint32_t k = 0;
        for (uint32_t b = 0; k + kBlock < size && reached(below + sums[b], k + kBlock); k += kBlock) below += sums[b++];
        while (k + 1 < size && reached(below + w[k], k + 1)) below += w[k++];
        const uint32_t start = row_cumulative(below, sum, k, size);
        out[i] = static_cast<int32_t>(k);
        in.advance(start, row_cumulative(below + w[k], sum, k + 1, size) - start);
    }
}

}  // namespace cbench
