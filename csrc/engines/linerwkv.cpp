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
    if (!std::strcmp(name, kLineAvx512.name))
        return __builtin_cpu_supports("avx512vnni") ? kLineAvx512 : kLineAvx2;
    if (!std::strcmp(name, kLineAvx2.name)) return kLineAvx2;
#endif
    return kLinePortable;
}

namespace {

constexpr int kLaneWidth = 16;     // strips are multiples of this, whatever the kernels
constexpr int kStripColumns = 64;  // wider strips leave the first-level cache

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
        Strip& strip = strips_.emplace_back();
        strip.first = first;
        strip.width = (units * (i + 1) / count - units * i / count) * kLaneWidth;
        first += strip.width;
        strip.need = std::min(columns, first + net.encoder_layers);
        strip.samples.assign(strip.width + 2 * kMargin, 0.0f);
        const size_t n = static_cast<size_t>(net.features) * strip.width;
        strip.memory.assign(per_band(strip) * bands, 0.0f);
        strip.row.assign(n * kStateParts * net.band_blocks, 0.0f);
        strip.a.assign(n, 0.0f);
        strip.b.assign(n, 0.0f);
        strip.work.assign(static_cast<size_t>(net.features) * std::max(5 * strip.width, 2 * (strip.width + 2 * kHalo)) +
                              4 * kHalo, 0.0f);
        strip.out.assign(strip.width, 0.0f);
    }
    samples_.assign(static_cast<size_t>(columns) * bands, 0.0f);
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

void LineEngine::line(const float* u, float* predictions) {
    // first_band_ still holds the line before when the strips begin, so it changes at the end.
    std::copy(u, u + samples_.size(), samples_.begin());
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
    std::copy(u, u + columns_, input(band));
    if (band == 0) std::copy(u, u + columns_, first_band_.begin());
    each_strip([&](Strip& strip) {
        look(strip, band, prediction);
        remember(strip, band);
    });
    if (band == bands_ - 1) ++lines_;
}

void LineEngine::prepare(float* predictions) {
    predictions_ = predictions;
    given_.store(0, std::memory_order_relaxed);
    given_up_.store(false, std::memory_order_relaxed);
    open_.store(static_cast<int>(strips_.size()), std::memory_order_relaxed);
    for (Strip& strip : strips_) {
        strip.looked.store(-1, std::memory_order_relaxed);
        strip.remembered.store(0, std::memory_order_relaxed);
    }
}

void LineEngine::give(int band, int columns) {
    given_.store(int64_t{band} * (columns_ + 1) + columns, std::memory_order_release);
}

void LineEngine::await(int band, int column) {
    size_t at = 0;
    while (column >= strips_[at].first + strips_[at].width) ++at;
    // Alone, one takes all steps at the beginning of a row, while their numbers are in the caches.
    while (crew_.size() == 1 && column == 0 && help(at)) {}
    for (int spins = 0; strips_[at].looked.load(std::memory_order_acquire) < band;)
        if (!help(at)) Crew::pause(spins++);
}

// Steps of a line that is followed, until there are none left.
void LineEngine::work(int thread) {
    const PlainArithmetic plain;
    const size_t own = static_cast<size_t>(thread) % strips_.size();
    for (int spins = 0; open_.load(std::memory_order_acquire) > 0 && !given_up_.load(std::memory_order_relaxed);)
        if (help(own)) spins = 0;
        else Crew::pause(spins++);
}

// One step of any strip; whether there was one to take.
bool LineEngine::help(size_t preferred) {
    for (size_t i = 0; i < strips_.size(); ++i) {
        Strip& strip = strips_[(preferred + i) % strips_.size()];
        if (strip.busy.load(std::memory_order_relaxed)) continue;
        if (strip.busy.exchange(true, std::memory_order_acquire)) continue;
        const bool advanced = advance(strip);
        strip.busy.store(false, std::memory_order_release);
        if (advanced) return true;
    }
    return false;
}

// The next step of a strip if it can be taken: predictions first.
bool LineEngine::advance(Strip& strip) {
    const int looked = strip.looked.load(std::memory_order_relaxed);
    const int remembered = strip.remembered.load(std::memory_order_relaxed);
    const int64_t needed = int64_t{looked} * (columns_ + 1) + strip.need;
    if (looked < 0) {
        begin(strip, predictions_);
        strip.looked.store(0, std::memory_order_release);
    } else if (looked < bands_ && given_.load(std::memory_order_acquire) >= needed) {
        look(strip, looked, predictions_ + static_cast<size_t>(looked + 1) * columns_);
        strip.looked.store(looked + 1, std::memory_order_release);
    } else if (remembered < looked) {
        remember(strip, remembered);
        strip.remembered.store(remembered + 1, std::memory_order_relaxed);
        if (remembered + 1 == bands_) open_.fetch_sub(1, std::memory_order_release);
    } else {
        return false;
    }
    return true;
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
    const int left = std::min(kMargin, strip.first), at = strip.first - left;
    std::copy(input(band) + at, input(band) + strip.need, strip.samples.begin() + (kMargin - left));
    kernel.encode(net, strip.samples.data() + kMargin, columns_, strip.first, strip.width, strip.a.data(),
                  strip.work.data());
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
