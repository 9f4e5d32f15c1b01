#include "adaptive.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "error.hpp"
#include "tables.hpp"

namespace cbench {

namespace {

constexpr int kReach = 46;                       // symbols are -kReach .. kReach, and one for all beyond
constexpr int kSymbols = 2 * kReach + 2;
constexpr int kBlocks = (kSymbols + kRowBlock - 1) / kRowBlock;
constexpr int kStride = kRowBlock * (1 + kBlocks);   // block starts, then the row, as in states.hpp
constexpr int kContexts = 80;                    // four an octave of the mean magnitude
constexpr uint32_t kCountLimit = 1u << 13;       // counts are halved beyond: about this many samples are remembered
constexpr int kIncrement = 4;
constexpr int32_t kLargest = 1 << 24;            // residuals beyond are refused

// Bits that are coded as they are, below the symbol: wide distributions are flat on that scale.
int raw_bits(int context) { return std::max(0, context / 4 - 4); }

// floor(4 log2(1 + sum)) up to rounding of the mantissa; sum is 16 times a mean magnitude.
inline int context_of(uint32_t sum) {
    const uint32_t s = sum + 4;
    const int top = 31 - __builtin_clz(s);
    const int context = 4 * top + static_cast<int>(s >> (top - 2) & 3) - 8;
    return std::min(context, kContexts - 1);
}

// Counts and the table made of them, per context.
class Model {
  public:
    Model() : counts_(kContexts * kSymbols), pending_(kContexts, 0), total_(kContexts), start_(kContexts * kStride, 65535) {
        for (int c = 0; c < kContexts; ++c) {
            // Before anything is known: a two-sided geometric distribution with the context's own mean.
            const uint64_t mean = ((uint64_t{4} + (c & 3)) << (c / 4)) >> raw_bits(c);   // 16 times a magnitude
            uint64_t weight = 1u << 16;
            for (int k = 0; k <= kReach; ++k, weight = weight * (mean + 4) / (mean + 20)) {
                counts(c)[kReach + k] = counts(c)[kReach - k] = static_cast<uint32_t>(weight >> 9) + 1;
            }
            counts(c)[kSymbols - 1] = static_cast<uint32_t>(weight >> 8) + 1;
            for (int k = 0; k < kSymbols; ++k) total_[c] += counts(c)[k];
            rebuild(c);
        }
    }
    RowView view() const { return {start_.data() + kRowBlock, kSymbols, kStride}; }
    Op op(int context, int symbol) const {
        const uint16_t* row = start_.data() + context * kStride + kRowBlock;
        return make_op(row[symbol], (symbol + 1 < kSymbols ? row[symbol + 1] : 65536u) - row[symbol]);
    }
    // Counts a line of symbols; tables follow when a context has learnt an eighth more.
    void learn(const int32_t* context, const int32_t* symbol, size_t n) {
        for (size_t i = 0; i < n; ++i) {
            const int c = context[i];
            counts(c)[symbol[i]] += kIncrement;
            pending_[c] += kIncrement;
        }
        for (int c = 0; c < kContexts; ++c)
            if (8 * pending_[c] > total_[c]) rebuild(c);
    }

  private:
    uint32_t* counts(int c) { return counts_.data() + c * kSymbols; }
    void rebuild(int c) {
        total_[c] += pending_[c];
        pending_[c] = 0;
        if (total_[c] > kIncrement * kCountLimit) {
            total_[c] = 0;
            for (int k = 0; k < kSymbols; ++k) total_[c] += counts(c)[k] = (counts(c)[k] + 1) / 2;
        }
        uint32_t frequency[kSymbols];
        quantise(counts(c), kSymbols, 16, frequency);
        uint16_t *head = start_.data() + c * kStride, *row = head + kRowBlock;
        uint32_t sum = 0;
        for (int k = 0; k < kSymbols; sum += frequency[k++]) row[k] = static_cast<uint16_t>(sum);
        for (int block = 0; block < kBlocks; ++block) head[block] = row[kRowBlock * block];
    }

