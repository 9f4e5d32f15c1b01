#include "engines/linear_ar.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "error.hpp"
#include "sources.hpp"

namespace cbench {

namespace {

constexpr int64_t kWhite = int64_t{255} << kMeanBits;
constexpr int kMaxDrop = 30;
constexpr int32_t kFarCentre = 1 << 16;

// The channels' samples with a row above and a column to the left of zeros.
class Padded {
  public:
    Padded(size_t channels, size_t height, size_t width)
        : stride_(width + 1), plane_((height + 1) * stride_), samples_(channels * plane_) {}
    uint8_t* at(size_t c, size_t y, size_t x) { return samples_.data() + c * plane_ + (y + 1) * stride_ + x + 1; }
    size_t stride() const { return stride_; }
    size_t plane() const { return plane_; }

  private:
    size_t stride_, plane_;
    std::vector<uint8_t> samples_;
};

int64_t nearest(int64_t mean, int drop) {   // even on a tie; mean >= 0
    if (drop == 0) return mean;
    const int64_t half = int64_t{1} << (drop - 1), whole = mean >> drop, rest = mean - (whole << drop);
    return whole + (rest > half || (rest == half && (whole & 1)));
}

}  // namespace

// Samples that are coded together.
struct LinearModel::Group {
    std::vector<int32_t> row, centre, symbol;
    size_t n = 0;
    explicit Group(size_t most) : row(most), centre(most), symbol(most) {}
    IntArray rows() const { return {row.data(), n, IntArray::kI32}; }
    IntArray symbols() const { return {symbol.data(), n, IntArray::kI32}; }
};

LinearModel::LinearModel(const TableSet& tables, PixelMap map, const int32_t* weight, const int32_t* bias)
    : tables_(tables), map_(std::move(map)) {
    const size_t levels = map_.drop.size(), places = map_.row.size();
    if (!levels || map_.low.size() != levels || map_.high.size() != levels || map_.first.size() != levels)
        throw ArgumentError("a map of pixel tables needs drop, low, high and first of the same length");
    if (map_.centre.size() != places) throw ArgumentError("a map of pixel tables needs as many centres as rows");
    for (size_t l = 0; l < levels; ++l) {
        const int64_t steps = int64_t{map_.high[l]} - map_.low[l];
        if (map_.drop[l] < 0 || map_.drop[l] > kMaxDrop || steps < 0 || map_.first[l] < 0 ||
            static_cast<uint64_t>(map_.first[l] + steps) >= places)
            throw ArgumentError("level " + std::to_string(l) + " of a map of pixel tables lies outside its places");
    }
    for (size_t i = 0; i < places; ++i)
        if (map_.row[i] < 0 || map_.row[i] >= tables.view().tables || std::abs(map_.centre[i]) > kFarCentre)
            throw ArgumentError("place " + std::to_string(i) + " of a map of pixel tables names no table");
    for (size_t c = 0; c < 3; ++c) {
        bias_[c] = bias[c];
        std::copy_n(weight + 3 * c, 3, weight_[c]);
    }
}

inline size_t LinearModel::place(int32_t parameter, int64_t shift) const {
    const auto level = static_cast<size_t>(parameter >> kLevelShift);
    if (level >= map_.drop.size()) throw ArgumentError("a pixel's level lies outside the map of tables");
    const int64_t own = parameter & ((1 << kLevelShift) - 1);
    const int64_t mean = std::min(std::max<int64_t>(own + shift, 0), kWhite);
    const int64_t step = std::min<int64_t>(std::max<int64_t>(nearest(mean, map_.drop[level]), map_.low[level]), map_.high[level]);
    return static_cast<size_t>(map_.first[level] + (step - map_.low[level]));
}

// code(group) for all groups in order; with kRead it fills the symbols in.
template <bool kRead, class Code>
void LinearModel::run(const LinearPicture& p, Code&& code) const {
    constexpr int kDrop = kWeightBits - kMeanBits;
    Padded known(p.channels, p.height, p.width);
    if (!kRead)
        for (size_t c = 0; c < p.channels; ++c)
            for (size_t y = 0; y < p.height; ++y)
                std::copy_n(p.samples + (c * p.height + y) * p.width, p.width, known.at(c, y, 0));
    Group group(p.height);
    if (!p.height || !p.width) return;
    for (size_t c = 0; c < p.channels; ++c) {
        // Three neighbours, as distances back from the sample.
        const size_t before = known.plane(), up = known.stride();
        const size_t back[3] = {c ? before : up + 1, c ? before + 1 : up, 1};
        const int64_t *w = weight_[c], base = bias_[c] + (1 << (kDrop - 1));
        for (size_t step = 0; step < p.width + (c ? 0 : p.height - 1); ++step) {
            const size_t first = c || step < p.width ? 0 : step - p.width + 1;
            group.n = (c ? p.height : std::min(p.height, step + 1)) - first;
            const auto column = [&](size_t y) { return c ? step : step - y; };
            for (size_t i = 0; i < group.n; ++i) {
                const size_t y = first + i, x = column(y);
                const uint8_t* at = known.at(c, y, x);
                const int64_t sum = base + w[0] * at[-static_cast<std::ptrdiff_t>(back[0])] +
                                    w[1] * at[-static_cast<std::ptrdiff_t>(back[1])] + w[2] * at[-1];
                const size_t chosen = place(p.parameters[(y * p.width + x) * p.channels + c], sum >> kDrop);
                group.row[i] = map_.row[chosen];
                group.centre[i] = map_.centre[chosen];
                if (!kRead) group.symbol[i] = *at - group.centre[i];
            }
            code(group);
            if (!kRead) continue;
            for (size_t i = 0; i < group.n; ++i) {
                const int64_t value = int64_t{group.symbol[i]} + group.centre[i];
                if (value < 0 || value > 255) throw BitstreamError("the data decodes to pixel values outside 0..255");
                const size_t y = first + i, x = column(y);
                *known.at(c, y, x) = p.samples[(c * p.height + y) * p.width + x] = static_cast<uint8_t>(value);
            }
        }
    }
}

void LinearModel::append(const LinearPicture& picture, std::vector<Op>& ops) const {
    ops.reserve(ops.size() + picture.channels * picture.height * picture.width);
    run<false>(picture, [&](const Group& group) {
        const IntArray rows = group.rows();
        SymbolSource source(tables_, group.symbols(), &rows);
        const size_t first = ops.size();
        ops.resize(first + source.events());
        source.resolve(0, source.events(), ops.data() + first);
    });
}

void LinearModel::read(StreamReader& in, const LinearPicture& picture) const {
    run<true>(picture, [&](Group& group) {
        const IntArray rows = group.rows();
        read_symbols(in, tables_, &rows, group.symbol.data(), group.n);
    });
}

double LinearModel::bits(const LinearPicture& picture) const {
    double sum = 0;
    run<false>(picture, [&](const Group& g) { sum += tables_.bits(g.symbol.data(), g.row.data(), g.n); });
    return sum;
}

}  // namespace cbench
