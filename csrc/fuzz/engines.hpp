// The decoders of csrc/engines with small fixed models: what target.hpp fuzzes beside the coder's own modes.
//
// An image of an engine has a fixed number of bands and columns, and as many lines as its values fill. An odd number of
// lines is coded without loss, an even one with an error of up to 2 where the engine can.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "../rans.hpp"   // before the engines: both have a kTotal
#include "../engines/block_coder.hpp"
#include "../engines/ccsds123.hpp"
#include "../engines/ccsds123_hybrid.hpp"
#include "../engines/linerwkv_coder.hpp"
#include "models.hpp"
#include "modes.hpp"

namespace cbench::fuzz {

struct OpList final : OpSource {
    std::vector<Op> ops;
    void resolve(size_t first, size_t count, Op* out) override {
        std::copy_n(ops.begin() + static_cast<std::ptrdiff_t>(first), count, out);
    }
};

class Engines {
  public:
    struct Shape {
        int bands, columns, most_lines;
        int32_t low, high;
        size_t area() const { return static_cast<size_t>(bands) * static_cast<size_t>(columns); }
    };
    static Shape shape(Mode mode) {
        switch (mode) {
            case kGolomb: return {3, 20, 30, 0, 511};
            case kCcsds: return {5, 7, 20, -2048, 2047};
            case kHybrid: return {5, 7, 20, 0, 4095};
            case kExperts: return {3, 7, 5, 0, 65535};
            case kPixels:
            case kLinear: return {3, 8, 8, 0, 255};
            default: return {3, 18, 3, -500, 4000};   // more columns than the experts wait for at a time
        }
    }

    Engines() : network_(line_network(random_, 8)), pixels_(pixel_model(random_, 16, 2)), linear_(random_),
                biases_(8 * 24 * 3 * 16), parameters_(8 * 24) {
        for (auto& b : biases_) b = static_cast<int16_t>(random_.within(0, 2000));
        for (auto& p : parameters_) p = random_.within(0, 1) << kLevelShift | random_.within(0, 255 << kMeanBits);
    }

    // Values in the range of the shape -> a stream; they become what the decoder gives.
    Bytes encode(Mode mode, std::vector<int32_t>& values) const {
        BitWriter bits;
        switch (mode) {
            case kGolomb: {
                std::vector<GolombBand> bands(3);
                lines(mode, values, [&](int32_t* line, int) {
                    for (int i = 0; i < 60; ++i) bands[i / 20].encode(bits, static_cast<uint32_t>(line[i]), golomb(9));
                });
                return bits.finish();
            }
            case kCcsds: {
                Ccsds123 coder(ccsds(mode, values));
                lines(mode, values, [&](int32_t* line, int) {
                    coder.encode(std::vector<int32_t>(line, line + 35).data(), line, bits);
                });
                return bits.finish();
            }
            case kHybrid: {
                const CcsdsParams p = ccsds(mode, values);
                Ccsds123 predictor(p);
                std::vector<uint16_t> mapped(values.size());
                const size_t band = values.size() / 5;
                lines(mode, values, [&](int32_t* line, int t) {
                    predictor.predict(std::vector<int32_t>(line, line + 35).data(), line, mapped.data() + t * 7, band);
                });
                HybridEncoder coder(5, p.golomb);
                for (size_t i = 0; i < mapped.size(); ++i) coder.encode(static_cast<int>(i / band), mapped[i], bits);
                coder.finish(bits);
                return bits.finish();
            }
            case kLines: {
                LineCoder coder(network_, line_format(), 1);
                lines(mode, values, [&](int32_t* line, int) { coder.encode(line, bits); });
                return bits.finish();
            }
            case kPixels:
            case kLinear: {
                std::vector<uint8_t> picture(values.begin(), values.end());
                OpList source;
                if (mode == kPixels) pixels_.append(rows(picture), source.ops);
                else linear_.model->append(whole(picture), source.ops);
                return encode_stream(source, source.ops.size(), -1);
            }
            default: {
                BlockCoder coder = block(mode, values);
                Bytes out(values.size() * kSymbolBytes + coder.line_bytes() + 64);
                RangeState state;
                state.out = out.data();
                lines(mode, values, [&](int32_t* line, int) { coder.encode_line(line, state); });
                range_flush(state);
                out.resize(static_cast<size_t>(state.out - out.data()));
                return out;
            }
        }
    }

