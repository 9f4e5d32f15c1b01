// Source of all LineRWKV kernels, included by one file for every instruction set after it has defined LINERWKV_NAME.
// Nothing here may have external linkage or call library functions that are inlined (see linerwkv_kernels.hpp).
#pragma once
#include "linerwkv_kernels.hpp"
#include "linerwkv_lanes.hpp"
#include "linerwkv_products.hpp"
#include "linerwkv_wkv.hpp"

namespace cbench {
namespace {

// out = LayerNorm over features, then GELU if asked for; out may be x.
template <bool kGelu>
void normalise(const Norm& norm, const float* x, float* out, int features, int width) {
    const float share = 1.0f / static_cast<float>(features);
    const size_t w = width;
    for (int c = 0; c < width; c += kLanes) {
        F32 sum = {}, squares = {};
        for (int f = 0; f < features; ++f) sum = sum + load<F32>(x + f * w + c);
        const F32 mean = sum * share;
        for (int f = 0; f < features; ++f) {
            const F32 d = load<F32>(x + f * w + c) - mean;
            squares = squares + d * d;
        }
        const F32 scale = 1.0f / root(squares * share + 1e-5f);
        for (int f = 0; f < features; ++f) {
            const F32 y = (load<F32>(x + f * w + c) - mean) * scale * norm.gain[f] + norm.bias[f];
            store(out + f * w + c, kGelu ? gelu(y) : y);
        }
    }
}

// e^x for x <= 0; with integers, the weights have made it a power of two.
template <bool kIntegers>
LINERWKV_INLINE F32 weight(F32 x) {
    return kIntegers ? power_of_two(x) : exponential(x);
}

// y = sigmoid(r) wkv(k, v); the state moves on. y may be r. With integers, r is -r log2(e).
template <bool kIntegers>
void attend(const BlockParams& b, int features, const float* k, const float* v, const float* r, float* aa, float* bb,
            float* pp, float* y, int width) {
    for (int f = 0; f < features; ++f) {
        const F32 decay = all<F32>(b.decay[f]), first = all<F32>(b.first[f]);
        for (int c = 0; c < width; c += kLanes) {
            const size_t at = static_cast<size_t>(f) * width + c;
            const F32 key = load<F32>(k + at), value = load<F32>(v + at), gate = load<F32>(r + at);
            const F32 a = load<F32>(aa + at), s = load<F32>(bb + at), p = load<F32>(pp + at);
            // Of the two weights e^(p - max) and e^(q - max) one is 1: a single exponential gives both.
            F32 q = first + key, gap = p - q;
            F32 e = weight<kIntegers>(gap > F32{} ? -gap : gap);
            const F32 one = all<F32>(1.0f);
            F32 old = gap > F32{} ? one : e, now = gap > F32{} ? e : one;
            const F32 sum = old * a + now * value, weights = old * s + now;
            store(y + at, kIntegers ? sum / (weights * (one + power_of_two(gate))) : sigmoid(gate) * (sum / weights));
            q = p + decay;
            gap = q - key;
            e = weight<kIntegers>(gap > F32{} ? -gap : gap);
            old = gap > F32{} ? one : e;
            now = gap > F32{} ? e : one;
            store(aa + at, old * a + now * value);
            store(bb + at, old * s + now);
            store(pp + at, gap > F32{} ? q : key);
        }
    }
}

template <bool kIntegers>
void step(const BlockParams& b, int features, float* z, float* state, int width, float* work) {
    const size_t n = static_cast<size_t>(features) * width;
    float *x0 = work, *x1 = work + n, *x2 = work + 2 * n, *y0 = work + 3 * n, *y1 = work + 4 * n;
    float *att = state, *ffn = state + n, *aa = state + 2 * n, *bb = state + 3 * n, *pp = state + 4 * n;
    float* const inputs[] = {x0, x1, x2};
    if (b.has_ln0) normalise<false>(b.ln0, z, z, features, width);

    normalise<false>(b.ln1, z, y0, features, width);
    const Mix* const time[] = {&b.att_k, &b.att_v, &b.att_r};
    shift<kIntegers>(time, 3, y0, att, inputs, features, width);
    linear(b.key, x0, width, y0, width, width);
    linear(b.value, x1, width, y1, width, width);
    linear(b.receptance, x2, width, x0, width, width);
    attend<kIntegers>(b, features, y0, y1, x0, aa, bb, pp, x1, width);
    product(b.output, x1, z, width, true);

    normalise<false>(b.ln2, z, y0, features, width);
    const Mix* const channel[] = {&b.ffn_k, &b.ffn_r};
    shift<kIntegers>(channel, 2, y0, ffn, inputs, features, width);
    linear(b.ffn_key, x0, width, y0, width, width);
    linear(b.ffn_receptance, x1, width, y1, width, width);
    for (size_t at = 0; at < n; at += kLanes) {
        const F32 k = load<F32>(y0 + at);
        store(y0 + at, k > F32{} ? k * k : F32{});
    }
    product(b.ffn_value, y0, x0, width);
    for (size_t at = 0; at < n; at += kLanes) {
        const F32 gate = load<F32>(y1 + at), value = load<F32>(x0 + at);
        const F32 change = kIntegers ? value / (1.0f + power_of_two(gate)) : sigmoid(gate) * value;
        store(z + at, load<F32>(z + at) + change);
    }
}

void block_step(const BlockParams& b, int features, float* z, float* state, int width, float* work) {
    (b.key.w ? step<false> : step<true>)(b, features, z, state, width, work);
}

// ---- encoder and decoder --------------------------------------------------------------------------------------------

// The convolutions pad with zeros: activations of columns outside the image are none. x covers columns from `begin`.
void erase_outside(float* x, int features, int begin, int width, int columns) {
    const int left = begin < 0 ? -begin : 0, right = columns - begin < width ? columns - begin : width;
    for (int f = 0; f < features; ++f, x += width) {
        for (int c = 0; c < left; ++c) x[c] = 0;
        for (int c = right; c < width; ++c) x[c] = 0;
    }
}

// Three taps over rows of `stride` columns.
void convolve(const Layer& layer, const float* x, size_t stride, float* y, size_t y_stride, int width) {
    linear(layer.tap[0], x - 1, stride, y, y_stride, width);
    linear(layer.tap[1], x, stride, y, y_stride, width, true);
    linear(layer.tap[2], x + 1, stride, y, y_stride, width, true);
}

// All layers but the last are computed kHalo columns further to both sides. There the outermost columns take their
// neighbours from the rows above and below; each layer carries that nonsense one column inwards, too little to matter.
void encode(const LineParams& net, const float* u, int columns, int first, int width, float* a, float* work) {
    const int more = net.encoder_layers - 1;
    const int begin = more ? first - kHalo : first, full = more ? width + 2 * kHalo : width;
    float* x = more ? work + kHalo : a;
    float* next = work + 2 * kHalo + static_cast<size_t>(net.features) * full;
    for (int f = 0; f < net.features; ++f) {
        const float w0 = net.conv_in[0][f], w1 = net.conv_in[1][f], w2 = net.conv_in[2][f], b = net.conv_in_bias[f];
        for (int c = 0; c < full; c += kLanes) {
            const float* at = u + (begin - first) + c;
            store(x + static_cast<size_t>(f) * full + c,
                  load<F32>(at - 1) * w0 + load<F32>(at) * w1 + load<F32>(at + 1) * w2 + b);
        }
    }
    normalise<true>(net.norm_in, x, x, net.features, full);
    for (int layer = 0; layer < more; ++layer) {
        const Layer& l = net.encoder[layer];
        erase_outside(x, net.features, begin, full, columns);
        quantise(l.tap[0], x, net.features, full);
        if (layer == more - 1) {
            convolve(l, x + kHalo, full, a, width, width);
            normalise<true>(l.norm, a, a, net.features, width);
            return;
        }
        convolve(l, x, full, next, full, full);
        normalise<true>(l.norm, next, next, net.features, full);
        float* swap = x;
        x = next;
        next = swap;
    }
}

void head(const float* w, float bias, const float* x, int features, int width, float* out) {
    for (int c = 0; c < width; c += kLanes) {
        F32 sum = all<F32>(bias);
        for (int f = 0; f < features; ++f) sum = sum + load<F32>(x + static_cast<size_t>(f) * width + c) * w[f];
        store(out + c, sum);
    }
}

void decode(const LineParams& net, const float* x, const float* y, int width, float* out, float* work) {
    const size_t n = static_cast<size_t>(net.features) * width;
    float *in = work, *next = work + n;
    for (size_t at = 0; at < n; at += kLanes)
        store(in + at, y ? load<F32>(x + at) + load<F32>(y + at) : load<F32>(x + at));
    for (int layer = 0; layer < net.decoder_layers - 1; ++layer) {
        product(net.decoder[layer].tap[0], in, next, width);
        normalise<true>(net.decoder[layer].norm, next, next, net.features, width);
        float* swap = in;
        in = next;
        next = swap;
    }
    head(net.out, net.out_bias, in, net.features, width, out);
}

void decode_zero(const LineParams& net, const float* x, int width, float* out) {
    head(net.zero, net.zero_bias, x, net.features, width, out);
}

void subtract(const float* x, const float* y, float* out, size_t n) {
    for (size_t at = 0; at < n; at += kLanes) store(out + at, load<F32>(x + at) - load<F32>(y + at));
}

}  // namespace

#define LINERWKV_TABLE                                                                                             \
    {                                                                                                              \
        LINERWKV_NAME, &encode, &block_step, &decode, &decode_zero, &subtract, &wkv_forward<F32, float>,           \
            &wkv_forward<F64, double>, &wkv_backward<F32, float>, &wkv_backward<F64, double>                       \
    }

}  // namespace cbench
