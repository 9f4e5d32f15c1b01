#include "linerwkv_scale.hpp"

#include <algorithm>
#include <cmath>

namespace cbench {

void CausalScale::add(int band, const int32_t* samples, int columns) {
    int64_t sum = 0, squares = 0;
    for (int c = 0; c < columns; ++c) {
        sum += samples[c];
        squares += int64_t{samples[c]} * samples[c];
    }
    sum_[band] += sum;
    squares_[band] += squares;
    if (band == 0) count_ += columns;
}

bool CausalScale::end_line(int64_t t) {
    if (t != 0 && (t + 1) % 16) return false;
    const double n = static_cast<double>(count_);
    for (size_t i = 0; i < sum_.size(); ++i) {
        const double sum = static_cast<double>(sum_[i]), squares = static_cast<double>(squares_[i]);
        const double variance = count_ > 1 ? (squares - sum * sum / n) / (n - 1.0) : 0.0;
        mean_[i] = static_cast<int32_t>(std::floor(sum / n + 0.5));
        deviation_[i] = std::max(1, static_cast<int32_t>(std::floor(std::sqrt(std::max(variance, 0.0)) + 0.5)));
    }
    return true;
}

}  // namespace cbench
