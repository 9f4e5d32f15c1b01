// Finite-state autoregressive coding: the table of a symbol is a function of symbols already coded. Both directions run
// here, symbol by symbol; many independent planes fill the lanes.
//
// Symbols form (B, L, H, W): B pictures, L groups. Events run over y, x, group and, innermost, the picture, so the lanes of
// a group of events belong to different pictures. A neighbour lies at (group + dc, y + dy, x + dx) of the same
// picture, all three <= 0; its state is symbol + 1, or 0 outside.
#pragma once
#include <cstdint>
#include <vector>

#include "error.hpp"
#include "rans.hpp"
#include "simd/states.hpp"

namespace cbench {

// Tables that keep 16-bit starts only: 2 bytes a symbol.
class RowTables {
  public:
    // weights: (tables, symbols), made into frequencies by the table rule with precision 16.
    RowTables(const uint32_t* weights, size_t tables, size_t symbols);
    const RowView& view() const { return view_; }
    size_t tables() const { return tables_; }
    size_t bytes() const { return 2 * start_.size(); }
    Op op(size_t table, uint32_t symbol) const {
        const uint16_t* row = view_.start + table * static_cast<size_t>(view_.stride);
        const uint32_t to = symbol + 1 < static_cast<uint32_t>(view_.symbols) ? row[symbol + 1] : 65536;
        return make_op(row[symbol], to - row[symbol]);
    }

  private:
    std::vector<uint16_t> start_;
    size_t tables_;
    RowView view_{};
};

constexpr size_t kMaxNeighbours = 8;

struct Offset {
    int dc, dy, dx;
};

// Which table a context uses: map[group * contexts + context], context = sum of states in base K + 1, the first offset
// most significant. Every entry is checked once, here.
class ContextMap {
  public:
    ContextMap(const RowTables& tables, const int32_t* map, size_t groups, size_t contexts, std::vector<Offset> offsets);
    size_t groups() const { return groups_; }
    const RowTables& tables() const { return tables_; }

    // Tables of all pictures' symbols at (group, y, x); symbols is in event order (H, W, L, B).
    void rows(const uint16_t* symbols, size_t pictures, size_t width, size_t group, size_t y, size_t x, int32_t* out) const;

  private:
    const RowTables& tables_;
    const int32_t* map_;
    size_t groups_, contexts_;
    std::vector<Offset> offsets_;
};

struct Shape4 {
    size_t pictures, groups, height, width;
    size_t size() const { return pictures * groups * height * width; }
};

Bytes encode_states(const ContextMap& map, const int32_t* symbols, Shape4 shape);
void append_states(const ContextMap& map, const int32_t* symbols, Shape4 shape, std::vector<Op>& ops);
void read_states(const ContextMap& map, StreamReader& in, int32_t* symbols, Shape4 shape);
double states_bits(const ContextMap& map, const int32_t* symbols, Shape4 shape);

}  // namespace cbench
