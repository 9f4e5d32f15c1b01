#include "states.hpp"

#include <cmath>
#include <string>

#include "tables.hpp"

namespace cbench {

RowTables::RowTables(const uint32_t* weights, size_t tables, size_t symbols) : tables_(tables) {
    if (tables == 0 || symbols == 0 || symbols > 32768) throw ArgumentError("state tables need 1 to 32768 symbols");
    const size_t padded = (symbols + kRowBlock - 1) / kRowBlock * kRowBlock, stride = kRowBlock + padded;
    if (tables > (size_t{1} << 31) / stride) throw ArgumentError("there are too many state tables");
    start_.assign(tables * stride, 65535);
    std::vector<uint32_t> frequencies(symbols);
    for (size_t t = 0; t < tables; ++t) {
        quantise(weights + t * symbols, symbols, 16, frequencies.data());
        uint16_t *head = start_.data() + t * stride, *row = head + kRowBlock;
        uint32_t sum = 0;
        for (size_t k = 0; k < symbols; ++k) {
            row[k] = static_cast<uint16_t>(sum);
            sum += frequencies[k];
        }
        for (size_t block = 0; block < std::min<size_t>(padded / kRowBlock, kRowBlock); ++block)
            head[block] = row[block * kRowBlock];
    }
    view_ = {start_.data() + kRowBlock, static_cast<int>(symbols), static_cast<int>(stride)};
}

ContextMap::ContextMap(const RowTables& tables, const int32_t* map, size_t groups, size_t contexts,
                       std::vector<Offset> offsets)
    : tables_(tables), map_(map), groups_(groups), contexts_(contexts), offsets_(std::move(offsets)) {
    size_t expected = 1;
    if (offsets_.size() > kMaxNeighbours) throw ArgumentError("a context has at most 8 neighbours");
    for (const Offset& o : offsets_) {
        if (o.dc > 0 || o.dy > 0 || o.dx > 0 || (o.dc == 0 && o.dy == 0 && o.dx == 0))
            throw ArgumentError("a context offset must point to symbols that are coded before");
        expected *= static_cast<size_t>(tables.view().symbols) + 1;
        if (expected > (size_t{1} << 28)) throw ArgumentError("the context has too many states (limit 2^28)");
    }
    if (contexts != expected) throw ArgumentError("the context map needs (symbols + 1)^neighbours entries a group");
    for (size_t i = 0; i < groups * contexts; ++i)
        if (map[i] < 0 || static_cast<size_t>(map[i]) >= tables.tables())
            throw ArgumentError("entry " + std::to_string(i) + " of the context map names no table");
}

void ContextMap::rows(const uint16_t* symbols, size_t pictures, size_t width, size_t group, size_t y, size_t x,
                      int32_t* out) const {
    const int32_t* map = map_ + group * contexts_;
    const auto base = static_cast<uint32_t>(tables_.view().symbols) + 1;
    const uint16_t* neighbour[kMaxNeighbours];
    const size_t count = offsets_.size();
    for (size_t o = 0; o < count; ++o) {
        const Offset& d = offsets_[o];
        const auto c = static_cast<int64_t>(group) + d.dc, v = static_cast<int64_t>(y) + d.dy,
                   u = static_cast<int64_t>(x) + d.dx;
        neighbour[o] = c < 0 || v < 0 || u < 0
                           ? nullptr
                           : symbols + ((static_cast<size_t>(v) * width + static_cast<size_t>(u)) * groups_ +
                                        static_cast<size_t>(c)) * pictures;
    }
    for (size_t b = 0; b < pictures; ++b) {
        uint32_t context = 0;
        for (size_t o = 0; o < count; ++o) context = context * base + (neighbour[o] ? neighbour[o][b] + 1u : 0u);
        out[b] = map[context];
    }
}

namespace {

// Calls f(source index, event index) for every symbol: sources are (B, L, HW), events (HW, L, B). In tiles, because one
// of the two walks through memory in large steps whatever the order.
template <class F>
void for_each_in_tiles(const Shape4& s, F&& f) {
    constexpr size_t kTile = 32;
    const size_t area = s.height * s.width;
    for (size_t c = 0; c < s.groups; ++c)
        for (size_t b0 = 0; b0 < s.pictures; b0 += kTile)
            for (size_t p0 = 0; p0 < area; p0 += kTile)
                for (size_t p = p0; p < std::min(p0 + kTile, area); ++p)
                    for (size_t b = b0; b < std::min(b0 + kTile, s.pictures); ++b)
                        f((b * s.groups + c) * area + p, (p * s.groups + c) * s.pictures + b);
}

std::vector<uint16_t> to_event_order(const int32_t* symbols, const Shape4& s, int alphabet) {
    std::vector<uint16_t> out(s.size());
    uint32_t largest = 0;
    for_each_in_tiles(s, [&](size_t from, size_t to) {
        largest = std::max(largest, static_cast<uint32_t>(symbols[from]));
        out[to] = static_cast<uint16_t>(symbols[from]);
    });
    if (s.size() && largest >= static_cast<uint32_t>(alphabet))
        throw ArgumentError("a symbol lies outside the state tables (0.." + std::to_string(alphabet - 1) + ")");
    return out;
}

class StateSource final : public OpSource {
  public:
    StateSource(const ContextMap& map, const std::vector<uint16_t>& symbols, const Shape4& s)
        : map_(map), symbols_(symbols), s_(s), rows_(s.pictures) {}
    void resolve(size_t first, size_t count, Op* ops) override {
        for (size_t i = first; i < first + count;) {
            const size_t step = i / s_.pictures, b = i % s_.pictures;
            if (step != step_) {
                const size_t c = step % s_.groups, xy = step / s_.groups;
                map_.rows(symbols_.data(), s_.pictures, s_.width, c, xy / s_.width, xy % s_.width, rows_.data());
                step_ = step;
            }
            const size_t end = std::min(first + count, (step + 1) * s_.pictures);
            for (size_t k = b; i < end; ++i, ++k) *ops++ = map_.tables().op(static_cast<size_t>(rows_[k]), symbols_[i]);
        }
    }

