#include "engines/pixel_ar.hpp"

#include <cmath>
#include <cstdlib>
#include <string>

#include "mixture.hpp"
#include "simd/mixture_value.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cbench {

void multiply_portable(const int16_t* w, const int16_t* in, int pairs, int outputs, int32_t* sum) {
#if defined(__SSE2__)
    for (int o = 0; o < outputs; o += kOutputBlock) {
        __m128i total[4] = {};
        for (int p = 0; p < pairs; ++p) {
            int32_t both;
            std::memcpy(&both, in + 2 * p, 4);
            const __m128i x = _mm_set1_epi32(both);
            const auto* at = reinterpret_cast<const __m128i*>(w + 2 * (p * outputs + o));
            for (int v = 0; v < 4; ++v)
                total[v] = _mm_add_epi32(total[v], _mm_madd_epi16(_mm_loadu_si128(at + v), x));
        }
        for (int v = 0; v < 4; ++v) _mm_storeu_si128(reinterpret_cast<__m128i*>(sum + o) + v, total[v]);
    }
#else
    std::fill(sum, sum + outputs, 0);
    for (int p = 0; p < pairs; ++p)
        for (int o = 0; o < outputs; ++o) {
            const int16_t* at = w + 2 * (p * outputs + o);
            sum[o] += at[0] * in[2 * p] + at[1] * in[2 * p + 1];
        }
#endif
}

namespace {

constexpr int kInputMax = 255;        // features are differences of 8-bit values
constexpr int kLogitLimit = 1 << 12;
constexpr int kMeanLimit = 1 << 17;   // 512 pixel values

int padded(int outputs) { return (outputs + kOutputBlock - 1) / kOutputBlock * kOutputBlock; }

Multiply multiply_kernel() {
#if defined(__x86_64__)
    const std::string name = kernels().name;
    if (name == "avx512") return multiply_avx512;
    if (name == "avx2") return multiply_avx2;
#endif
    return multiply_portable;
}

// [inputs][outputs] -> pairs, outputs padded with zeros.
void pack(const int16_t* w, int inputs, int outputs, int padded, int16_t* out) {
    for (int i = 0; i < inputs; ++i)
        for (int o = 0; o < outputs; ++o) out[2 * ((i / 2) * padded + o) + i % 2] = w[i * outputs + o];
}

// No partial sum of sum_i w[i][o] in[i] + base leaves 32 bits if the inputs' magnitudes are at most `largest`.
void check_sums(const int16_t* w, int inputs, int outputs, int64_t largest, const int32_t* base, int64_t extra) {
    for (int o = 0; o < outputs; ++o) {
        int64_t sum = extra + (base ? std::abs(static_cast<int64_t>(base[o])) : 0);
        for (int i = 0; i < inputs; ++i) sum += std::abs(w[i * outputs + o]) * largest;
        if (sum >= int64_t{1} << 31) throw ArgumentError("the weights of a pixel network are too large for exact sums");
    }
}

void check_shift(int shift, const char* what) {
    if (shift < 1 || shift > 24) throw ArgumentError(std::string(what) + " of a pixel network must lie in 1..24");
}

// The decoded neighbours of one sample; outside the picture they are replaced as in cbench/models/fsar/causal.py.
struct Neighbours {
    int w, n, nw, ne, ww, nn, nne;
    Neighbours(const uint8_t* plane, size_t width, size_t y, size_t x) {
        const uint8_t* at = plane + y * width + x;
        const auto up = static_cast<std::ptrdiff_t>(width);
        const bool last = x + 1 == width;
        w = x ? at[-1] : y ? at[-up] : 128;
        n = y ? at[-up] : w;
        nw = x && y ? at[-up - 1] : n;
        ne = y && !last ? at[1 - up] : n;
        ww = x > 1 ? at[-2] : w;
        nn = y > 1 ? at[-2 * up] : n;
        nne = y > 1 && !last ? at[1 - 2 * up] : ne;
    }
    int middle() const { return (w + n) >> 1; }
};

}  // namespace

struct PixelModel::Distribution {
    const uint32_t* cdf;
    int mixtures;
    int32_t mean[kMaxPixelMixtures];
    uint32_t scale[kMaxPixelMixtures], weight[kMaxPixelMixtures];

