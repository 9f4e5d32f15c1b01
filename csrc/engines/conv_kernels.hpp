// The stages of a convolution behind one table of function pointers: portable, AVX2 and AVX-512.
//
// A 3 x 3 convolution is Winograd's: a tile of outputs needs a window of inputs; both are seen as values of polynomials
// at some points, where the convolution is a product for each pair of channels. Channels lie in the SIMD lanes. Every
// number is a sum in an order that depends on nothing but the size of the picture; AVX2 and AVX-512 give the same bits
// (the portable kernels round products before they add them).
#pragma once
#include <cstddef>

namespace cbench {

// The kernel files are compiled for other instruction sets than the rest, so this header has no inline functions.

constexpr int kTapSides = 3;   // a filter has as many rows and columns, or one of each

// Tiles of 4 x 4 outputs from 36 points, of 2 x 2 from 16; 1: filters of one tap.
constexpr size_t window_of(int tile) { return tile == 1 ? 1 : static_cast<size_t>(tile) + kTapSides - 1; }

// Pictures (B, H, W, channels) that are some of the channels of what is convolved.
template <class T>
struct ConvPart {
    const T* x;
    size_t channels;
};
constexpr size_t kMaxParts = 4, kMaxTaps = 16;   // taps of a gate

// Some pictures (B, H, W, channels) on their way through a convolution, and the memory between the stages.
template <class T>
struct ConvJob {
    size_t pictures, height, width, inputs, outputs;
    int tile;
    size_t down, across;             // tiles of a picture
    size_t wide_inputs;              // channels filled up to whole vectors
    size_t wide_outputs;             // and to whole blocks of vectors
    ConvPart<T> part[kMaxParts];     // (B, H, W, I) in pieces
    size_t parts;
    const T *gain, *base;            // (I) of a group norm in front, or null
    size_t groups;
    double eps;
    const T* gate;                   // or a filter along the channels' means, whose sigmoid scales the channels
    size_t gate_taps;
    bool silu;                       // after that
    const T *weight, *bias;          // packed; (wide O)
    const T* shift;                  // (B, O) to be added, or null
    const T* skip;                   // (B, H, W, O) to be added, or null
    T* out;
    T *scale, *offset;               // (B, wide I): the norm or the gate of each picture
    T* padded;                       // (B, tile down + 2, tile across + 2, wide I): what is convolved
    size_t first, tiles;             // which tiles the last three stages work on
    T *values, *products;            // (points, these tiles, wide channels)
    size_t values_stride, products_stride;   // of a point
};

template <class T>
using ConvStage = void (*)(const ConvJob<T>& job, size_t begin, size_t end);

template <class T>
struct ConvKernels {
    const char* name;
    size_t lanes;            // channels of a vector
    size_t block;            // outputs that are computed at once; weights are packed (point, block, input, output)
    ConvStage<T> measure;    // pictures: scale, offset
    ConvStage<T> activate;   // rows of `padded`
    ConvStage<T> transform;  // tiles, from `first` on: values
    ConvStage<T> multiply;   // points times blocks: products
    ConvStage<T> finish;     // tiles, from `first` on: out
};

}  // namespace cbench