  private:
    const ContextMap& map_;
    const std::vector<uint16_t>& symbols_;
    Shape4 s_;
    std::vector<int32_t> rows_;
    size_t step_ = SIZE_MAX;
};

}  // namespace

void append_states(const ContextMap& map, const int32_t* symbols, Shape4 s, std::vector<Op>& ops) {
    const auto ordered = to_event_order(symbols, s, map.tables().view().symbols);
    StateSource source(map, ordered, s);
    const size_t first = ops.size();
    ops.resize(first + s.size());
    source.resolve(0, s.size(), ops.data() + first);
}

Bytes encode_states(const ContextMap& map, const int32_t* symbols, Shape4 s) {
    const auto ordered = to_event_order(symbols, s, map.tables().view().symbols);
    StateSource source(map, ordered, s);
    return encode_stream(source, s.size(), -1);
}

double states_bits(const ContextMap& map, const int32_t* symbols, Shape4 s) {
    std::vector<Op> ops;
    append_states(map, symbols, s, ops);
    double bits = 0;
    for (const Op op : ops) bits += 16 - std::log2(op_frequency(op));
    return bits;
}

void read_states(const ContextMap& map, StreamReader& in, int32_t* symbols, Shape4 s) {
    const RowTables& tables = map.tables();
    std::vector<uint16_t> ordered(s.size());
    std::vector<int32_t> rows(s.pictures), out(s.pictures);
    for (size_t y = 0; y < s.height; ++y)
        for (size_t x = 0; x < s.width; ++x)
            for (size_t c = 0; c < s.groups; ++c) {
                map.rows(ordered.data(), s.pictures, s.width, c, y, x, rows.data());
                in.decode_rows(tables.view(), rows.data(), out.data(), s.pictures);
                uint16_t* to = ordered.data() + ((y * s.width + x) * s.groups + c) * s.pictures;
                for (size_t b = 0; b < s.pictures; ++b) to[b] = static_cast<uint16_t>(out[b]);
            }
    for_each_in_tiles(s, [&](size_t to, size_t from) { symbols[to] = ordered[from]; });
}

}  // namespace cbench
