// Source of all LineRWKV kernels, included by one file for every instruction set after it has defined LINERWKV_NAME.
// Nothing here may have external linkage or call library functions that are inlined (see linerwkv_kernels.hpp).
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "linerwkv_kernels.hpp"

namespace cbench {
namespace {

#if defined(__GNUC__)
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float F32 __attribute__((vector_size(kBytes)));
typedef int32_t I32 __attribute__((vector_size(kBytes)));
typedef double F64 __attribute__((vector_size(kBytes)));
typedef int64_t I64 __attribute__((vector_size(kBytes)));
#define LINERWKV_INLINE inline __attribute__((always_inline))
#else   // one lane: slow, but the same bits
typedef float F32;
typedef int32_t I32;
typedef double F64;
typedef int64_t I64;
#define LINERWKV_INLINE inline
#endif
constexpr int kLanes = sizeof(F32) / sizeof(float);

template <class V, class S>
LINERWKV_INLINE V load(const S* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V, class S>
LINERWKV_INLINE void store(S* p, V v) {
    std::memcpy(p, &v, sizeof v);
}

template <class V, class S>
LINERWKV_INLINE V all(S s) {
    return V{} + s;
}

template <class To, class From>
LINERWKV_INLINE To bits_of(From v) {
    To out;
    static_assert(sizeof out == sizeof v, "same width");
    std::memcpy(&out, &v, sizeof out);
    return out;
}

LINERWKV_INLINE F32 root(F32 x) {
#if defined(__GNUC__) && defined(__AVX512F__)
    return (F32)_mm512_sqrt_ps((__m512)x);
#elif defined(__GNUC__) && defined(__AVX2__)
    return (F32)_mm256_sqrt_ps((__m256)x);
#elif defined(__GNUC__) && defined(__SSE2__)
    return (F32)_mm_sqrt_ps((__m128)x);
#elif defined(__GNUC__) && defined(__aarch64__)
    return (F32)vsqrtq_f32((float32x4_t)x);
#elif defined(__GNUC__)
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
#else
    return sqrtf(x);
#endif
}

// e^x for x <= 80; 0 below -80, so that no denormal number appears.
LINERWKV_INLINE F32 exponential(F32 x) {
    const F32 limit = all<F32>(80.0f);
    x = x > limit ? limit : x;
    const F32 inside = x < -limit ? -limit : x;
    const F32 magic = all<F32>(12582912.0f);   // 1.5 2^23: adding it rounds to an integer
    const F32 shifted = inside * 1.44269504f + magic;
    const F32 n = shifted - magic;
    F32 r = inside - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    F32 p = r * 1.38888889e-3f + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    const I32 power = (bits_of<I32>(shifted) - bits_of<I32>(magic) + 127) << 23;
    return x < -limit ? F32{} : p * bits_of<F32>(power);
}

LINERWKV_INLINE F64 exponential(F64 x) {
    const F64 limit = all<F64>(600.0);
    x = x > limit ? limit : x;
    const F64 inside = x < -limit ? -limit : x;
    const F64 magic = all<F64>(6755399441055744.0);
    const F64 shifted = inside * 1.4426950408889634 + magic;
    const F64 n = shifted - magic;
    F64 r = inside - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    F64 p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r;
    p = p + 1.0;
    const I64 power = (bits_of<I64>(shifted) - bits_of<I64>(magic) + 1023) << 52;
    return x < -limit ? F64{} : p * bits_of<F64>(power);
}

LINERWKV_INLINE F32 sigmoid(F32 x) { return 1.0f / (1.0f + exponential(-x)); }

// x Phi(x); erf is a rational function of its square, within 4e-7.
LINERWKV_INLINE F32 gelu(F32 x) {
    F32 z = x * 0.707106781f;
    const F32 limit = all<F32>(3.92f);
    z = z > limit ? limit : z;
    z = z < -limit ? -limit : z;
    const F32 t = z * z;
    F32 p = t * 2.05011224e-6f + 2.84879963e-4f;
    p = p * t + 3.76548944e-3f;
    p = p * t + 5.27483374e-2f;
    p = p * t + 1.90403476e-1f;
    p = p * t + 1.12837911f;
    F32 q = t * 3.80918282e-5f + 1.16250466e-3f;
    q = q * t + 1.49689633e-2f;
    q = q * t + 1.14107884e-1f;
    q = q * t + 5.02073407e-1f;
    q = q * t + 1.0f;
    return x * 0.5f * (1.0f + z * p / q);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

// `kRows` rows (within one group of 8) for `kVectors` vectors of columns, all in registers.
template <int kRows, int kVectors>
LINERWKV_INLINE void rows_of(const float* w, const float* bias, int cols, const float* x, size_t x_stride, float* y,
                             size_t y_stride, bool add) {
    F32 sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v)
            sum[r][v] = add    ? load<F32>(y + r * y_stride + v * kLanes)
                        : bias ? all<F32>(bias[r])
                               : F32{};
    for (int c = 0; c < cols; ++c, w += 8, x += x_stride) {
        F32 in[kVectors];
        for (int v = 0; v < kVectors; ++v) in[v] = load<F32>(x + v * kLanes);
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] + w[r] * in[v];
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(y + r * y_stride + v * kLanes, sum[r][v]);
}

// Eight rows: at once where there are registers enough, else in two halves.
template <int kVectors>
LINERWKV_INLINE void eight_rows(const float* w, const float* bias, int cols, const float* x, size_t x_stride, float* y,
                                size_t y_stride, bool add) {
    constexpr int kRows = sizeof(F32) == 64 ? 8 : 4;
    for (int r = 0; r < 8; r += kRows)
        rows_of<kRows, kVectors>(w + r, bias ? bias + r : nullptr, cols, x, x_stride, y + r * y_stride, y_stride, add);
}

// y = W x + bias, or y += W x.
void linear(const Linear& layer, const float* x, size_t x_stride, float* y, size_t y_stride, int width,
            bool add = false) {
    for (int row = 0; row < layer.rows; row += 8) {
        const float* w = layer.w + static_cast<size_t>(row) * layer.cols;
        const float* bias = layer.bias ? layer.bias + row : nullptr;
        float* out = y + row * y_stride;
        int c = 0;
        for (; c + 2 * kLanes <= width; c += 2 * kLanes)
            eight_rows<2>(w, bias, layer.cols, x + c, x_stride, out + c, y_stride, add);
        for (; c < width; c += kLanes)
            eight_rows<1>(w, bias, layer.cols, x + c, x_stride, out + c, y_stride, add);
    }
}

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

LINERWKV_INLINE void mix(const Mix& m, int f, F32 now, F32 before, float* out) {
    store(out, now * m.now[f] + before * m.before[f]);
}

// y = sigmoid(r) wkv(k, v); the state moves on. y may be r.
void attend(const BlockParams& b, int features, const float* k, const float* v, const float* r, float* aa, float* bb,
            float* pp, float* y, int width) {
    for (int f = 0; f < features; ++f) {
        const F32 decay = all<F32>(b.decay[f]), first = all<F32>(b.first[f]);
        for (int c = 0; c < width; c += kLanes) {
            const size_t at = static_cast<size_t>(f) * width + c;
            const F32 key = load<F32>(k + at), value = load<F32>(v + at);
            const F32 a = load<F32>(aa + at), s = load<F32>(bb + at), p = load<F32>(pp + at);
            // Of the two weights e^(p - max) and e^(q - max) one is 1: a single exponential gives both.
            F32 q = first + key, gap = p - q;
            F32 e = exponential(gap > F32{} ? -gap : gap);
            const F32 one = all<F32>(1.0f);
            F32 old = gap > F32{} ? one : e, now = gap > F32{} ? e : one;
            const F32 mean = (old * a + now * value) / (old * s + now);
            store(y + at, sigmoid(load<F32>(r + at)) * mean);
            q = p + decay;
            gap = q - key;
            e = exponential(gap > F32{} ? -gap : gap);
            old = gap > F32{} ? one : e;
            now = gap > F32{} ? e : one;
            store(aa + at, old * a + now * value);
            store(bb + at, old * s + now);
            store(pp + at, gap > F32{} ? q : key);
        }
    }
}

void block_step(const BlockParams& b, int features, float* z, float* state, int width, float* work) {
    const size_t n = static_cast<size_t>(features) * width;
    float *x0 = work, *x1 = work + n, *x2 = work + 2 * n, *y0 = work + 3 * n, *y1 = work + 4 * n;
    float *att = state, *ffn = state + n, *aa = state + 2 * n, *bb = state + 3 * n, *pp = state + 4 * n;
    if (b.has_ln0) normalise<false>(b.ln0, z, z, features, width);

    normalise<false>(b.ln1, z, y0, features, width);
    for (int f = 0; f < features; ++f)
        for (int c = 0; c < width; c += kLanes) {
            const size_t at = static_cast<size_t>(f) * width + c;
            const F32 now = load<F32>(y0 + at), before = load<F32>(att + at);
            mix(b.att_k, f, now, before, x0 + at);
            mix(b.att_v, f, now, before, x1 + at);
            mix(b.att_r, f, now, before, x2 + at);
            store(att + at, now);
        }
    linear(b.key, x0, width, y0, width, width);
    linear(b.value, x1, width, y1, width, width);
    linear(b.receptance, x2, width, x0, width, width);
    attend(b, features, y0, y1, x0, aa, bb, pp, x1, width);
    linear(b.output, x1, width, z, width, width, true);

    normalise<false>(b.ln2, z, y0, features, width);
    for (int f = 0; f < features; ++f)
        for (int c = 0; c < width; c += kLanes) {
            const size_t at = static_cast<size_t>(f) * width + c;
            const F32 now = load<F32>(y0 + at), before = load<F32>(ffn + at);
            mix(b.ffn_k, f, now, before, x0 + at);
            mix(b.ffn_r, f, now, before, x1 + at);
            store(ffn + at, now);
        }
    linear(b.ffn_key, x0, width, y0, width, width);
    linear(b.ffn_receptance, x1, width, y1, width, width);
    for (size_t at = 0; at < n; at += kLanes) {
        const F32 k = load<F32>(y0 + at);
        store(y0 + at, k > F32{} ? k * k : F32{});
    }
    linear(b.ffn_value, y0, width, x0, width, width);
    for (size_t at = 0; at < n; at += kLanes)
        store(z + at, load<F32>(z + at) + sigmoid(load<F32>(y1 + at)) * load<F32>(x0 + at));
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
            const float* at = u + begin + c;
            store(x + static_cast<size_t>(f) * full + c,
                  load<F32>(at - 1) * w0 + load<F32>(at) * w1 + load<F32>(at + 1) * w2 + b);
        }
    }
    normalise<true>(net.norm_in, x, x, net.features, full);
    for (int layer = 0; layer < more; ++layer) {
        const Layer& l = net.encoder[layer];
        erase_outside(x, net.features, begin, full, columns);
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
        linear(net.decoder[layer].tap[0], in, width, next, width, width);
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

// ---- wkv of whole sequences, for training ---------------------------------------------------------------------------

// Up to one vector of channels at a time; a last one that is not full goes through copies padded with zeros.
template <class V, class S>
struct Channels {
    static constexpr int kWidth = sizeof(V) / sizeof(S);
    int steps, channels, first, count;

    V read(const S* x, int t) const {
        const S* at = x + static_cast<size_t>(t) * channels + first;
        if (count == kWidth) return load<V>(at);
        V v = {};
        std::memcpy(&v, at, count * sizeof(S));
        return v;
    }

    void write(S* x, int t, V v) const {
        std::memcpy(x + static_cast<size_t>(t) * channels + first, &v, count * sizeof(S));
    }
};

template <class V>
LINERWKV_INLINE V larger(V a, V b) {
    return a > b ? a : b;
}

template <class V, class S>
void wkv_forward(const S* decay, const S* first, const S* k, const S* v, S* y, int steps, int channels) {
    constexpr int kWidth = Channels<V, S>::kWidth;
    for (int c = 0; c < channels; c += kWidth) {
        const Channels<V, S> part{steps, channels, c, channels - c < kWidth ? channels - c : kWidth};
        const V w = -exponential(part.read(decay, 0)), f = part.read(first, 0);
        V aa = {}, bb = {}, pp = all<V>(static_cast<S>(kEmptyExponent));
        for (int t = 0; t < steps; ++t) {
            const V key = part.read(k, t), value = part.read(v, t);
            V p = larger<V>(pp, f + key), old = exponential(pp - p), now = exponential(f + key - p);
            part.write(y, t, (old * aa + now * value) / (old * bb + now));
            p = larger<V>(pp + w, key);
            old = exponential(pp + w - p);
            now = exponential(key - p);
            aa = old * aa + now * value;
            bb = old * bb + now;
            pp = p;
        }
    }
}

// Adjoints ga, gb of the state before step t, both times e^qq: ga_t = e^w ga_{t+1} + gy/D, gb_t = e^w gb_{t+1} - gy y/D
// with D the denominator of y_t. The states are those of the forward pass, run once more.
template <class V, class S>
void wkv_backward(const S* decay, const S* first, const S* k, const S* v, const S* gy, S* g_decay, S* g_first, S* gk,
                  S* gv, int steps, int channels, S* scratch) {
    constexpr int kWidth = Channels<V, S>::kWidth;
    const auto kept = [&](int part, int t) { return scratch + (static_cast<size_t>(part) * steps + t) * kWidth; };
    for (int c = 0; c < channels; c += kWidth) {
        const Channels<V, S> part{steps, channels, c, channels - c < kWidth ? channels - c : kWidth};
        const V w = -exponential(part.read(decay, 0)), f = part.read(first, 0);
        V aa = {}, bb = {}, pp = all<V>(static_cast<S>(kEmptyExponent));
        for (int t = 0; t < steps; ++t) {
            store(kept(0, t), aa);
            store(kept(1, t), bb);
            store(kept(2, t), pp);
            const V key = part.read(k, t), value = part.read(v, t), p = larger<V>(pp + w, key);
            const V old = exponential(pp + w - p), now = exponential(key - p);
            aa = old * aa + now * value;
            bb = old * bb + now;
            pp = p;
        }
        V ga = {}, gb = {}, qq = all<V>(static_cast<S>(kEmptyExponent)), gw = {}, gf = {};
        for (int t = steps - 1; t >= 0; --t) {
            aa = load<V>(kept(0, t));
            bb = load<V>(kept(1, t));
            pp = load<V>(kept(2, t));
            const V key = part.read(k, t), value = part.read(v, t), g = part.read(gy, t);
            const V p = larger<V>(pp, f + key), old = exponential(pp - p), now = exponential(f + key - p);
            const V den = old * bb + now, y = (old * aa + now * value) / den;
            const V direct = now * g / den, carried = exponential(key + qq);
            const V bonus = direct * (value - y);
            part.write(gv, t, direct + carried * ga);
            part.write(gk, t, bonus + carried * (ga * value + gb));
            gf = gf + bonus;
            gw = gw + exponential(w + qq + pp) * (ga * aa + gb * bb);
            const V next = larger<V>(w + qq, -p), decayed = exponential(w + qq - next), fresh = exponential(-p - next);
            ga = decayed * ga + fresh * g / den;
            gb = decayed * gb - fresh * g * y / den;
            qq = next;
        }
        part.write(g_decay, 0, gw * w);
        part.write(g_first, 0, gf);
    }
}

}  // namespace

#define LINERWKV_TABLE                                                                                             \
    {                                                                                                              \
        LINERWKV_NAME, &encode, &block_step, &decode, &decode_zero, &subtract, &wkv_forward<F32, float>,           \
            &wkv_forward<F64, double>, &wkv_backward<F32, float>, &wkv_backward<F64, double>                       \
    }

}  // namespace cbench
