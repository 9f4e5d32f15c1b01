#include "linerwkv_guide.hpp"

#include <algorithm>

namespace cbench {

namespace {

constexpr double kFarthest = 131072.0;   // beyond any sample of 16 bits

}  // namespace

NetworkGuide::NetworkGuide(std::shared_ptr<const LineNetwork> network, int bands, int columns, int threads)
    : bands_(bands), columns_(columns), engine_(std::move(network), bands, columns, threads), scale_(bands),
      predicted_(static_cast<size_t>(bands + 1) * columns), row_(columns) {}

void NetworkGuide::reset() {
    engine_.reset();
    scale_ = CausalScale(bands_);
}

// Columns before this one are coded; the next ones want predictions.
void NetworkGuide::pass(void* guide, int column) {
    auto& g = *static_cast<NetworkGuide*>(guide);
    g.take(column);
    g.engine_.await(g.band_, column);
    const float* predicted = g.predicted_.data() + static_cast<size_t>(g.band_) * g.columns_;
    const double mean = g.scale_.mean(g.band_), deviation = g.scale_.deviation(g.band_);
    for (int c = column; c < std::min(column + rls::kGate, g.columns_); ++c) {
        const double x = static_cast<double>(predicted[c]) * deviation + mean;
        g.row_[c] = x > -kFarthest ? (x < kFarthest ? x : kFarthest) : -kFarthest;   // not a number: the lower limit
    }
}

void NetworkGuide::take(int columns) {
    normalise(band_, samples_, taken_, columns);
    taken_ = columns;
    engine_.give(band_, columns);
}

// Its scale is known only now.
void NetworkGuide::end_first_line(const int32_t* line) {
    scale_.end_line(0);
    engine_.follow(predicted_.data(), [&] {
        for (int band = 0; band < bands_; ++band, line += columns_) normalise(band, line, 0, columns_);
        engine_.give(bands_ - 1, columns_);
        return true;
    });
}

void NetworkGuide::normalise(int band, const int32_t* samples, int from, int to) {
    const double mean = scale_.mean(band), deviation = scale_.deviation(band);
    float* u = engine_.input(band);
    for (int c = from; c < to; ++c) u[c] = static_cast<float>((samples[c] - mean) / deviation);
}

}  // namespace cbench
