#include "linerwkv_coder.hpp"

#include <algorithm>
#include <cmath>

#include "plain_arithmetic.hpp"

namespace cbench {

LineCoder::LineCoder(std::shared_ptr<const LineNetwork> network, const LineFormat& format, int threads)
    : format_(format), engine_(std::move(network), format.bands, format.columns, threads), scale_(format.bands),
      statistics_(format.bands), normalised_(static_cast<size_t>(format.bands) * format.columns),
      predicted_(normalised_.size()), rounded_(format.columns), restored_(format.columns), band_bits_(format.bands, 0) {}

void LineCoder::encode(const int32_t* line, BitWriter& out) {
    const PlainArithmetic plain;
    const auto code = [&](int32_t prediction, int band, int32_t x) {
        const uint32_t m = fold(x - prediction, prediction - format_.low, format_.high - prediction);
        band_bits_[band] -= static_cast<int64_t>(out.count());
        statistics_[band].encode(out, m, format_.golomb);
        band_bits_[band] += static_cast<int64_t>(out.count());
    };
    const bool first = engine_.lines() == 0;
    if (first) first_line(const_cast<int32_t*>(line), code);
    for (int band = 0; band < format_.bands; ++band)
        normalise(band, line + static_cast<size_t>(band) * format_.columns);
    engine_.line(normalised_.data(), predicted_.data());
    if (first) return;
    for (int band = 0; band < format_.bands; ++band) {
        const int32_t* x = line + static_cast<size_t>(band) * format_.columns;
        round_predictions(band);
        for (int c = 0; c < format_.columns; ++c) code(rounded_[c], band, x[c]);
        remember(band, x);
    }
    scale_.end_line(engine_.lines() - 1);
}

void LineCoder::decode(BitReader& in, int32_t* line) {
    const PlainArithmetic plain;
    const auto code = [&](int32_t prediction, int band, int32_t& x) {
        const uint32_t m = statistics_[band].decode(in, format_.golomb);
        x = prediction + unfold(m, prediction - format_.low, format_.high - prediction);
    };
    const bool first = engine_.lines() == 0;
    if (first) first_line(line, code);
    engine_.start_line(predicted_.data());
    for (int band = 0; band < format_.bands; ++band) {
        const size_t at = static_cast<size_t>(band) * format_.columns;
        if (!first) {
            round_predictions(band);
            for (int c = 0; c < format_.columns; ++c) code(rounded_[c], band, line[at + c]);
            remember(band, line + at);
        }
        normalise(band, line + at);
        engine_.step(band, normalised_.data() + at, predicted_.data() + at + format_.columns);
    }
    if (!first) scale_.end_line(engine_.lines() - 1);
}

// No network yet: differences to the left in the first band, to the band before in the others.
template <class Code>
void LineCoder::first_line(int32_t* line, Code&& code) {
    const int columns = format_.columns;
    for (int band = 0; band < format_.bands; ++band) {
        int32_t* x = line + static_cast<size_t>(band) * columns;
        for (int c = 0; c < columns; ++c)
            code(clamp(band ? x[c - columns] : c ? x[c - 1] : 0), band, x[c]);
        remember(band, x);
    }
    scale_.end_line(0);
}

void LineCoder::round_predictions(int band) {
    const float step = static_cast<float>(format_.step);
    const float mean = static_cast<float>(scale_.mean(band)) / step;
    const float deviation = static_cast<float>(scale_.deviation(band)) / step;
    const float low = static_cast<float>(format_.low), high = static_cast<float>(format_.high);
    const float* predicted = predicted_.data() + static_cast<size_t>(band) * format_.columns;
    for (int c = 0; c < format_.columns; ++c) {
        float x = predicted[c] * deviation + mean;
        x = x > low ? x : low;   // not a number: low
        x = x < high ? x : high;
        rounded_[c] = std::min(static_cast<int32_t>(std::floor(x + 0.5f)), format_.high);
    }
}

void LineCoder::normalise(int band, const int32_t* samples) {
    const float step = static_cast<float>(format_.step);
    const float mean = static_cast<float>(scale_.mean(band)) / step;
    const float deviation = static_cast<float>(scale_.deviation(band)) / step;
    float* u = normalised_.data() + static_cast<size_t>(band) * format_.columns;
    for (int c = 0; c < format_.columns; ++c) u[c] = (static_cast<float>(samples[c]) - mean) / deviation;
}

void LineCoder::remember(int band, const int32_t* samples) {
    for (int c = 0; c < format_.columns; ++c) restored_[c] = samples[c] * format_.step;
    scale_.add(band, restored_.data(), format_.columns);
}

}  // namespace cbench
