// Prints a checksum of what every coder and engine writes for fixed inputs. Two machines that print the same lines make
// the same files; see other_machine.sh.
#include <cinttypes>
#include <string>

#include "target.hpp"   // before the engines: both have a kTotal

#include "../engines/linerwkv.hpp"
#include "../engines/pixel_ar.hpp"
#include "../engines/rls.hpp"
#include "../simd/kernels.hpp"

namespace cbench::fuzz {
namespace {

class Random {   // integers only, so that no library decides the inputs
  public:
    uint32_t bits(int count) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state_ >> 33) >> (31 - count);
    }
    int32_t within(int32_t low, int32_t high) {
        return low + static_cast<int32_t>(bits(31) % static_cast<uint32_t>(high - low + 1));
    }
    float weight() { return static_cast<float>(within(-1024, 1024)) / 4096.0f; }

  private:
    uint64_t state_ = 1;
};

void print(const std::string& what, const uint8_t* data, size_t size) {
    uint64_t hash = 14695981039346656037u;   // FNV-1a
    for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 1099511628211u;
    std::printf("%-24s %9zu bytes %016" PRIx64 "\n", what.c_str(), size, hash);
}

void check(bool same, const std::string& what) {
    if (same) return;
    std::fprintf(stderr, "%s: decoding gives something else\n", what.c_str());
    std::exit(1);
}

void coder(Random& random) {
    const char* names[] = {"static", "indexed", "escape", "bits", "rows", "raw", "mixture", "states", "adaptive"};
    for (int mode = 0; mode < kStack; ++mode)
        for (const size_t about : {1, 600, 6000, 78000}) {
            const size_t n = length_of(static_cast<Mode>(mode), static_cast<uint32_t>(about));
            std::vector<int32_t> values(n);
            for (auto& v : values) v = static_cast<int32_t>(random.bits(static_cast<int>(1 + random.bits(31) % 31)));
            const Bytes data = encode(static_cast<Mode>(mode), values, n);
            decode(static_cast<Mode>(mode), n, data.data(), data.size());   // aborts if it does not encode to itself
            print(names[mode] + std::string(" ") + std::to_string(n), data.data(), data.size());
        }
}

// Lines of a scene that is smooth along columns and bands, with noise.
std::vector<int32_t> scene(Random& random, int lines, int bands, int columns) {
    std::vector<int32_t> cube;
    for (int t = 0; t < lines; ++t)
        for (int z = 0; z < bands; ++z)
            for (int c = 0; c < columns; ++c)
                cube.push_back(1000 + 40 * z + (c * c + 3 * t * z) % 500 + random.within(-20, 20));
    return cube;
}

void experts(Random& random) {
    const int lines = 20, bands = 12, columns = 33;
    for (const int delta : {0, 5}) {
        rls::Config config;
        config.experts = {{3, 0.999, 3, 3, 4}, {10, 0.9995, 8, 8, 6}};
        config.bands = bands;
        config.columns = columns;
        config.delta = delta;
        const std::vector<int32_t> cube = scene(random, lines, bands, columns);
        rls::Engine writer(config), reader(config);
        std::vector<int32_t> sent = cube, got(cube.size());
        std::vector<uint8_t> bytes(writer.row_bytes() * lines * bands + 64);
        RangeState out;
        out.out = bytes.data();
        for (int row = 0; row < lines * bands; ++row) {
            writer.encode_row(row % bands, sent.data() + row * columns, nullptr, out);
            if (row % bands == bands - 1) writer.end_line();
        }
        range_flush(out);
        RangeState in;
        in.in = bytes.data();
        in.end = out.out;
        range_open(in);
        for (int row = 0; row < lines * bands; ++row) {
            reader.decode_row(row % bands, got.data() + row * columns, nullptr, in);
            if (row % bands == bands - 1) reader.end_line();
        }
        const std::string name = "rls, delta " + std::to_string(delta);
        check(sent == got, name);
        print(name, bytes.data(), static_cast<size_t>(out.out - bytes.data()));
    }
}

