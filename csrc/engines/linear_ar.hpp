// Pixels coded with Gaussians whose means move with three decoded neighbours: the loop over pixels.
//
// A picture has 1 or 3 channels of 8 bits. The caller gives a mean m (in 2^-10 pixel values) and a level l for each sample.
//   shift = (bias[c] + sum_o weight[c][o] neighbour_o + 32) >> 6     in 2^-16; neighbours outside the picture count as 0
//           channel 0: NW, N, W of its own; others: the channel before at the pixel and at W, their own at W
//   m'    = clamp(m + shift, 0, 255 * 2^10)
//   step  = m' / 2^drop[l] to the nearest integer (even on a tie), clamped to low[l] .. high[l]
//   place = first[l] + step - low[l]; the sample is coded as sample - centre[place] with table row[place]
// Channel after channel, in groups of samples that do not depend on each other: the diagonals of channel 0 (x + y = 0, 1,
// ..), the columns of the others, each from top to bottom. A group's events are those of an array with an index: all its
// symbols, then the values outside their tables.
#pragma once
#include <cstdint>
#include <vector>

#include "rans.hpp"
#include "tables.hpp"

namespace cbench {

constexpr int kMeanBits = 10;      // fraction bits of means
constexpr int kWeightBits = 16;    // of weights and biases
constexpr int kLevelShift = 20;    // a parameter is level * 2^20 + mean

// Which table belongs to a level and a mean.
struct PixelMap {
    std::vector<int32_t> drop, low, high, first;   // for each level
    std::vector<int32_t> row, centre;              // for each place
};

struct LinearPicture {
    uint8_t* samples;   // (channels, height, width); only reading writes
    size_t channels, height, width;
    const int32_t* parameters;   // (height, width, channels)
};

class LinearModel {
  public:
    // weight: [3][3], bias: [3]. `tables` must outlive the model.
    LinearModel(const TableSet& tables, PixelMap map, const int32_t* weight, const int32_t* bias);

    void append(const LinearPicture& picture, std::vector<Op>& ops) const;
    void read(StreamReader& in, const LinearPicture& picture) const;
    double bits(const LinearPicture& picture) const;

  private:
    struct Group;
    template <bool kRead, class Code>
    void run(const LinearPicture& picture, Code&& code) const;
    size_t place(int32_t parameter, int64_t shift) const;

    const TableSet& tables_;
    PixelMap map_;
    int64_t weight_[3][3], bias_[3];
};

}  // namespace cbench