    uint32_t cumulative(int k) const {
        if (k <= 0) return 0;
        if (k >= 256) return 65536;
        uint32_t sum = 0;
        for (int j = 0; j < mixtures; ++j) sum += weighted_cdf(cdf, k * 256 - 128 - mean[j], scale[j], weight[j]);
        return static_cast<uint32_t>(k) + (((sum >> 16) * (65536 - 256)) >> 16);
    }
    Op op(int value) const {
        const uint32_t from = cumulative(value);
        return make_op(from, cumulative(value + 1) - from);
    }
    int find(uint32_t slot, uint32_t& from, uint32_t& to) const {
        int low = 0, high = 256;
        from = 0;
        to = 65536;
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            const uint32_t c = cumulative(middle);
            (c <= slot ? low : high) = middle;
            (c <= slot ? from : to) = c;
        }
        return low;
    }
};

void PixelModel::Layer::set(const LayerWeights& w, int from, int to) {
    inputs = from;
    outputs = padded(to);
    const auto all = static_cast<size_t>(outputs);
    weight.assign(3 * static_cast<size_t>(from) * all, 0);
    base.assign(3 * all, 0);
    shift.assign(3 * all, 1);
    for (int c = 0; c < 3; ++c) {
        check_sums(w.weight + c * from * to, from, to, 32767, w.base + c * to, 0);
        pack(w.weight + c * from * to, from, to, outputs, weight.data() + c * from * outputs);
        for (int o = 0; o < to; ++o) {
            check_shift(w.shift[c * to + o], "a shift");
            base[static_cast<size_t>(c * outputs + o)] = w.base[c * to + o];
            shift[static_cast<size_t>(c * outputs + o)] = w.shift[c * to + o];
        }
    }
}

void PixelModel::Layer::run(Multiply multiply, int colour, const int16_t* in, int32_t* out) const {
    multiply(weight.data() + colour * inputs * outputs, in, inputs / 2, outputs, out);
    const int32_t *b = base.data() + colour * outputs, *s = shift.data() + colour * outputs;
    for (int o = 0; o < outputs; ++o) out[o] = (out[o] + b[o]) >> s[o];
}

PixelModel::PixelModel(const PixelWeights& w)
    : hidden_(w.hidden), mixtures_(w.mixtures), inner_shift_(w.inner_shift), linear_shift_(w.linear_shift) {
    if (hidden_ < 8 || hidden_ > kMaxHidden || hidden_ % 8)
        throw ArgumentError("a pixel network has 8 to 256 hidden units, a multiple of 8");
    if (mixtures_ < 1 || mixtures_ > kMaxPixelMixtures) throw ArgumentError("a pixel network mixes 1 to 8 distributions");
    check_shift(inner_shift_, "the inner shift");
    check_shift(linear_shift_, "the linear shift");
    const int wide = padded(hidden_);
    inner_.assign(static_cast<size_t>(3 * kPixelFeatures * wide), 0);
    linear_.assign(w.linear, w.linear + 3 * kPixelFeatures);
    for (int c = 0; c < 3; ++c) {
        const int16_t* inner = w.inner + c * kPixelFeatures * hidden_;
        check_sums(inner, kPixelFeatures, hidden_, kInputMax, nullptr, int64_t{1} << inner_shift_);
        check_sums(w.linear + c * kPixelFeatures, kPixelFeatures, 1, kInputMax, nullptr, int64_t{1} << linear_shift_);
        pack(inner, kPixelFeatures, hidden_, wide, inner_.data() + c * kPixelFeatures * wide);
    }
    middle_.set(w.middle, hidden_, hidden_);
    outer_.set(w.outer, hidden_, 3 * mixtures_);
}

