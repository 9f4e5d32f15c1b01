// LineRWKV as it runs in the codecs: the network with its state, one band of one line at a time.
#pragma once
#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "crew.hpp"
#include "linerwkv_kernels.hpp"

namespace cbench {

// Weights by their published names; values in the order of the tensor.
using LineTensors = std::map<std::string, std::vector<float>>;

// Weights in the order in which the kernels read them. With `integers`, those of all square matrices are rounded to
// 8 bits and meet features of 16 bits; all else stays float.
class LineNetwork {
public:
    LineNetwork(int features, int encoder_layers, int line_blocks, int band_blocks, int decoder_layers,
                const LineTensors& tensors, bool integers = false);
    LineNetwork(const LineNetwork&) = delete;
    LineNetwork& operator=(const LineNetwork&) = delete;
    const LineParams& params() const { return params_; }

private:
    class Reader;
    std::vector<std::vector<float>> kept_;
    std::vector<std::vector<int32_t>> pairs_;
    std::vector<Layer> encoder_, decoder_;
    std::vector<BlockParams> lines_, bands_;
    LineParams params_;
};

// Begins on a cache line, as the kernels' vectors do: loads across two lines take twice the time.
template <class T>
struct LineAllocator {
    using value_type = T;
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
    void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t{64}); }
    bool operator==(const LineAllocator&) const { return true; }
    bool operator!=(const LineAllocator&) const { return false; }
};
using Floats = std::vector<float, LineAllocator<float>>;

// The recurrent predictor over one image. Lines go through as a whole, or band by band: `start_line`, then `step` for
// every band in order; or they are followed while their samples are still being found out. All compute the same.
//
// Threads share the columns of an image, in strips. A line that is followed makes two steps in each band of a strip:
// `look`, which predicts the next band, and `remember`, which only the next line needs. Whoever has time takes the next
// step of a strip that nobody else is at.
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
    // Calls feed() on this thread, which brings in a line: it puts normalised samples to input(band), says so with
    // give(), and calls await() for predictions (bands, columns). Without lines before there are none. If feed()
    // returns false, the line is given up and the engine of no more use before reset().
    template <class Feed>
    void follow(float* predictions, Feed&& feed);
    float* input(int band) { return samples_.data() + static_cast<size_t>(band) * columns_; }
    // The first `columns` samples of a band are there, and all of the bands before.
    void give(int band, int columns);
    // Returns when a band's predictions are there, at this column and those that follow up to the next multiple of 16.
    // Of the bands before, everything must have been given.
    void await(int band, int column);

    // Back to the state before the first line.
    void reset();

    // Everything that later predictions depend on, between two lines; independent of threads and kernels.
    std::vector<float> save() const;
    void restore(const float* state, size_t size, int64_t lines);
    size_t state_size() const;

private:
    struct Strip {   // columns that one thread handles together
        int first = 0, width = 0, need = 0;   // need: columns of a row that `look` reads
        Floats memory;                   // band by band: s, then the states of the line blocks
        Floats row;                      // states of the band blocks
        Floats samples;                  // of a row, as far as `look` may know them
        Floats a, b, work, out;
        // A line that is followed: bands that have been looked at (-1: not even begun) and remembered, and whether
        // a thread is at it.
        std::atomic<int> looked{0}, remembered{0};
        std::atomic<bool> busy{false};
    };
    template <class Job>
    void each_strip(Job&& job);
    void prepare(float* predictions);
    void begin(Strip& strip, float* prediction) const;
    void look(Strip& strip, int band, float* prediction);
    void remember(Strip& strip, int band);
    bool advance(Strip& strip);
    bool help(size_t preferred);
    void work(int thread);
    size_t per_band(const Strip& strip) const;
    template <class Visit>
    void visit_state(Visit&& visit) const;

    std::shared_ptr<const LineNetwork> network_;
    const int bands_, columns_;
    int64_t lines_ = 0;
    std::deque<Strip> strips_;
    std::vector<float> samples_, first_band_;   // of the current line; band 0 of the line before
    float* predictions_ = nullptr;       // of the line that is followed
    std::atomic<int64_t> given_{0};      // samples of it, rows counted as one longer than they are
    std::atomic<int> open_{0};           // strips of it that are not done
    std::atomic<bool> given_up_{false};
    Crew crew_;
};

template <class Feed>
void LineEngine::follow(float* predictions, Feed&& feed) {
    prepare(predictions);
    crew_.run([&](int thread) {
        if (thread == 0 && !feed()) given_up_.store(true, std::memory_order_relaxed);
        work(thread);
    });
    if (given_up_.load(std::memory_order_relaxed)) return;
    std::copy(input(0), input(0) + columns_, first_band_.begin());
    ++lines_;
}

}  // namespace cbench
