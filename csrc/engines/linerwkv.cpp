#include "linerwkv.hpp"

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>

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

// A program that flushes denormal numbers to zero, or rounds otherwise, must not change what we compute.
class PlainArithmetic {
public:
    PlainArithmetic() {
        std::fegetenv(&before_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~PlainArithmetic() { std::fesetenv(&before_); }
    PlainArithmetic(const PlainArithmetic&) = delete;
    PlainArithmetic& operator=(const PlainArithmetic&) = delete;

private:
    std::fenv_t before_;
};

// e^x for |x| < 700 from + - * / alone: the C library's may differ in the last bit from machine to machine.
double own_exp(double x) {
    const double n = std::floor(x * 1.4426950408889634 + 0.5);
    double r = x - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double sum = 1.0;
    for (int i = 14; i > 0; --i) sum = 1.0 + sum * r / i;
    return std::ldexp(sum, static_cast<int>(n));
}

}  // namespace

// ---- network --------------------------------------------------------------------------------------------------------

// Fetches tensors by name and brings them into the kernels' order.
class LineNetwork::Reader {
public:
    Reader(LineNetwork& owner, const LineTensors& tensors, int features)
        : owner_(owner), tensors_(tensors), features_(features) {}

    const std::vector<float>& raw(const std::string& name, size_t size) {
        const auto found = tensors_.find(name);
        if (found == tensors_.end()) throw ArgumentError("the weights lack the tensor " + name);
        if (found->second.size() != size) throw ArgumentError("tensor " + name + " has another size than expected");
        for (const float value : found->second)
            if (!std::isfinite(value)) throw ArgumentError("tensor " + name + " holds a value that is not finite");
        return found->second;
    }

    const float* vector(const std::string& name) { return keep(raw(name, features_)); }
    float scalar(const std::string& name) { return raw(name, 1)[0]; }
    Norm norm(const std::string& name) { return {vector(name + ".weight"), vector(name + ".bias")}; }

    Mix mix(const std::string& name) {
        const auto& now = raw(name, features_);
        std::vector<float> before(now.size());
        for (size_t i = 0; i < now.size(); ++i) before[i] = 1.0f - now[i];
        return {keep(now), keep(before)};
    }

    const float* decay(const std::string& name) {
        std::vector<float> w = raw(name, features_);
        for (float& d : w) d = -static_cast<float>(own_exp(std::min(std::max(static_cast<double>(d), -80.0), 80.0)));
        return keep(w);
    }

    // Tap `tap` of `taps` of a (features, features, taps) weight.
    Linear linear(const std::string& name, const float* bias = nullptr, int tap = 0, int taps = 1) {
        const size_t n = features_;
        const auto& w = raw(name, n * n * taps);
        std::vector<float> packed(n * n);
        for (size_t row = 0; row < n; ++row)
            for (size_t col = 0; col < n; ++col)
                packed[(row / 8 * n + col) * 8 + row % 8] = w[(row * n + col) * taps + tap];
        return {keep(packed), bias, features_, features_};
    }

    Layer layer(const std::string& part, int index, int taps) {
        const std::string place = "." + std::to_string(index);
        Layer out;
        const float* bias = vector(part + ".convs" + place + ".bias");
        for (int tap = 0; tap < taps; ++tap)
            out.tap[tap] = linear(part + ".convs" + place + ".weight", tap ? nullptr : bias, tap, taps);
        out.norm = norm(part + ".norms" + place);
        return out;
    }

    BlockParams block(const std::string& name, bool first) {
        BlockParams b;
        b.has_ln0 = first;
        if (first) b.ln0 = norm(name + ".ln0");
        b.ln1 = norm(name + ".ln1");
        b.ln2 = norm(name + ".ln2");
        b.att_k = mix(name + ".att.time_mix_k");
        b.att_v = mix(name + ".att.time_mix_v");
        b.att_r = mix(name + ".att.time_mix_r");
        b.ffn_k = mix(name + ".ffn.time_mix_k");
        b.ffn_r = mix(name + ".ffn.time_mix_r");
        b.decay = decay(name + ".att.time_decay");
        b.first = vector(name + ".att.time_first");
        b.key = linear(name + ".att.key.weight");
        b.value = linear(name + ".att.value.weight");
        b.receptance = linear(name + ".att.receptance.weight");
        b.output = linear(name + ".att.output.weight");
        b.ffn_key = linear(name + ".ffn.key.weight");
        b.ffn_receptance = linear(name + ".ffn.receptance.weight");
        b.ffn_value = linear(name + ".ffn.value.weight");
        return b;
    }

