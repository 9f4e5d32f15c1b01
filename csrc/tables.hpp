// Probabilities -> integer frequencies (integer arithmetic only), and sets of tables ready for the kernels.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "error.hpp"
#include "simd/kernels.hpp"

namespace cbench {

constexpr uint32_t kTotal = 1u << 16;   // every table is scaled to this sum for coding

// The table rule: integer weights w (not all zero) -> frequencies f >= 1 with sum 2^precision.
//   f_i = max(1, floor(w_i 2^P / S)); what is missing goes to the heaviest symbol (the first on a tie). If 1s given to
//   rare symbols made the sum too large, single units are taken back round by round from every f_i > 1 that is above
//   its share, heaviest first.
void quantise(const uint32_t* weights, size_t n, int precision, uint32_t* frequencies);

// The row rule, for one table a symbol: cumulative C(i) = i + floor(W_i (2^16 - n) / S), evaluated only where needed.
inline uint32_t row_cumulative(uint64_t weight_below, uint64_t weight_sum, uint32_t i, uint32_t n) {
    return i + static_cast<uint32_t>(weight_below * (kTotal - n) / weight_sum);
}

// A value outside its table is coded as the escape slot; its number (0 = nearest above, 1 = nearest below, 2 = second
// above ...) follows as 6 raw bits for the width b of number + 1 and the b - 1 bits below the leading one.
inline uint64_t escape_number(int64_t value, int64_t offset, int64_t size) {
    return value < offset ? 2 * static_cast<uint64_t>(offset - 1 - value) + 1
                          : 2 * static_cast<uint64_t>(value - offset - size);
}
inline int escape_width(uint64_t number) { return 64 - __builtin_clzll(number + 1); }

// Immutable: validated once, then used by any number of threads.
class TableSet {
  public:
    // cdf: `tables` rows of `stride` numbers; row t holds size[t]+1 (+1 with escape) cumulative frequencies, from 0 to
    // 2^precision, strictly increasing.
    TableSet(const uint32_t* cdf, size_t tables, size_t stride, const int32_t* size, const int32_t* offset, int precision,
             bool escape);
    const TableView& view() const { return view_; }
    double bits(const int32_t* symbols, const int32_t* index, size_t n) const;   // sum of -log2 f / 2^16

  private:
    void fill_small(size_t slots);
    void fill_near(int bits, bool escape);
    void fill_ends(int bits, bool escape);
    uint64_t near_entry(size_t t, int32_t k, bool escape) const;

    std::vector<Op> entry_;
    std::vector<int32_t> first_, size_, offset_;
    std::vector<uint64_t> bucket_, near_, ends_;
    std::unique_ptr<SmallTable> small_;
    TableView view_{};
};

}  // namespace cbench
