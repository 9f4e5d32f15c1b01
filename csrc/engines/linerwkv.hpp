// LineRWKV as it runs in the codecs: the network with its state, one band of one line at a time.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "crew.hpp"
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
    // `step` in two parts: the prediction, and what only the next line needs, which must come before the next `look`.
    void look(int band, const float* u, float* prediction);
    // Calls job() as well, on this thread, while others work if there are any.
    template <class Job>
    void remember(int band, Job&& job);

    // Back to the state before the first line.
    void reset();

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
    void look(Strip& strip, int band, float* prediction);
    void remember(Strip& strip, int band);
    void remember_share(int band, int part, int parts);
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

template <class Job>
void LineEngine::remember(int band, Job&& job) {
    const int others = crew_.size() - 1;
    crew_.run([&](int thread) {
        if (others == 0 || thread > 0) remember_share(band, others ? thread - 1 : 0, others ? others : 1);
        if (thread == 0) job();
    });
    if (band == bands_ - 1) ++lines_;
}

}  // namespace cbench