    std::vector<uint32_t> counts_, pending_, total_;
    std::vector<uint16_t> start_;
};

// The last lines and planes, with one sample of border: values for the mean, magnitudes of what remained for the context.
class Surroundings {
  public:
    explicit Surroundings(const PlaneShape& s) : s_(s), stride_(s.samples + 2), near_(s.samples), past_(s.samples) {
        for (auto& plane : magnitude_) plane.assign((s.lines + 2) * stride_, 0);
        for (auto& plane : value_) plane.assign((s.lines + 1) * stride_, 0);
    }
    void next_plane() {
        std::swap(magnitude_[1], magnitude_[2]);
        std::swap(magnitude_[0], magnitude_[1]);
        std::fill(magnitude_[0].begin(), magnitude_[0].end(), 0);
        std::swap(value_[0], value_[1]);
        std::fill(value_[0].begin(), value_[0].begin() + static_cast<std::ptrdiff_t>(stride_), 0);
        ++plane_;
        for (double* sum : {&nn_, &np_, &pp_, &rn_, &rp_}) *sum *= 0.5;
    }
    // What each sample of the line is expected to be.
    void expect(size_t line, int32_t* out) {
        const int32_t *above = value_[0].data() + line * stride_, *before = value_[1].data() + (line + 1) * stride_;
        double a = 0, b = 0;
        const double det = nn_ * pp_ - np_ * np_;
        if (det > 1e-9 * nn_ * pp_ && det > 0) {
            a = (rn_ * pp_ - rp_ * np_) / det;
            b = (rp_ * nn_ - rn_ * np_) / det;
        } else if (nn_ > 0) {
            a = rn_ / nn_;
        }
        a = std::clamp(a, -2.0, 2.0);
        b = std::clamp(b, -2.0, 2.0);
        for (size_t i = 0; i < s_.samples; ++i) {
            near_[i] = 0.25 * (2.0 * above[i + 1] + above[i] + above[i + 2]);
            past_[i] = before[i + 1];
            out[i] = static_cast<int32_t>(std::floor(a * near_[i] + b * past_[i] + 0.5));
        }
    }
    void contexts(size_t line, int32_t* out) const {
        const uint32_t* above = row(0, line) - stride_;
        const uint32_t *before = row(1, line), *before2 = row(2, line), *before_above = before - stride_;
        for (size_t i = 1; i <= s_.samples; ++i) {   // sixteen times a mean magnitude
            const uint32_t own = 2 * above[i] + above[i - 1] + above[i + 1];
            const uint32_t past = 3 * before[i] + before[i - 1] + before[i + 1] + before_above[i] +
                                  before[i + stride_] + before2[i];
            const uint32_t local = plane_ == 0 ? 4 * own : line == 0 ? 2 * past : past + 2 * own;
            out[i - 1] = context_of(line == 0 ? local : (local + mean_) / 2);
        }
        if (plane_ == 0 && line == 0) std::fill(out, out + s_.samples, kFirstContext);
    }
    void keep(size_t line, const int32_t* residual, const int32_t* expected) {
        uint32_t* magnitude = magnitude_[0].data() + (line + 1) * stride_ + 1;
        int32_t* value = value_[0].data() + (line + 1) * stride_ + 1;
        for (double* sum : {&nn_, &np_, &pp_, &rn_, &rp_}) *sum *= 0.97;
        uint64_t total = 0;
        for (size_t i = 0; i < s_.samples; ++i) {
            const double r = residual[i], energy = near_[i] * near_[i] + past_[i] * past_[i];
            const double weight = 1 / (energy + 4);   // a few large values must not decide for all
            magnitude[i] = static_cast<uint32_t>(std::abs(residual[i] - expected[i]));
            value[i] = residual[i];
            total += magnitude[i];
            nn_ += weight * near_[i] * near_[i];
            np_ += weight * near_[i] * past_[i];
            pp_ += weight * past_[i] * past_[i];
            rn_ += weight * r * near_[i];
            rp_ += weight * r * past_[i];
        }
        const auto mean = static_cast<uint32_t>(16 * total / std::max<size_t>(s_.samples, 1));
        mean_ = line == 0 ? mean : (3 * mean_ + mean + 2) / 4;
        value[-1] = value[0];
        value[s_.samples] = value[s_.samples - 1];
    }

