// Pixels coded with distributions that a small integer network makes from decoded neighbours: the loop over pixels.
//
// A picture has 1 or 3 channels of 8 bits; pixels go by rows, the colours of a pixel in order. For each sample:
//   features    differences of decoded neighbours in all colours (csrc/engines/pixel_ar.cpp, `Neighbours`)
//   hidden_j    = clamp(((sum_f inner[f][j] feature_f + 2^(s-1)) >> s) + bias_j, 0, 32767); the caller gives the biases of
//                 every sample, so that they can come from a large network that runs once for the whole picture
//   second_i    = clamp((sum_j middle[j][i] hidden_j + base[i]) >> shift[i], 0, 32767)
//   out_o       = (sum_i outer[i][o] second_i + base[o]) >> shift[o]
//   components  k of K: weight 2^(out_k / 16), mean 256 b + line + out_(K+k) in 1/256, scale out_(2K+k) as in mixture.hpp,
//                 where b = floor((W + N) / 2) of the sample's own colour and line is linear in the features
// and the sample's interval is that of mixture.hpp for logistic distributions on 0..255. A grey picture is coded as the
// first colour of one whose colours are all equal.
//
// All sums fit 32 bits, which the constructor proves; so every machine gets the same numbers.
#pragma once
#include <cstdint>
#include <vector>

#include "engines/pixel_ar_kernels.hpp"
#include "rans.hpp"

namespace cbench {

constexpr int kPixelFeatures = 24;
constexpr int kMaxHidden = 256, kMaxPixelMixtures = 8;

struct LayerWeights {
    const int16_t* weight;   // [3][hidden][outputs]
    const int32_t* base;     // [3][outputs]
    const int32_t* shift;    // [3][outputs]
};

struct PixelWeights {
    int hidden, mixtures;
    const int16_t* inner;    // [3][kPixelFeatures][hidden]
    int inner_shift;
    LayerWeights middle;     // hidden outputs
    LayerWeights outer;      // 3 mixtures outputs
    const int16_t* linear;   // [3][kPixelFeatures]
    int linear_shift;
};

// Rows first .. first+count-1 of a picture (channels, height, width); rows before are known. biases: [row][x][3][hidden],
// of those rows only.
struct PixelRows {
    uint8_t* samples;
    size_t channels, height, width, first, count;
    const int16_t* biases;
};

class PixelModel {
  public:
    explicit PixelModel(const PixelWeights& weights);
    int hidden() const { return hidden_; }

    void append(const PixelRows& rows, std::vector<Op>& ops) const;
    void read(StreamReader& in, const PixelRows& rows) const;
    double bits(const PixelRows& rows) const;

  private:
    struct Distribution;
    struct Layer {   // per colour, inputs in pairs: weight[colour][input / 2][output][2]
        int inputs = 0, outputs = 0;   // outputs padded to whole blocks
        std::vector<int16_t> weight;
        std::vector<int32_t> base, shift;
        void set(const LayerWeights& w, int from, int to);
        void run(Multiply multiply, int colour, const int16_t* in, int32_t* out) const;
    };
    template <class Code>
    void run(const PixelRows& rows, Code&& code) const;
    void distribution(Multiply multiply, int colour, const int16_t* features, int32_t b, const int16_t* biases,
                      Distribution& to) const;

    int hidden_, mixtures_;
    int inner_shift_, linear_shift_;
    std::vector<int16_t> inner_, linear_;   // inner_ packed as in Layer
    Layer middle_, outer_;
};

}  // namespace cbench
