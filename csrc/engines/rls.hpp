// Adaptive hyperspectral coding: recursive-least-squares experts, mixed, with a learnt scale (see the README of
// cbench.models.rls).
//
// `Engine` holds the state of one independent block of lines and codes it row by row, a row being one band of one line;
// it is the same for encoder and decoder. Its arithmetic is double precision in a fixed order on eight lanes
// (lanes.hpp), so that every instruction set gives the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "lanes.hpp"
#include "range.hpp"

namespace cbench::rls {

constexpr int kMaxExperts = 6;
constexpr int kMaxInputs = 104;
constexpr int kSlots = 24;          // Gaussians of the mixture, at most
constexpr int kContexts = 24;       // by scale
constexpr int kSpikes = 9;
constexpr int kPad = 4;             // columns beside every row
constexpr int kPoint = 7;           // lane of the point prediction, behind those of the experts
constexpr int kCells = 512;         // of the table of the normal distribution, 1/32 each

// What a user chooses for one expert.
struct ExpertSpec {
    int bands;                      // previous bands at the pixel
    double forgetting;
    int spatial;                    // 3 or 8 neighbours in the band
    int near;                       // 0, 3 or 8 neighbours in the previous band
    int own;                        // 4 or 6 errors of its own
    bool network = false;           // also a prediction from outside
};

struct Config {
    std::vector<ExpertSpec> experts;
    int bands = 0, columns = 0;
    int32_t low = 0, high = 65535;  // range of the samples
    int32_t delta = 0;              // largest error
    double variance = 1e12;         // of a weight; beyond, an expert starts again. Part of a format, as all here
};

// A bank of recursive-least-squares filters, one a band. State of one: 8 numbers (the first is the scale of P), weights
// w, the pending update h, and the matrix P, which is scale * (stored - h h^T).
struct Bank {
    ExpertSpec spec{};
    int inputs = 0, vectors = 0;    // inputs fill `vectors` groups of eight
    size_t stride = 0;
    double* state = nullptr;
    double* of(int band) const { return state + stride * static_cast<size_t>(band); }
};

struct BandStats {
    double squares[kLanes];         // mean squared error of every expert and, in lane kPoint, of the point prediction
    double mean;                    // mean magnitude of the residual
};

// Everything the kernels see. Rows are [band][kPad + columns + kPad]; age 0 is the current line.
struct Model {
    int bands = 0, columns = 0, pitch = 0, experts = 0, slots = 0, groups = 0;
    bool network = false;           // whether any expert sees predictions from outside
    int32_t low = 0, high = 0, delta = 0, step = 1;
    double variance = 0.0;
    Bank expert[kMaxExperts], stage, scale, common;
    double* value[3] = {};          // samples as prediction sees them
    double* error[3] = {};          // [..][8]: errors of the experts and the point prediction
    double* residual[3] = {};       // magnitude of the coded residual
    int32_t* output[2] = {};        // samples as the decoder gives them
    double* difference = nullptr;   // [column][most + bands]: sample less local mean; `most` zeros in front
    size_t difference_pitch = 0;
    int most = 0;                   // previous bands that any expert looks at
    double* activity = nullptr;     // [1 + columns + 1]
    int32_t* hit = nullptr;         // [columns]: 1 spike hit, 2 missed, in the previous band
    BandStats* stats = nullptr;
    double weight[kContexts][kSlots] = {};
    double seen[kContexts] = {};
    double spike[kSpikes] = {};
    double spike_seen[kSpikes] = {};
    int64_t line = 0;
    const double* normal = nullptr;     // kCells pairs: distribution function and its increase to the next cell
    const double* quantile = nullptr;   // 257 pairs: where it is reached, in deviations, and the density there
};

// Called before columns 0, kGate, 2 kGate ... of a row are coded; those before are done, and those up to the next call
// may be predicted from outside until then.
struct Gate {
    void (*pass)(void* context, int column);
    void* context;
};
constexpr int kGate = 16;

struct RowJob {
    Model* model;
    RangeState* coder;
    int band;
    int32_t* samples;               // encoder: the row, replaced by what the decoder gives; decoder: the row
    const double* network;          // predictions from outside; null: none for this row
    const Gate* gate;               // null: nobody wants to know
};

struct RowKernels {
    const char* name;
    void (*encode)(const RowJob&);
    void (*decode)(const RowJob&);
};

class Engine {
  public:
    explicit Engine(const Config& config);
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // Back to the state before the first line.
    void reset();
    // One row; rows come in order of their band, and end_line() after the last. `out` must have room for row_bytes().
    void encode_row(int band, int32_t* samples, const double* network, RangeState& coder, const Gate* gate = nullptr);
    void decode_row(int band, int32_t* samples, const double* network, RangeState& coder, const Gate* gate = nullptr);
    void end_line();

    size_t row_bytes() const { return static_cast<size_t>(model_.columns) * kSymbolBytes + 16; }
    // The current row of a band as prediction sees it: inside a bin of near-lossless coding, not its middle.
    const double* values(int band) const;
    bool needs_network() const { return model_.network; }

  private:
    void start_band(int band);
    void start_row(int band);
    template <class T>
    T* take(size_t count);

    Model model_;
    RowKernels kernels_;
    std::vector<std::unique_ptr<uint64_t[]>> memory_;
    std::vector<std::pair<uint64_t*, size_t>> cleared_;
};

}  // namespace cbench::rls