void PixelModel::distribution(Multiply multiply, int colour, const int16_t* features, int32_t b, const int16_t* biases,
                              Distribution& to) const {
    const int wide = padded(hidden_);
    int32_t sum[kMaxHidden];
    int16_t hidden[kMaxHidden] = {};
    const auto rectify = [&](int j, int32_t value) {
        hidden[j] = static_cast<int16_t>(std::min(std::max(value, 0), 32767));
    };
    multiply(inner_.data() + colour * kPixelFeatures * wide, features, kPixelFeatures / 2, wide, sum);
    const int32_t half = 1 << (inner_shift_ - 1);
    for (int j = 0; j < hidden_; ++j) rectify(j, ((sum[j] + half) >> inner_shift_) + biases[j]);
    middle_.run(multiply, colour, hidden, sum);
    for (int j = 0; j < hidden_; ++j) rectify(j, sum[j]);
    outer_.run(multiply, colour, hidden, sum);

    int32_t line = 1 << (linear_shift_ - 1);
    for (int f = 0; f < kPixelFeatures; ++f) line += linear_[static_cast<size_t>(colour * kPixelFeatures + f)] * features[f];
    const int32_t centre = 256 * b + (line >> linear_shift_);

    int heaviest = 0;
    for (int k = 0; k < mixtures_; ++k) {
        sum[k] = std::min(std::max(sum[k], -kLogitLimit), kLogitLimit);
        if (sum[k] > sum[heaviest]) heaviest = k;
        to.mean[k] = std::min(std::max(centre + std::min(std::max(sum[mixtures_ + k], -kMeanLimit), kMeanLimit), -kMeanLimit),
                              kMeanLimit);
        to.scale[k] = static_cast<uint32_t>(std::min(std::max(sum[2 * mixtures_ + k], 0), 255));
    }
    uint32_t total = 0;
    for (int k = 0; k < mixtures_; ++k) {
        const int32_t less = sum[heaviest] - sum[k];
        to.weight[k] = less < 16 * 15 ? kInverse[less & 15] >> (less >> 4) : 0;
        total += to.weight[k];
    }
    uint32_t rest = 65536;
    for (int k = 0; k < mixtures_; ++k) {
        to.weight[k] = (to.weight[k] << 16) / total;
        rest -= to.weight[k];
    }
    to.weight[heaviest] += rest;
}

// code(distribution, sample): codes the sample that the pointer names, or decodes into it.
template <class Code>
void PixelModel::run(const PixelRows& rows, Code&& code) const {
    const Multiply multiply = multiply_kernel();
    Distribution d{};
    d.cdf = logistic_table();
    d.mixtures = mixtures_;
    const size_t area = rows.height * rows.width;
    alignas(16) int16_t features[kPixelFeatures] = {};
    for (size_t y = rows.first; y < rows.first + rows.count; ++y)
        for (size_t x = 0; x < rows.width; ++x) {
            int b[3];
            for (size_t c = 0; c < 3; ++c) {
                const Neighbours n(rows.samples + (rows.channels == 3 ? c * area : 0), rows.width, y, x);
                b[c] = n.middle();
                const int values[6] = {n.w - n.n, n.nw - b[c], n.ne - b[c], n.ww - b[c], n.nn - b[c], n.nne - b[c]};
                for (size_t i = 0; i < 6; ++i) features[3 * i + c] = static_cast<int16_t>(values[i]);
                features[20 + c] = static_cast<int16_t>(b[c] - 128);
            }
            features[18] = features[19] = 0;
            const int16_t* biases = rows.biases + ((y - rows.first) * rows.width + x) * 3 * static_cast<size_t>(hidden_);
            for (size_t c = 0; c < rows.channels; ++c) {
                distribution(multiply, static_cast<int>(c), features, b[c], biases + c * static_cast<size_t>(hidden_), d);
                uint8_t* sample = rows.samples + c * area + y * rows.width + x;
                code(d, sample);
                if (c < 2) features[18 + c] = static_cast<int16_t>(*sample - b[c]);
            }
        }
}

void PixelModel::append(const PixelRows& rows, std::vector<Op>& ops) const {
    ops.reserve(ops.size() + rows.channels * rows.count * rows.width);
    run(rows, [&](const Distribution& d, const uint8_t* sample) { ops.push_back(d.op(*sample)); });
}

void PixelModel::read(StreamReader& in, const PixelRows& rows) const {
    run(rows, [&](const Distribution& d, uint8_t* sample) {
        uint32_t from, to;
        *sample = static_cast<uint8_t>(d.find(in.slot(), from, to));
        in.advance(from, to - from);
    });
}

double PixelModel::bits(const PixelRows& rows) const {
    double sum = 0;
    run(rows, [&](const Distribution& d, const uint8_t* sample) { sum += 16 - std::log2(op_frequency(d.op(*sample))); });
    return sum;
}

}  // namespace cbench