LineTensors line_tensors(Random& random, size_t f) {
    LineTensors t;
    const auto add = [&](const std::string& name, size_t size, float base = 0.0f) {
        for (size_t i = 0; i < size; ++i) t[name].push_back(base + random.weight());
    };
    const auto norm = [&](const std::string& name) {
        add(name + ".weight", f, 1.0f);
        add(name + ".bias", f);
    };
    for (const auto& [part, taps] : {std::pair<std::string, size_t>{"encoder", 3}, {"decoder", 1}}) {
        add(part + ".convs.0.weight", f * f * taps);
        add(part + ".convs.0.bias", f);
        norm(part + ".norms.0");
    }
    for (const std::string block : {"blocks_lines.0", "blocks_bands.0"}) {
        for (const char* name : {".ln0", ".ln1", ".ln2"}) norm(block + name);
        for (const char* name : {".att.time_mix_k", ".att.time_mix_v", ".att.time_mix_r", ".ffn.time_mix_k", ".ffn.time_mix_r"})
            add(block + name, f, 0.5f);
        for (const char* name : {".att.time_decay", ".att.time_first"}) add(block + name, f);
        for (const char* name : {".att.key", ".att.value", ".att.receptance", ".att.output", ".ffn.key", ".ffn.receptance", ".ffn.value"})
            add(block + std::string(name) + ".weight", f * f);
    }
    add("encoder.conv_in.weight", f * 3);
    add("encoder.conv_in.bias", f);
    norm("encoder.norm_in");
    for (const std::string part : {"decoder", "bandzerodec"}) {
        add(part + ".conv_out.weight", f);
        add(part + ".conv_out.bias", 1);
    }
    return t;
}

void network(Random& random) {
    const int lines = 6, bands = 9, columns = 37;
    const auto net = std::make_shared<LineNetwork>(16, 2, 1, 1, 2, line_tensors(random, 16));
    LineEngine engine(net, bands, columns, 1);
    std::vector<float> u(static_cast<size_t>(bands) * columns), p(u.size()), all;
    for (int t = 0; t < lines; ++t) {
        for (auto& v : u) v = 4.0f * random.weight();
        engine.line(u.data(), p.data());
        if (t) all.insert(all.end(), p.begin(), p.end());
    }
    print("linerwkv network", reinterpret_cast<const uint8_t*>(all.data()), all.size() * sizeof(float));
}

void pixels(Random& random) {
    constexpr int kHidden = 32, kMixtures = 3;
    std::vector<int16_t> inner(3 * kPixelFeatures * kHidden), middle(3 * kHidden * kHidden), linear(3 * kPixelFeatures),
        outer(3 * kHidden * 3 * kMixtures);
    for (auto* weights : {&inner, &middle, &linear, &outer})
        for (auto& w : *weights) w = static_cast<int16_t>(random.within(-200, 200));
    std::vector<int32_t> base_m(3 * kHidden, 1000), shift_m(3 * kHidden, 10), base_o(9 * kMixtures, 50), shift_o(9 * kMixtures, 12);
    const PixelModel model({kHidden, kMixtures, inner.data(), 6, {middle.data(), base_m.data(), shift_m.data()},
                            {outer.data(), base_o.data(), shift_o.data()}, linear.data(), 6});
    constexpr size_t kSide = 24;
    std::vector<uint8_t> picture(3 * kSide * kSide), back(picture.size());
    for (size_t i = 0; i < picture.size(); ++i) picture[i] = static_cast<uint8_t>(i % kSide * 8 + random.bits(4));
    std::vector<int16_t> biases(kSide * kSide * 3 * kHidden);
    for (auto& b : biases) b = static_cast<int16_t>(random.within(0, 2000));
    std::vector<Op> ops;
    model.append({picture.data(), 3, kSide, kSide, 0, kSide, biases.data()}, ops);
    RawSource source;
    source.ops = ops;
    const Bytes data = encode_stream(source, ops.size(), -1);
    StreamReader in(data.data(), data.size());
    model.read(in, {back.data(), 3, kSide, kSide, 0, kSide, biases.data()});
    in.finish();
    check(back == picture, "pixels");
    print("pixels", data.data(), data.size());
}

}  // namespace
}  // namespace cbench::fuzz

int main() {
    cbench::fuzz::Random random;
    cbench::fuzz::coder(random);
    cbench::fuzz::experts(random);
    cbench::fuzz::network(random);
    cbench::fuzz::pixels(random);
    std::fprintf(stderr, "kernels: %s\n", cbench::kernels().name);
    return 0;
}