    const float* keep(std::vector<float> values) {
        owner_.kept_.push_back(std::move(values));
        return owner_.kept_.back().data();
    }

private:
    LineNetwork& owner_;
    const LineTensors& tensors_;
    const int features_;
};

LineNetwork::LineNetwork(int features, int encoder_layers, int line_blocks, int band_blocks, int decoder_layers,
                         const LineTensors& tensors) {
    if (features < 8 || features % 8 || features > 4096)
        throw ArgumentError("the number of features must be a multiple of 8");
    if (encoder_layers < 1 || encoder_layers > kHalo || decoder_layers < 1 || line_blocks < 1 || band_blocks < 1)
        throw ArgumentError("a network needs 1 to 16 encoder layers, and at least one of everything else");
    const PlainArithmetic plain;
    Reader read(*this, tensors, features);
    for (int k = 0; k < encoder_layers - 1; ++k) encoder_.push_back(read.layer("encoder", k, 3));
    for (int k = 0; k < decoder_layers - 1; ++k) decoder_.push_back(read.layer("decoder", k, 1));
    for (int l = 0; l < line_blocks; ++l) lines_.push_back(read.block("blocks_lines." + std::to_string(l), l == 0));
    for (int l = 0; l < band_blocks; ++l) bands_.push_back(read.block("blocks_bands." + std::to_string(l), l == 0));

    LineParams& p = params_;
    p.features = features;
    p.encoder_layers = encoder_layers;
    p.decoder_layers = decoder_layers;
    p.line_blocks = line_blocks;
    p.band_blocks = band_blocks;
    const auto& conv_in = read.raw("encoder.conv_in.weight", static_cast<size_t>(features) * 3);
    for (int tap = 0; tap < 3; ++tap) {
        std::vector<float> w(features);
        for (int f = 0; f < features; ++f) w[f] = conv_in[f * 3 + tap];
        p.conv_in[tap] = read.keep(std::move(w));
    }
    p.conv_in_bias = read.vector("encoder.conv_in.bias");
    p.norm_in = read.norm("encoder.norm_in");
    p.out = read.vector("decoder.conv_out.weight");
    p.out_bias = read.scalar("decoder.conv_out.bias");
    p.zero = read.vector("bandzerodec.conv_out.weight");
    p.zero_bias = read.scalar("bandzerodec.conv_out.bias");
    p.encoder = encoder_.data();
    p.decoder = decoder_.data();
    p.lines = lines_.data();
    p.bands = bands_.data();
}

// ---- engine ---------------------------------------------------------------------------------------------------------

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
        // No history yet: minus infinity as the exponent of every wkv of the line blocks.
        for (int band = 0; band < bands; ++band)
            for (int l = 0; l < net.line_blocks; ++l) {
                float* pp = strip.memory.data() + per_band(strip) * band + n + n * (kStateParts * l + 4);
                std::fill(pp, pp + n, kEmptyExponent);
            }
        strips_.push_back(std::move(strip));
    }
    padded_.assign((static_cast<size_t>(units) * kLaneWidth + 2 * kMargin) * bands, 0.0f);
    first_band_.assign(columns, 0.0f);
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
        for (int band = 0; band < bands_; ++band)
            advance(strip, band, predictions + static_cast<size_t>(band + 1) * columns_);
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
    each_strip([&](Strip& strip) { advance(strip, band, prediction); });
    if (band == bands_ - 1) ++lines_;
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

void LineEngine::advance(Strip& strip, int band, float* prediction) {
    const LineKernels& kernel = line_kernels();
    const LineParams& net = network_->params();
    const size_t n = static_cast<size_t>(net.features) * strip.width;
    float* s = strip.memory.data() + per_band(strip) * band;
    kernel.encode(net, padded(band), columns_, strip.first, strip.width, strip.a.data(), strip.work.data());
    const bool more = lines_ > 0 && band + 1 < bands_;
    if (more) {
        kernel.subtract(strip.a.data(), s, strip.b.data(), n);
        for (int l = 0; l < net.band_blocks; ++l)
            kernel.block(net.bands[l], net.features, strip.b.data(), strip.row.data() + n * kStateParts * l, strip.width,
                         strip.work.data());
    }
    std::copy(strip.a.begin(), strip.a.end(), s);
    for (int l = 0; l < net.line_blocks; ++l)
        kernel.block(net.lines[l], net.features, s, s + n * (1 + kStateParts * l), strip.width, strip.work.data());
    if (!more) return;
    kernel.decode(net, s + per_band(strip), strip.b.data(), strip.width, strip.out.data(), strip.work.data());
    const int columns = std::min(strip.width, columns_ - strip.first);
    std::copy(strip.out.begin(), strip.out.begin() + columns, prediction + strip.first);
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

// ---- coding ---------------------------------------------------------------------------------------------------------

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

LineCoder::LineCoder(std::shared_ptr<const LineNetwork> network, const LineFormat& format, int threads)
    : format_(format), engine_(std::move(network), format.bands, format.columns, threads), scale_(format.bands),
      statistics_(format.bands), normalised_(static_cast<size_t>(format.bands) * format.columns),
      predicted_(normalised_.size()), rounded_(format.columns), restored_(format.columns) {}

void LineCoder::encode(const int32_t* line, BitWriter& out) {
    const PlainArithmetic plain;
    const auto code = [&](int32_t prediction, int band, int32_t x) {
        const uint32_t m = fold(x - prediction, prediction - format_.low, format_.high - prediction);
        statistics_[band].encode(out, m, format_.golomb);
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
