// Prints a checksum of what every coder and engine writes for fixed inputs. Two machines that print the same lines make
// the same files; see other_machine.sh.
#include <cinttypes>
#include <string>

#include "../simd/kernels.hpp"
#include "target.hpp"

namespace cbench::fuzz {
namespace {

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
    for (int mode = 0; mode < kModes; ++mode) {
        if (mode == kStack) continue;
        for (const size_t about : {1, 600, 6000, 78000}) {
            const size_t n = length_of(static_cast<Mode>(mode), static_cast<uint32_t>(about));
            std::vector<int32_t> values(n);
            for (auto& v : values) v = static_cast<int32_t>(random.bits(static_cast<int>(1 + random.bits(31) % 31)));
            const Bytes data = encode(static_cast<Mode>(mode), values, n);
            decode(static_cast<Mode>(mode), n, data.data(), data.size());   // aborts if it does not encode to itself
            print(kNames[mode] + std::string(" ") + std::to_string(n), data.data(), data.size());
        }
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

void network(Random& random) {
    const int lines = 6, bands = 9, columns = 37;
    LineEngine engine(line_network(random, 16), bands, columns, 1);
    std::vector<float> u(static_cast<size_t>(bands) * columns), p(u.size()), all;
    for (int t = 0; t < lines; ++t) {
        for (auto& v : u) v = 4.0f * random.weight();
        engine.line(u.data(), p.data());
        if (t) all.insert(all.end(), p.begin(), p.end());
    }
    print("linerwkv network", reinterpret_cast<const uint8_t*>(all.data()), all.size() * sizeof(float));
}

void pixels(Random& random) {
    constexpr int kHidden = 32;
    const PixelModel model = pixel_model(random, kHidden, 3);
    constexpr size_t kSide = 24;
    std::vector<uint8_t> picture(3 * kSide * kSide), back(picture.size());
    for (size_t i = 0; i < picture.size(); ++i) picture[i] = static_cast<uint8_t>(i % kSide * 8 + random.bits(4));
    std::vector<int16_t> biases(kSide * kSide * 3 * kHidden);
    for (auto& b : biases) b = static_cast<int16_t>(random.within(0, 2000));
    std::vector<Op> ops;
    model.append({picture.data(), 3, kSide, kSide, 0, kSide, biases.data()}, ops);
    OpList source;
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
