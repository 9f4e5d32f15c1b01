// The arithmetic of LineRWKV behind one table of function pointers: portable, AVX2 and AVX-512 give the same bits.
//
// Activations are (features, width) float32 with columns of the image in the SIMD lanes, width a multiple of 16. Each
// column is a sum over features in ascending order of IEEE operations without contraction, so that a column's result
// depends neither on the width of a register nor on the other columns.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cbench {

// The kernel files are compiled for other instruction sets than the rest, so this header has no inline functions.

// y = W x + bias. Rows in groups of 8: w[(row / 8) * cols * 8 + col * 8 + row % 8]. Either floats, or integers in
// -127..127: two columns in the lower and the upper half of a number, in the same order, and what 1 means in each row.
struct Linear {
    const float* w = nullptr;
    const int32_t* pairs = nullptr;
    const float* scale = nullptr;
    const float* bias = nullptr;   // null: none
    int rows = 0, cols = 0;
};
constexpr int kMostIntegers = 512;   // columns of integers, so that sums fit 32 bits

struct Norm {
    const float *gain = nullptr, *bias = nullptr;
};

// Token shift: this step times m plus the step before times 1 - m.
struct Mix {
    const float *now = nullptr, *before = nullptr;
};

struct BlockParams {
    bool has_ln0 = false;
    Norm ln0, ln1, ln2;
    Mix att_k, att_v, att_r, ffn_k, ffn_r;
    const float *decay = nullptr, *first = nullptr;   // w = -exp(time_decay), f = time_first
    Linear key, value, receptance, output;
    Linear ffn_key, ffn_receptance, ffn_value;
};

// Recurrent state of one block: att and ffn (what entered the two mixes), aa, bb, pp (wkv), each (features, width).
constexpr int kStateParts = 5;
constexpr float kEmptyExponent = -1e38f;

// One layer of the encoder beyond the first (three taps) or of the decoder (one).
struct Layer {
    Linear tap[3];
    Norm norm;
};

struct LineParams {
    int features = 0, encoder_layers = 0, decoder_layers = 0, line_blocks = 0, band_blocks = 0;
    const float *conv_in[3] = {nullptr, nullptr, nullptr}, *conv_in_bias = nullptr;
    Norm norm_in;
    const Layer *encoder = nullptr, *decoder = nullptr;   // encoder_layers - 1 and decoder_layers - 1
    const float *out = nullptr, *zero = nullptr;          // last layers of decoder and band-zero decoder
    float out_bias = 0, zero_bias = 0;
    const BlockParams *lines = nullptr, *bands = nullptr;
};

// Columns that are computed beyond each end of a strip, so at most so many encoder layers.
constexpr int kHalo = 16;
constexpr int kMargin = 2 * kHalo;   // room that the computation of these takes

struct LineKernels {
    const char* name;
    // Normalised samples -> features of columns first .. first + width - 1; beyond `columns` anything finite comes out.
    // u[0] is column `first`; u has kMargin samples before it and behind the last one. Of these a feature depends on as
    // many as there are layers; columns outside the image are zero.
    // work: 2 * features * (width + 2 * kHalo) + 3 * kHalo floats, finite.
    void (*encode)(const LineParams& net, const float* u, int columns, int first, int width, float* a, float* work);
    // One step of one block: z and state move on in place. work: 5 * features * width floats.
    void (*block)(const BlockParams& block, int features, float* z, float* state, int width, float* work);
    // out = features (x + y) -> samples; y may be null. work: 2 * features * width floats.
    void (*decode)(const LineParams& net, const float* x, const float* y, int width, float* out, float* work);
    // out = band-zero decoder of x.
    void (*decode_zero)(const LineParams& net, const float* x, int width, float* out);
    // out = x - y, n floats.
    void (*subtract)(const float* x, const float* y, float* out, size_t n);

    // wkv for training: sequences (steps, channels) one after the other, see network.py. The backward kernel takes the
    // gradient of y and gives those of time_decay, time_first (per sequence), k and v. scratch: 5 * steps * 16 values.
    void (*wkv_forward_f32)(const float* decay, const float* first, const float* k, const float* v, float* y, int steps,
                            int channels);
    void (*wkv_forward_f64)(const double* decay, const double* first, const double* k, const double* v, double* y,
                            int steps, int channels);
    void (*wkv_backward_f32)(const float* decay, const float* first, const float* k, const float* v, const float* gy,
                             float* g_decay, float* g_first, float* gk, float* gv, int steps, int channels,
                             float* scratch);
    void (*wkv_backward_f64)(const double* decay, const double* first, const double* k, const double* v,
                             const double* gy, double* g_decay, double* g_first, double* gk, double* gv, int steps,
                             int channels, double* scratch);
};

const LineKernels& line_kernels();   // those of the set that kernels.hpp has chosen

}  // namespace cbench