    // A stream -> values, of which there are as many as there is room for. Raises BitstreamError.
    void decode(Mode mode, const uint8_t* data, size_t size, std::vector<int32_t>& values) const {
        BitReader bits(data, size);
        switch (mode) {
            case kGolomb: {
                std::vector<GolombBand> bands(3);
                lines(mode, values, [&](int32_t* line, int) {
                    for (int i = 0; i < 60; ++i) line[i] = static_cast<int32_t>(bands[i / 20].decode(bits, golomb(9)));
                });
                return bits.finish();
            }
            case kCcsds: {
                Ccsds123 coder(ccsds(mode, values));
                lines(mode, values, [&](int32_t* line, int) { coder.decode(bits, line); });
                return bits.finish();
            }
            case kHybrid: {
                const CcsdsParams p = ccsds(mode, values);
                const size_t band = values.size() / 5;
                std::vector<uint16_t> mapped(values.size());
                HybridDecoder coder(data, size, 5, band, p.golomb);
                for (size_t i = mapped.size(); i-- > 0;)
                    mapped[i] = static_cast<uint16_t>(coder.decode(static_cast<int>(i / band)));
                coder.finish();
                Ccsds123 predictor(p);
                return lines(mode, values, [&](int32_t* line, int t) {
                    predictor.restore(mapped.data() + t * 7, band, line);
                });
            }
            case kLines: {
                LineCoder coder(network_, line_format(), 1);
                lines(mode, values, [&](int32_t* line, int) { coder.decode(bits, line); });
                return bits.finish();
            }
            case kPixels:
            case kLinear: {
                StreamReader in(data, size);
                if (in.has_count()) throw BitstreamError("pixels need no count");
                std::vector<uint8_t> picture(values.size());
                if (mode == kPixels) pixels_.read(in, rows(picture));
                else linear_.model->read(in, whole(picture));
                in.finish();
                values.assign(picture.begin(), picture.end());
                return;
            }
            default: {
                BlockCoder coder = block(mode, values);
                RangeState state;
                state.in = data;
                state.end = data + size;
                range_open(state);
                lines(mode, values, [&](int32_t* line, int) {
                    coder.decode_line(line, state);
                    if (state.damaged || state.beyond >= kLookAhead) throw BitstreamError("damaged");
                });
                if (!range_ended(state)) throw BitstreamError("damaged");
            }
        }
    }

  private:
    template <class Code>   // code(line, its number)
    static void lines(Mode mode, std::vector<int32_t>& values, Code&& code) {
        const size_t area = shape(mode).area();
        for (size_t t = 0; t < values.size() / area; ++t) code(values.data() + t * area, static_cast<int>(t));
    }
    static int32_t delta(Mode mode, const std::vector<int32_t>& values) {
        return values.size() / shape(mode).area() % 2 ? 0 : 2;
    }
    static GolombParams golomb(int depth) {
        GolombParams p;
        p.d = depth;
        return p;
    }
    static CcsdsParams ccsds(Mode mode, const std::vector<int32_t>& values) {
        CcsdsParams p;
        p.bands = 5;
        p.columns = 7;
        p.depth = p.golomb.d = 12;
        p.low = shape(mode).low;
        p.delta = delta(mode, values);
        return p;
    }
    static LineFormat line_format() {
        const Shape s = shape(kLines);
        LineFormat format;
        format.bands = s.bands;
        format.columns = s.columns;
        format.step = 3;
        format.low = s.low;
        format.high = s.high;
        format.golomb = golomb(13);
        return format;
    }
    BlockCoder block(Mode mode, const std::vector<int32_t>& values) const {
        const Shape s = shape(mode);
        rls::Config config;
        config.experts = {{1, 0.999, 3, 3, 4, mode == kGuided}, {2, 0.9995, 8, 0, 4}};
        config.bands = s.bands;
        config.columns = s.columns;
        config.low = s.low;
        config.high = s.high;
        config.delta = delta(mode, values);
        return {config, mode == kGuided ? network_ : nullptr, 1};
    }
    // Colours for an odd number of rows of 24 samples, else grey.
    PixelRows rows(std::vector<uint8_t>& picture) const {
        const size_t height = picture.size() / 24, channels = height % 2 ? 3 : 1;
        return {picture.data(), channels, height, 24 / channels, 0, height, biases_.data()};
    }

    LinearPicture whole(std::vector<uint8_t>& picture) const {
        const size_t height = picture.size() / 24, channels = height % 2 ? 3 : 1;
        return {picture.data(), channels, height, 24 / channels, parameters_.data()};
    }

    Random random_;
    std::shared_ptr<LineNetwork> network_;
    PixelModel pixels_;
    LinearTables linear_;
    std::vector<int16_t> biases_;       // of 8 rows of 24 pixels with 3 colours and 16 hidden units
    std::vector<int32_t> parameters_;   // of 8 rows of 24 samples
};

inline const Engines& engines() {
    static const Engines instance;
    return instance;
}

}  // namespace cbench::fuzz
