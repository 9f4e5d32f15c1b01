// Weights of LineRWKV, brought into the order in which the kernels read them.
#include <algorithm>
#include <cmath>

#include "linerwkv.hpp"
#include "error.hpp"
#include "plain_arithmetic.hpp"

namespace cbench {

namespace {

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

// Fetches tensors by name and brings them into the kernels' order.
class LineNetwork::Reader {
public:
    Reader(LineNetwork& owner, const LineTensors& tensors, int features, bool integers)
        : owner_(owner), tensors_(tensors), features_(features), integers_(integers) {}

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

    // A token shift in units of `unit`.
    Mix mix(const std::string& name, double unit) {
        std::vector<float> now = raw(name, features_), before(now.size());
        for (size_t i = 0; i < now.size(); ++i) {
            before[i] = static_cast<float>((1.0f - now[i]) / unit);
            now[i] = static_cast<float>(now[i] / unit);
        }
        return {keep(now), keep(before)};
    }

    // With integers, a unit in which no token shift of what a LayerNorm gives goes beyond 16 bits: of F features of
    // mean 0 and deviation 1 none is larger than the root of F - 1.
    double unit(const std::string& mix, const std::string& norm) {
        if (!integers_) return 1.0;
        const auto &m = raw(mix, features_), &gain = raw(norm + ".weight", features_);
        const auto& bias = raw(norm + ".bias", features_);
        double most = 1e-30;
        for (size_t i = 0; i < m.size(); ++i) {
            const double reach = std::abs(gain[i]) * std::sqrt(features_ - 1.0) + std::abs(bias[i]);
            most = std::max(most, (std::abs(m[i]) + std::abs(1.0 - m[i])) * reach);
        }
        return most / 32760.0;
    }

    // What k, w and f are multiplied with, r with minus the same: integer networks take powers of two.
    double base() const { return integers_ ? 1.4426950408889634 : 1.0; }

    const float* decay(const std::string& name) {
        std::vector<float> w = raw(name, features_);
        for (float& d : w)
            d = -static_cast<float>(own_exp(std::min(std::max(static_cast<double>(d), -80.0), 80.0)) * base());
        return keep(w);
    }

    const float* bonus(const std::string& name) {
        std::vector<float> f = raw(name, features_);
        for (float& x : f) x = static_cast<float>(x * base());
        return keep(f);
    }

    // Tap `tap` of `taps` of a (features, features, taps) weight; with integers, multiplied by `unit`.
    Linear linear(const std::string& name, double unit = 1.0, const float* bias = nullptr, int tap = 0, int taps = 1) {
        const size_t n = features_;
        const auto& w = raw(name, n * n * taps);
        std::vector<float> packed(n * n);
        for (size_t row = 0; row < n; ++row)
            for (size_t col = 0; col < n; ++col)
                packed[(row / 8 * n + col) * 8 + row % 8] = w[(row * n + col) * taps + tap];
        Linear layer;
        layer.bias = bias;
        layer.rows = layer.cols = features_;
        if (integers_) round(packed, unit, layer);
        else layer.w = keep(std::move(packed));
        return layer;
    }

    // Every row as 127ths of its largest weight.
    void round(const std::vector<float>& packed, double unit, Linear& layer) {
        const size_t rows = layer.rows, cols = layer.cols;
        std::vector<int32_t> pairs(rows * cols / 2);
        std::vector<float> scale(rows);
        for (size_t row = 0; row < rows; ++row) {
            const float* w = packed.data() + row / 8 * cols * 8 + row % 8;
            float most = 1e-30f;
            for (size_t col = 0; col < cols; ++col) most = std::max(most, std::abs(w[col * 8]));
            const auto whole = [&](size_t col) { return static_cast<int>(std::floor(w[col * 8] / most * 127.0f + 0.5f)); };
            for (size_t col = 0; col < cols; col += 2)
                pairs[(row / 8 * cols + col) * 4 + row % 8] = (whole(col) & 0xffff) | whole(col + 1) * 65536;
            scale[row] = static_cast<float>(most / 127.0 * unit);
        }
        layer.scale = keep(std::move(scale));
        owner_.pairs_.push_back(std::move(pairs));
        layer.pairs = owner_.pairs_.back().data();
    }

    Layer layer(const std::string& part, int index, int taps) {
        const std::string place = "." + std::to_string(index);
        Layer out;
        const float* bias = vector(part + ".convs" + place + ".bias");
        for (int tap = 0; tap < taps; ++tap)
            out.tap[tap] = linear(part + ".convs" + place + ".weight", 1.0, tap ? nullptr : bias, tap, taps);
        out.norm = norm(part + ".norms" + place);
        return out;
    }

    BlockParams block(const std::string& name, bool first) {
        BlockParams b;
        b.has_ln0 = first;
        if (first) b.ln0 = norm(name + ".ln0");
        b.ln1 = norm(name + ".ln1");
        b.ln2 = norm(name + ".ln2");
        const auto input = [&](const std::string& mixed, const std::string& norm, Mix& shift) {
            const double one = unit(name + mixed, name + norm);
            shift = mix(name + mixed, one);
            return one;
        };
        const double att_k = input(".att.time_mix_k", ".ln1", b.att_k), att_v = input(".att.time_mix_v", ".ln1", b.att_v);
        const double att_r = input(".att.time_mix_r", ".ln1", b.att_r);
        const double ffn_k = input(".ffn.time_mix_k", ".ln2", b.ffn_k), ffn_r = input(".ffn.time_mix_r", ".ln2", b.ffn_r);
        b.decay = decay(name + ".att.time_decay");
        b.first = bonus(name + ".att.time_first");
        b.key = linear(name + ".att.key.weight", att_k * base());
        b.value = linear(name + ".att.value.weight", att_v);
        b.receptance = linear(name + ".att.receptance.weight", -att_r * base());
        b.output = linear(name + ".att.output.weight");
        b.ffn_key = linear(name + ".ffn.key.weight", ffn_k);
        b.ffn_receptance = linear(name + ".ffn.receptance.weight", -ffn_r * base());
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
    const bool integers_;
};

LineNetwork::LineNetwork(int features, int encoder_layers, int line_blocks, int band_blocks, int decoder_layers,
                         const LineTensors& tensors, bool integers) {
    if (features < 8 || features % 8 || features > 4096)
        throw ArgumentError("the number of features must be a multiple of 8");
    if (encoder_layers < 1 || encoder_layers > kHalo || decoder_layers < 1 || line_blocks < 1 || band_blocks < 1)
        throw ArgumentError("a network needs 1 to 16 encoder layers, and at least one of everything else");
    if (integers && features > kMostIntegers) throw ArgumentError("integer weights want at most 512 features");
    const PlainArithmetic plain;
    Reader read(*this, tensors, features, integers);
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

}  // namespace cbench
