// The published coding pipeline around the network. Encoder and decoder run the same routine, so no rounding can differ
// between them.
#pragma once
#include "golomb.hpp"
#include "linerwkv.hpp"
#include "linerwkv_scale.hpp"

namespace cbench {

struct LineFormat {
    int bands = 0, columns = 0;
    int32_t step = 1;              // q = 2 delta + 1
    int32_t low = 0, high = 0;     // range of the quantised samples
    GolombParams golomb;
};

// Codes quantised lines X (bands, columns): rounded prediction, residual, sample-adaptive Golomb code.
class LineCoder {
public:
    LineCoder(std::shared_ptr<const LineNetwork> network, const LineFormat& format, int threads);
    void encode(const int32_t* line, BitWriter& out);
    void decode(BitReader& in, int32_t* line);
    // What each band has cost so far; of an encoder.
    const std::vector<int64_t>& band_bits() const { return band_bits_; }

private:
    template <class Code>   // code(prediction, band, sample)
    void first_line(int32_t* line, Code&& code);
    void normalise(int band, const int32_t* samples);
    void round_predictions(int band);
    void remember(int band, const int32_t* samples);
    int32_t clamp(int32_t x) const { return x < format_.low ? format_.low : x > format_.high ? format_.high : x; }

    const LineFormat format_;
    LineEngine engine_;
    CausalScale scale_;
    std::vector<GolombBand> statistics_;
    std::vector<float> normalised_, predicted_;   // of the present line
    std::vector<int32_t> rounded_, restored_;     // of one band
    std::vector<int64_t> band_bits_;
};

}  // namespace cbench
