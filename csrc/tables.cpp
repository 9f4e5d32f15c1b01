#include "tables.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "rans.hpp"

namespace cbench {

void quantise(const uint32_t* weights, size_t n, int precision, uint32_t* frequencies) {
    const uint64_t total = uint64_t{1} << precision;
    if (n == 0 || n > total) throw ArgumentError("a table needs between 1 and 2^precision symbols");
    const uint64_t sum = std::accumulate(weights, weights + n, uint64_t{0});
    if (sum == 0) throw ArgumentError("a table whose weights are all zero has no distribution");
    int64_t rest = static_cast<int64_t>(total);
    size_t heaviest = 0;
    for (size_t i = 0; i < n; ++i) {
        frequencies[i] = static_cast<uint32_t>(std::max<uint64_t>(1, weights[i] * total / sum));
        rest -= frequencies[i];
        if (weights[i] > weights[heaviest]) heaviest = i;
    }
    if (rest >= 0 || frequencies[heaviest] > 4 * static_cast<uint64_t>(-rest)) {
        frequencies[heaviest] = static_cast<uint32_t>(frequencies[heaviest] + rest);
        return;
    }
    std::vector<uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return frequencies[a] > frequencies[b]; });
    while (rest < 0) {   // each round takes at most 1/8 of a frequency, so the shape of the table survives
        for (const uint32_t i : order) {
            if (rest == 0 || frequencies[i] == 1) break;
            const int64_t take = std::min<int64_t>(-rest, std::max<uint32_t>(1, frequencies[i] / 8));
            frequencies[i] -= static_cast<uint32_t>(take);
            rest += take;
        }
    }
}

TableSet::TableSet(const uint32_t* cdf, size_t tables, size_t stride, const int32_t* size, const int32_t* offset,
                   int precision, bool escape)
    : first_(tables), size_(size, size + tables), offset_(offset, offset + tables) {
    if (precision < 1 || precision > 16) throw ArgumentError("table precision must be 1 to 16 bits");
    if (tables == 0) throw ArgumentError("a table set needs at least one table");
    const int scale = 16 - precision;
    size_t entries = 0;
    for (size_t t = 0; t < tables; ++t) {
        const std::string where = "table " + std::to_string(t);
        const size_t slots = static_cast<size_t>(std::max(size_[t], 0)) + escape;
        if (size_[t] < (escape ? 0 : 1) || slots + 1 > stride) throw ArgumentError(where + " has an impossible size");
        const uint32_t* row = cdf + t * stride;
        if (row[0] != 0 || row[slots] != 1u << precision)
            throw ArgumentError(where + " does not run from 0 to 2^precision");
        for (size_t k = 0; k < slots; ++k)
            if (row[k + 1] <= row[k]) throw ArgumentError(where + " has a symbol of frequency zero");
        if (static_cast<int64_t>(offset_[t]) + size_[t] > INT32_MAX || offset_[t] == INT32_MIN)
            throw ArgumentError(where + " has values beyond 32 bits");
        first_[t] = static_cast<int32_t>(entries);
        entries += slots;
        if (entries > (size_t{1} << 30)) throw ArgumentError("the table set is too large");
    }
    entry_.reserve(entries + 1);
    for (size_t t = 0; t < tables; ++t) {
        const uint32_t* row = cdf + t * stride;
        for (int32_t k = 0; k < size_[t] + escape; ++k)
            entry_.push_back(make_op(row[k] << scale, (row[k + 1] - row[k]) << scale));
    }
    // Finer buckets need fewer steps behind the first candidate, but must stay in the second-level cache.
    int bits = 12;
    while (bits > 4 && (tables << bits) > (size_t{1} << 15)) --bits;
    bucket_.resize(tables << bits);
    for (size_t t = 0; t < tables; ++t) {
        const Op* row = entry_.data() + first_[t];
        int32_t k = 0;
        for (uint32_t b = 0; b < 1u << bits; ++b) {
            const uint32_t slot = b << (16 - bits);
            while (slot - op_start(row[k]) > (row[k] >> 16)) ++k;
            // Kernels step on from a candidate by its value; nobody steps on from the escape slot, the last one.
            const auto value = static_cast<uint32_t>(k < size_[t] ? offset_[t] + k : kEscaped);
            bucket_[(t << bits) + b] = row[k] | static_cast<uint64_t>(value) << 32;
        }
    }
    if (const auto slots = static_cast<size_t>(size_[0]) + escape; slots > 1 && slots <= 256) fill_small(slots);
    const auto fits = [&](size_t t) {
        return size_[t] > 0 && offset_[t] >= -(1 << 14) && int64_t{offset_[t]} + size_[t] < 1 << 14;
    };
    bool near = true;
    for (size_t t = 0; t < tables; ++t) near = near && fits(t);
    if (near) fill_near(bits, escape);
    if (near && size_[0] + escape > 1) fill_ends(bits, escape);
    view_ = {entry_.data(), first_.data(),     size_.data(), offset_.data(), bucket_.data(),
             bits,          static_cast<int>(tables), escape, small_.get(),   near ? near_.data() : nullptr,
             ends_.empty() ? nullptr : ends_.data()};
}