  private:
    static constexpr int kFirstContext = 16;
    const uint32_t* row(int age, size_t line) const { return magnitude_[age].data() + (line + 1) * stride_; }
    PlaneShape s_;
    size_t stride_;
    std::vector<uint32_t> magnitude_[3];   // this plane, the one before, the one before that
    std::vector<int32_t> value_[2];        // line 0 is the (zero) line above the plane
    std::vector<double> near_, past_;
    uint32_t mean_ = 0;                    // sixteen times the mean magnitude of the last lines
    double nn_ = 0, np_ = 0, pp_ = 0, rn_ = 0, rp_ = 0;
    size_t plane_ = 0;
};

// A line as symbols and raw bits below them.
struct Line {
    std::vector<int32_t> expected, context, symbol;
    explicit Line(size_t n) : expected(n), context(n), symbol(n) {}
};

void append_number(std::vector<Op>& ops, uint32_t number) {   // Elias gamma, for values beyond the table
    const int width = 32 - __builtin_clz(number + 1);
    ops.push_back(raw_op(static_cast<uint32_t>(width), 5));
    for (int done = 0; done < width - 1; done += 16) {
        const int bits = std::min(16, width - 1 - done);
        ops.push_back(raw_op((number + 1) >> done & ((1u << bits) - 1), bits));
    }
}

uint32_t read_number(StreamReader& in) {
    uint32_t width = 0, low = 0;
    in.decode_raw(5, &width, 1);
    if (width < 1 || width > 29) throw BitstreamError("a residual beyond its table has an impossible size");
    if (width > 1) in.decode_raw(static_cast<int>(width) - 1, &low, 1);
    return (1u << (width - 1) | low) - 1;
}

class VectorSource final : public OpSource {
  public:
    explicit VectorSource(const std::vector<Op>& ops) : ops_(ops) {}
    void resolve(size_t first, size_t count, Op* ops) override {
        std::copy_n(ops_.begin() + static_cast<std::ptrdiff_t>(first), count, ops);
    }

  private:
    const std::vector<Op>& ops_;
};

}  // namespace

Bytes encode_adaptive(const int32_t* residuals, PlaneShape s) {
    std::vector<Op> ops;
    ops.reserve(s.size() + s.size() / 4);
    Model model;
    Surroundings around(s);
    Line line(s.samples);
    for (size_t z = 0; z < s.planes; ++z) {
        for (size_t y = 0; y < s.lines; ++y) {
            const int32_t* r = residuals + (z * s.lines + y) * s.samples;
            around.expect(y, line.expected.data());
            around.contexts(y, line.context.data());
            for (size_t i = 0; i < s.samples; ++i) {
                if (r[i] < -kLargest || r[i] > kLargest)
                    throw ArgumentError("residual " + std::to_string(r[i]) + " lies beyond +-2^24");
                const int32_t v = (r[i] - line.expected[i]) >> raw_bits(line.context[i]);
                line.symbol[i] = v < -kReach || v > kReach ? kSymbols - 1 : v + kReach;
                ops.push_back(model.op(line.context[i], line.symbol[i]));
            }
            for (size_t i = 0; i < s.samples; ++i) {
                const int bits = raw_bits(line.context[i]);
                if (bits) ops.push_back(raw_op(static_cast<uint32_t>(r[i] - line.expected[i]) & ((1u << bits) - 1), bits));
                if (line.symbol[i] < kSymbols - 1) continue;
                const int32_t v = (r[i] - line.expected[i]) >> bits;
                append_number(ops, static_cast<uint32_t>(v < 0 ? 2 * (-kReach - 1 - v) + 1 : 2 * (v - kReach - 1)));
            }
            model.learn(line.context.data(), line.symbol.data(), s.samples);
            around.keep(y, r, line.expected.data());
        }
        around.next_plane();
    }
    VectorSource source(ops);
    return encode_stream(source, ops.size(), -1);
}

void decode_adaptive(const uint8_t* data, size_t size, int32_t* residuals, PlaneShape s) {
    StreamReader in(data, size);
    if (in.has_count()) throw BitstreamError("this coded stream was not made by adaptive coding");
    Model model;
    Surroundings around(s);
    Line line(s.samples);
    for (size_t z = 0; z < s.planes; ++z) {
        for (size_t y = 0; y < s.lines; ++y) {
            int32_t* r = residuals + (z * s.lines + y) * s.samples;
            around.expect(y, line.expected.data());
            around.contexts(y, line.context.data());
            in.decode_rows(model.view(), line.context.data(), line.symbol.data(), s.samples);
            for (size_t i = 0; i < s.samples; ++i) {
                const int bits = raw_bits(line.context[i]);
                uint32_t low = 0;
                if (bits) in.decode_raw(bits, &low, 1);
                int32_t v = line.symbol[i] - kReach;
                if (line.symbol[i] == kSymbols - 1) {
                    const uint32_t number = read_number(in);
                    const auto steps = static_cast<int32_t>(number / 2);
                    v = number % 2 ? -kReach - 1 - steps : kReach + 1 + steps;
                }
                const int64_t value = int64_t{v} * (1 << bits) + low + line.expected[i];
                if (value < -kLargest || value > kLargest) throw BitstreamError("a residual lies beyond +-2^24");
                r[i] = static_cast<int32_t>(value);
            }
            model.learn(line.context.data(), line.symbol.data(), s.samples);
            around.keep(y, r, line.expected.data());
        }
        around.next_plane();
    }
    in.finish();
}

}  // namespace cbench
