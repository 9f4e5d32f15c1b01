// LineRWKV as it runs in the codec: the network with its state, one band of one line at a time, and the published coding
// pipeline around it. Encoder and decoder run the same routine, so no rounding can differ between them.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "crew.hpp"
#include "golomb.hpp"
#include "linerwkv_kernels.hpp"

namespace cbench {

// Weights by their published names; values in the order of the tensor.
using LineTensors = std::map<std::string, std::vector<float>>;

// Weights in the order in which the kernels read them.
class LineNetwork {
public:
    LineNetwork(int features, int encoder_layers, int line_blocks, int band_blocks, int decoder_layers,
                const LineTensors& tensors);
    LineNetwork(const LineNetwork&) = delete;
    LineNetwork& operator=(const LineNetwork&) = delete;
    const LineParams& params() const { return params_; }

private:
    class Reader;
    std::vector<std::vector<float>> kept_;
    std::vector<Layer> encoder_, decoder_;
    std::vector<BlockParams> lines_, bands_;
    LineParams params_;
};

// The recurrent predictor over one image. Lines go through as a whole, or band by band: `start_line`, then `step` for
// every band in order. Both compute the same; whole lines need less agreement between threads.
class LineEngine {
public:
    LineEngine(std::shared_ptr<const LineNetwork> network, int bands, int columns, int threads);

    int bands() const { return bands_; }
    int columns() const { return columns_; }
    // Lines that have gone through; predictions exist from the second one on.
    int64_t lines() const { return lines_; }

    // Takes a whole line (bands, columns), normalised. If there are lines before, writes its predictions.
    void line(const float* u, float* predictions);
    // Begins a line. If there are lines before, writes the prediction of band 0, in normalised units, to `prediction`.
    void start_line(float* prediction);
    // Takes the true samples of `band` (normalised, `columns` of them), and if there are lines before and a band after
    // it, writes the prediction of the next band.
    void step(int band, const float* u, float* prediction);

    // Everything that later predictions depend on, between two lines; independent of threads and kernels.
    std::vector<float> save() const;
    void restore(const float* state, size_t size, int64_t lines);
    size_t state_size() const;

private:
    struct Strip {   // columns that one thread handles together
        int first, width;
        std::vector<float> memory;       // band by band: s, then the states of the line blocks
        std::vector<float> row;          // states of the band blocks
        std::vector<float> a, b, work, out;
    };
    template <class Job>
    void each_strip(Job&& job);
    void begin(Strip& strip, float* prediction) const;
    float* padded(int band);
    void advance(Strip& strip, int band, float* prediction);
    size_t per_band(const Strip& strip) const;
    template <class Visit>
    void visit_state(Visit&& visit) const;

    std::shared_ptr<const LineNetwork> network_;
    const int bands_, columns_;
    int64_t lines_ = 0;
    std::vector<Strip> strips_;
    std::vector<float> padded_, first_band_;
    Crew crew_;
};

// Mean and deviation of every band over the lines coded so far, renewed every 16 lines: known to the decoder, too.
class CausalScale {
public:
    explicit CausalScale(int bands) : sum_(bands, 0), squares_(bands, 0), mean_(bands, 0), deviation_(bands, 1) {}
    // Adds reconstructed samples of one band of a line.
    void add(int band, const int32_t* samples, int columns);
    // Call once all bands of line `t` have been added; whether the scale of the next line was renewed.
    bool end_line(int64_t t);
    int32_t mean(int band) const { return mean_[band]; }
    int32_t deviation(int band) const { return deviation_[band]; }

private:
    std::vector<int64_t> sum_, squares_;
    std::vector<int32_t> mean_, deviation_;
    int64_t count_ = 0;
};

struct LineFormat {
    int bands = 0, columns = 0;
    int32_t step = 1;              // q = 2 delta + 1
    int32_t low = 0, high = 0;     // range of the quantised samples
    GolombParams golomb;
};

// Codes quantised lines X (bands, columns): rounded prediction, residual, sample-adaptive Golomb code.
class LineCoder {
public:
    LineCoder(std::shared_ptr<const LineNetwork> network, const LineFormat& format, int threads);
    void encode(const int32_t* line, BitWriter& out);
    void decode(BitReader& in, int32_t* line);

private:
    template <class Code>   // code(prediction, band, sample)
    void first_line(int32_t* line, Code&& code);
    void normalise(int band, const int32_t* samples);
    void round_predictions(int band);
    void remember(int band, const int32_t* samples);
    int32_t clamp(int32_t x) const { return x < format_.low ? format_.low : x > format_.high ? format_.high : x; }

    const LineFormat format_;
    LineEngine engine_;
    CausalScale scale_;
    std::vector<GolombBand> statistics_;
    std::vector<float> normalised_, predicted_;   // of the present line
    std::vector<int32_t> rounded_, restored_;     // of one band
};

}  // namespace cbench
