#include "linerwkv.hpp"

#include <algorithm>
#include <cstring>

#include "error.hpp"
#include "plain_arithmetic.hpp"
#include "simd/kernels.hpp"

namespace cbench {

extern const LineKernels kLinePortable;
#if defined(__x86_64__)
extern const LineKernels kLineAvx2;
extern const LineKernels kLineAvx512;
#endif

const LineKernels& line_kernels() {
#if defined(__x86_64__)
    const char* name = kernels().name;
    if (!std::strcmp(name, kLineAvx512.name)) return kLineAvx512;
    if (!std::strcmp(name, kLineAvx2.name)) return kLineAvx2;
#endif
    return kLinePortable;
}

namespace {

constexpr int kLaneWidth = 16;     // strips are multiples of this, whatever the kernels
constexpr int kStripColumns = 64;  // wider strips leave the first-level cache
constexpr int kMargin = 2 * kHalo + kLaneWidth;

}  // namespace

LineEngine::LineEngine(std::shared_ptr<const LineNetwork> network, int bands, int columns, int threads)
    : network_(std::move(network)), bands_(bands), columns_(columns),
      crew_(std::min(threads, (columns + kLaneWidth - 1) / kLaneWidth)) {
    if (bands < 1 || columns < 1 || columns > 1 << 24) throw ArgumentError("an image has at least one band and column");
    const int units = (columns + kLaneWidth - 1) / kLaneWidth, most = kStripColumns / kLaneWidth;
    const int rounds = (units + most * crew_.size() - 1) / (most * crew_.size());
    const int count = std::min(units, rounds * crew_.size());
    const LineParams& net = network_->params();
    for (int i = 0, first = 0; i < count; ++i) {
        Strip strip;
        strip.first = first;
        strip.width = (units * (i + 1) / count - units * i / count) * kLaneWidth;
        first += strip.width;
        const size_t n = static_cast<size_t>(net.features) * strip.width;
        strip.memory.assign(per_band(strip) * bands, 0.0f);
        strip.row.assign(n * kStateParts * net.band_blocks, 0.0f);
        strip.a.assign(n, 0.0f);
        strip.b.assign(n, 0.0f);
        strip.work.assign(static_cast<size_t>(net.features) * std::max(5 * strip.width, 2 * (strip.width + 2 * kHalo)) +
                              4 * kHalo, 0.0f);
        strip.out.assign(strip.width, 0.0f);
        strips_.push_back(std::move(strip));
    }
    padded_.assign((static_cast<size_t>(units) * kLaneWidth + 2 * kMargin) * bands, 0.0f);
    first_band_.assign(columns, 0.0f);
    reset();
}

void LineEngine::reset() {
    const LineParams& net = network_->params();
    lines_ = 0;
    for (Strip& strip : strips_) {
        const size_t n = static_cast<size_t>(net.features) * strip.width;
        std::fill(strip.memory.begin(), strip.memory.end(), 0.0f);
        // No history yet: minus infinity as the exponent of every wkv of the line blocks.
        for (int band = 0; band < bands_; ++band)
            for (int l = 0; l < net.line_blocks; ++l) {
                float* pp = strip.memory.data() + per_band(strip) * band + n + n * (kStateParts * l + 4);
                std::fill(pp, pp + n, kEmptyExponent);
            }
    }
}

size_t LineEngine::per_band(const Strip& strip) const {
    const LineParams& net = network_->params();
    return static_cast<size_t>(net.features) * strip.width * (1 + kStateParts * net.line_blocks);
}

template <class Job>
void LineEngine::each_strip(Job&& job) {
    const int size = crew_.size();
    crew_.run([&](int thread) {
        const PlainArithmetic plain;
        for (size_t i = thread; i < strips_.size(); i += size) job(strips_[i]);
    });
}

float* LineEngine::padded(int band) {
    return padded_.data() + padded_.size() / bands_ * band + kMargin;
}

void LineEngine::line(const float* u, float* predictions) {
    // first_band_ still holds the line before when the strips begin, so it changes at the end.
    for (int band = 0; band < bands_; ++band)
        std::copy(u + static_cast<size_t>(band) * columns_, u + static_cast<size_t>(band + 1) * columns_, padded(band));
    each_strip([&](Strip& strip) {
        begin(strip, predictions);
        for (int band = 0; band < bands_; ++band) {
            look(strip, band, predictions + static_cast<size_t>(band + 1) * columns_);
            remember(strip, band);
        }
    });
    std::copy(u, u + columns_, first_band_.begin());
    ++lines_;
}

void LineEngine::start_line(float* prediction) {
    each_strip([&](Strip& strip) { begin(strip, prediction); });
}

void LineEngine::step(int band, const float* u, float* prediction) {
    std::copy(u, u + columns_, padded(band));
    if (band == 0) std::copy(u, u + columns_, first_band_.begin());
    each_strip([&](Strip& strip) {
        look(strip, band, prediction);
        remember(strip, band);
    });
    if (band == bands_ - 1) ++lines_;
}

void LineEngine::look(int band, const float* u, float* prediction) {
    std::copy(u, u + columns_, padded(band));
    if (band == 0) std::copy(u, u + columns_, first_band_.begin());
    each_strip([&](Strip& strip) { look(strip, band, prediction); });
}

void LineEngine::remember_share(int band, int part, int parts) {
    const PlainArithmetic plain;
    for (size_t i = static_cast<size_t>(part); i < strips_.size(); i += static_cast<size_t>(parts))
        remember(strips_[i], band);
}

// The prediction of band 0, and band blocks without history.
void LineEngine::begin(Strip& strip, float* prediction) const {
    if (!lines_) return;
    const LineParams& net = network_->params();
    line_kernels().decode_zero(net, strip.memory.data(), strip.width, strip.out.data());
    const int columns = std::min(strip.width, columns_ - strip.first);
    for (int c = 0; c < columns; ++c) prediction[strip.first + c] = strip.out[c] + first_band_[strip.first + c];
    const size_t n = static_cast<size_t>(net.features) * strip.width;
    std::fill(strip.row.begin(), strip.row.end(), 0.0f);
    for (int l = 0; l < net.band_blocks; ++l) {
        float* pp = strip.row.data() + n * (kStateParts * l + 4);
        std::fill(pp, pp + n, kEmptyExponent);
    }
}

void LineEngine::look(Strip& strip, int band, float* prediction) {
    const LineKernels& kernel = line_kernels();
    const LineParams& net = network_->params();
    const size_t n = static_cast<size_t>(net.features) * strip.width;
    float* s = strip.memory.data() + per_band(strip) * band;
    kernel.encode(net, padded(band), columns_, strip.first, strip.width, strip.a.data(), strip.work.data());
    if (lines_ > 0 && band + 1 < bands_) {
        kernel.subtract(strip.a.data(), s, strip.b.data(), n);
        for (int l = 0; l < net.band_blocks; ++l)
            kernel.block(net.bands[l], net.features, strip.b.data(), strip.row.data() + n * kStateParts * l, strip.width,
                         strip.work.data());
        kernel.decode(net, s + per_band(strip), strip.b.data(), strip.width, strip.out.data(), strip.work.data());
        const int columns = std::min(strip.width, columns_ - strip.first);
        std::copy(strip.out.begin(), strip.out.begin() + columns, prediction + strip.first);
    }
    std::copy(strip.a.begin(), strip.a.end(), s);
}

void LineEngine::remember(Strip& strip, int band) {
    const LineParams& net = network_->params();
    const size_t n = static_cast<size_t>(net.features) * strip.width;
    float* s = strip.memory.data() + per_band(strip) * band;
    for (int l = 0; l < net.line_blocks; ++l)
        line_kernels().block(net.lines[l], net.features, s, s + n * (1 + kStateParts * l), strip.width,
                             strip.work.data());
}

// visit(position in the canonical state, place in memory, count): per band and feature vector, all columns in order.
template <class Visit>
void LineEngine::visit_state(Visit&& visit) const {
    const LineParams& net = network_->params();
    const size_t rows = static_cast<size_t>(net.features) * (1 + kStateParts * net.line_blocks);
    for (const Strip& strip : strips_) {
        const int columns = std::min(strip.width, columns_ - strip.first);
        for (size_t row = 0; row < rows * bands_; ++row)
            visit(row * columns_ + strip.first, strip.memory.data() + row * strip.width, columns);
    }
}

size_t LineEngine::state_size() const {
    const LineParams& net = network_->params();
    const size_t rows = static_cast<size_t>(net.features) * (1 + kStateParts * net.line_blocks);
    return (rows * bands_ + 1) * columns_;
}

std::vector<float> LineEngine::save() const {
    std::vector<float> state(state_size());
    visit_state([&](size_t at, const float* from, int n) { std::copy(from, from + n, state.begin() + at); });
    std::copy(first_band_.begin(), first_band_.end(), state.end() - columns_);
    return state;
}

void LineEngine::restore(const float* state, size_t size, int64_t lines) {
    if (size != state_size()) throw ArgumentError("the saved state belongs to another network or image size");
    visit_state([&](size_t at, const float* to, int n) { std::copy(state + at, state + at + n, const_cast<float*>(to)); });
    std::copy(state + size - columns_, state + size, first_band_.begin());
    lines_ = lines;
}

}  // namespace cbench