namespace {

struct Cell {
    uint32_t number, begin, end;   // slots begin..end-1
    int32_t symbol;                // the first one that reaches into it
};

template <class Do>
void for_each_cell(Cells cells, const Op* row, Do&& handle) {
    int32_t symbol = 0;
    for (uint32_t begin = 0, end; begin < kTotal; begin = end) {
        const bool narrow = begin < cells.ends || begin >= kTotal - cells.ends;
        end = narrow ? begin + 1 : std::min(((begin >> cells.shift) + 1) << cells.shift, kTotal - cells.ends);
        while (end < kTotal && cells(end) == cells(begin)) ++end;
        while (begin - op_start(row[symbol]) > row[symbol] >> 16) ++symbol;
        handle(Cell{cells(begin), begin, end, symbol});
    }
}

// Slots of a cell that belong neither to its first symbol nor to the next.
uint32_t missed_in(const Cell& c, const Op* row, size_t slots) {
    const size_t third = static_cast<size_t>(c.symbol) + 2;
    return third < slots && op_start(row[third]) < c.end ? c.end - op_start(row[third]) : 0;
}

uint32_t missed(Cells cells, const Op* row, size_t slots) {
    uint32_t sum = 0;
    for_each_cell(cells, row, [&](const Cell& c) { sum += missed_in(c, row, slots); });
    return sum;
}

// Kernels try the first candidate and the next, and step on from there. The 15 cells where that would happen most are cut
// into 16 parts with a candidate of their own. Returns how many slots are missed even so.
uint32_t fill_cells(SmallTable& s, Cells cells, const Op* row, size_t slots) {
    std::vector<std::pair<uint32_t, Cell>> crowded;
    for_each_cell(cells, row, [&](const Cell& c) {
        s.cell[c.number] = static_cast<uint8_t>(c.symbol);
        if (const uint32_t m = missed_in(c, row, slots)) crowded.emplace_back(m, c);
    });
    std::stable_sort(crowded.begin(), crowded.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    uint32_t sum = 0;
    for (size_t i = 0; i < crowded.size(); ++i) {
        Cell part = crowded[i].second;
        if (i >= 15) {
            sum += crowded[i].first;
            continue;
        }
        s.crowd[part.number] = static_cast<uint8_t>(16 * (i + 1));
        const uint32_t end = part.end, width = 1u << (cells.shift - 4);
        for (uint32_t p = part.begin / width; part.begin < end; ++p, part.begin = part.end) {
            part.end = std::min(end, (p + 1) * width);
            while (part.begin - op_start(row[part.symbol]) > row[part.symbol] >> 16) ++part.symbol;
            s.part[16 * (i + 1) + p % 16] = static_cast<uint8_t>(part.symbol);
            sum += missed_in(part, row, slots);
        }
    }
    return sum;
}

}  // namespace

void TableSet::fill_small(size_t slots) {
    small_ = std::make_unique<SmallTable>();
    SmallTable wide{};
    const uint32_t missed_by_ends = fill_cells(*small_, kSmallEndCells, entry_.data(), slots);
    small_->ends = missed_by_ends <= fill_cells(wide, kSmallCells, entry_.data(), slots);
    if (!small_->ends) *small_ = wide;

    SmallTable& s = *small_;
    for (size_t k = 0; k < slots; ++k) {
        const uint32_t start = op_start(entry_[k]), less = entry_[k] >> 16;
        s.start_low[k] = static_cast<uint8_t>(start);
        s.start_high[k] = static_cast<uint8_t>(start >> 8);
        s.less_low[k] = static_cast<uint8_t>(less);
        s.less_high[k] = static_cast<uint8_t>(less >> 8);
    }
    std::copy(s.less_low + 1, s.less_low + 256, s.next_low);
    std::copy(s.less_high + 1, s.less_high + 256, s.next_high);
}

// What the `near` tables hold about the k-th symbol of table t and the one behind it.
uint64_t TableSet::near_entry(size_t t, int32_t k, bool escape) const {
    const auto pack = [](uint32_t start, uint32_t less, uint32_t next, int32_t v, bool stop) {
        return static_cast<uint64_t>(start & 0xffff) | static_cast<uint64_t>(less) << 16 |
               static_cast<uint64_t>(next) << 32 | static_cast<uint64_t>(2 * v + stop) << 48;
    };
    const Op* symbol = entry_.data() + first_[t] + k;
    const uint32_t start = op_start(*symbol), less = *symbol >> 16;
    const int32_t value = offset_[t] + k;
    if (k == size_[t]) return pack(start - 1, 0, 0, value, true);   // escape: start > 0, as there are symbols before
    if (k == size_[t] - 1) return pack(start, less, 0, value, escape);
    return pack(start, less, symbol[1] >> 16, value, false);
}

void TableSet::fill_near(int bits, bool escape) {
    near_.resize(bucket_.size());
    for (size_t b = 0; b < near_.size(); ++b) {
        const size_t t = b >> bits;
        const auto value = static_cast<int32_t>(bucket_[b] >> 32);
        near_[b] = near_entry(t, value == kEscaped ? size_[t] : value - offset_[t], escape);
    }
}

void TableSet::fill_ends(int bits, bool escape) {
    const Op* row = entry_.data();
    const auto slots = static_cast<size_t>(size_[0]) + escape;
    if (missed(kEndCells, row, slots) > missed(Cells{16 - bits, 0}, row, slots)) return;
    ends_.resize(kEndCells(65535) + 1);
    for_each_cell(kEndCells, row, [&](const Cell& c) { ends_[c.number] = near_entry(0, c.symbol, escape); });
}

double TableSet::bits(const int32_t* symbols, const int32_t* index, size_t n) const {
    double bits = 0;
    for (size_t i = 0; i < n; ++i) {
        const int32_t t = index ? index[i] : 0;
        const int64_t k = static_cast<int64_t>(symbols[i]) - offset_[t];
        const bool inside = k >= 0 && k < size_[t];
        if (!inside && !view_.escape)
            throw ArgumentError("symbol " + std::to_string(symbols[i]) + " lies outside its table");
        bits += 16 - std::log2(op_frequency(entry_[static_cast<size_t>(first_[t] + (inside ? k : static_cast<int64_t>(size_[t])))]));
        if (!inside) bits += 5 + escape_width(escape_number(symbols[i], offset_[t], size_[t]));
    }
    return bits;
}

}  // namespace cbench
