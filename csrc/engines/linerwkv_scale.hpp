// How LineRWKV's inputs are normalised without side information.
#pragma once
#include <cstdint>
#include <vector>

namespace cbench {

// Mean and deviation of every band over the lines coded so far, renewed every 16 lines: known to the decoder, too.
class CausalScale {
public:
    explicit CausalScale(int bands) : sum_(bands, 0), squares_(bands, 0), mean_(bands, 0), deviation_(bands, 1) {}
    // Adds reconstructed samples of one band of a line.
    void add(int band, const int32_t* samples, int columns);
    // Call once all bands of line `t` have been added; whether the scale of the next line was renewed.
    bool end_line(int64_t t);
    int32_t mean(int band) const { return mean_[band]; }
    int32_t deviation(int band) const { return deviation_[band]; }

private:
    std::vector<int64_t> sum_, squares_;
    std::vector<int32_t> mean_, deviation_;
    int64_t count_ = 0;
};

}  // namespace cbench
