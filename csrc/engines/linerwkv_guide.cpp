#include "linerwkv_guide.hpp"

#include <algorithm>

#include "plain_arithmetic.hpp"

namespace cbench {

namespace {

constexpr double kFarthest = 131072.0;   // beyond any sample of 16 bits

}  // namespace

NetworkGuide::NetworkGuide(std::shared_ptr<const LineNetwork> network, int bands, int columns, int threads)
    : bands_(bands), columns_(columns), engine_(std::move(network), bands, columns, threads), scale_(bands),
      normalised_(static_cast<size_t>(bands) * columns), predicted_(normalised_.size()), first_(normalised_.size()),
      row_(columns) {}

void NetworkGuide::reset() {
    engine_.reset();
    scale_ = CausalScale(bands_);
}

const double* NetworkGuide::predict(int band) {
    if (engine_.lines() == 0) return nullptr;
    const PlainArithmetic plain;
    if (band == 0) engine_.start_line(predicted_.data());
    const float* predicted = predicted_.data() + static_cast<size_t>(band) * columns_;
    const double mean = scale_.mean(band), deviation = scale_.deviation(band);
    for (int c = 0; c < columns_; ++c) {
        const double x = static_cast<double>(predicted[c]) * deviation + mean;
        row_[c] = x > -kFarthest ? (x < kFarthest ? x : kFarthest) : -kFarthest;   // not a number: the lower limit
    }
    return row_.data();
}

void NetworkGuide::take(int band, const int32_t* samples) {
    const PlainArithmetic plain;
    scale_.add(band, samples, columns_);
    const size_t at = static_cast<size_t>(band) * columns_;
    if (engine_.lines() == 0) {   // the scale of the first line is known at its end
        std::copy(samples, samples + columns_, first_.begin() + at);
        return;
    }
    normalise(band, samples);
    engine_.look(band, normalised_.data() + at, predicted_.data() + at + columns_);
}

void NetworkGuide::end_line() {
    const PlainArithmetic plain;
    if (engine_.lines() > 0) {
        engine_.remember(bands_ - 1, [] {});
        scale_.end_line(engine_.lines() - 1);
        return;
    }
    scale_.end_line(0);
    for (int band = 0; band < bands_; ++band) normalise(band, first_.data() + static_cast<size_t>(band) * columns_);
    engine_.line(normalised_.data(), predicted_.data());
}

void NetworkGuide::normalise(int band, const int32_t* samples) {
    const double mean = scale_.mean(band), deviation = scale_.deviation(band);
    float* u = normalised_.data() + static_cast<size_t>(band) * columns_;
    for (int c = 0; c < columns_; ++c) u[c] = static_cast<float>((samples[c] - mean) / deviation);
}

}  // namespace cbench
