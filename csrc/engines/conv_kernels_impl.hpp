// The stages of a convolution, compiled once for each instruction set; all of it has internal linkage.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "conv_kernels.hpp"
#include "conv_lanes.hpp"

namespace cbench {
namespace {

// Matrices from inputs to values at points, and from there to outputs. For tiles of 4: 0, 1, -1, 1/2, -2 and infinity,
// which round no worse than an ordinary convolution; of 2: 0, 1, -1 and infinity.
template <int Tile>
struct Points;
template <>
struct Points<4> {
    static constexpr double kInput[6][6] = {{1, -1.5, -2, 1.5, 1, 0}, {0, -1, .5, 2.5, 1, 0}, {0, 1, -2.5, .5, 1, 0},
                                            {0, -2, -1, 2, 1, 0},     {0, .5, -1, -.5, 1, 0}, {0, 1, -1.5, -2, 1.5, 1}};
    static constexpr double kOutput[4][6] = {
        {1, 1, 1, 1, 1, 0}, {0, 1, -1, .5, -2, 0}, {0, 1, 1, .25, 4, 0}, {0, 1, -1, .125, -8, 1}};
};
template <>
struct Points<2> {
    static constexpr double kInput[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
    static constexpr double kOutput[2][4] = {{1, 1, 1, 0}, {0, 1, -1, 1}};
};
template <>
struct Points<1> {
    static constexpr double kInput[1][1] = {{1}};
    static constexpr double kOutput[1][1] = {{1}};
};

// to[i] = sum over j of matrix[i][j] from[j], without the zeros.
template <int Rows, int Columns, class Vec>
CBENCH_INLINE void apply(const double (&matrix)[Rows][Columns], const Vec* from, size_t step, Vec* to, size_t to_step) {
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
        Vec sum{};
        bool first = true;
#pragma GCC unroll 8
        for (int j = 0; j < Columns; ++j) {
            if (matrix[i][j] == 0) continue;
            const Vec term = from[j * step];
            sum = first ? term * fill<Vec>(matrix[i][j]) : fused(term, fill<Vec>(matrix[i][j]), sum);
            first = false;
        }
        to[i * to_step] = sum;
    }
}

template <class T>
struct Stages {
    using Vec = typename Lanes<T>::Vec;
    using Job = ConvJob<T>;
    static constexpr size_t kLane = Lanes<T>::kCount, kColumns = 2;
    static constexpr int kRows = kWideRegisters ? 8 : 4;

    static Vec some(const T* from, size_t count) {
        if (count >= kLane) return load<T>(from);
        Vec v{};
        std::memcpy(&v, from, count * sizeof(T));
        return v;
    }
    static void put(T* to, size_t count, Vec v) {
        if (count >= kLane) store<T>(to, v);
        else std::memcpy(to, &v, count * sizeof(T));
    }

    // Calls work(a part from that pixel on, its channels, its first channel in the whole).
    template <class Do>
    static void each_part(const Job& job, size_t pixel, Do&& work) {
        size_t first = 0;
        for (size_t i = 0; i < job.parts; ++i) {
            work(job.part[i].x + pixel * job.part[i].channels, job.part[i].channels, first);
            first += job.part[i].channels;
        }
    }

    // What the channels of each picture are multiplied with, and what is added then.
    static void measure(const Job& job, size_t begin, size_t end) {
        for (size_t p = begin; p < end; ++p) {
            T *scale = job.scale + p * job.wide_inputs, *offset = job.offset + p * job.wide_inputs;
            std::memset(offset, 0, job.wide_inputs * sizeof(T));
            add_up(job, p, offset, scale);
            if (job.gain) norm(job, p, scale, offset);
            else gate(job, scale);
        }
    }

    // Group norm. Means first, then squares of differences: safe where the mean is large.
    static void norm(const Job& job, size_t picture, T* scale, T* offset) {
        const size_t per = job.inputs / job.groups;
        const double count = static_cast<double>(job.height * job.width * per);
        const auto mean_of = [&](size_t g) {
            double sum = 0;
            for (size_t c = g * per; c < (g + 1) * per; ++c) sum += scale[c];
            return sum / count;
        };
        for (size_t g = 0; g < job.groups; ++g) std::fill_n(offset + g * per, per, static_cast<T>(mean_of(g)));
        add_up<true>(job, picture, offset, scale);
        for (size_t g = 0; g < job.groups; ++g) {
            const double spread = 1 / std::sqrt(mean_of(g) + job.eps);
            for (size_t c = g * per; c < (g + 1) * per; ++c) {
                scale[c] = static_cast<T>(job.gain[c] * spread);
                offset[c] = job.base[c] - offset[c] * scale[c];
            }
        }
    }

    static void gate(const Job& job, T* scale) {
        const size_t half = job.gate_taps / 2, area = job.height * job.width;
        T before[kMaxTaps] = {};   // sums of the channels before the next, which overwrites its own
        for (size_t c = 0; c < job.inputs; ++c) {
            double sum = 0;
            for (size_t k = 0; k < job.gate_taps; ++k) {
                if (k < half) sum += job.gate[k] * before[(c + k + kMaxTaps - half) % kMaxTaps];
                else if (c + k - half < job.inputs) sum += job.gate[k] * scale[c + k - half];
            }
            before[c % kMaxTaps] = scale[c];
            scale[c] = static_cast<T>(1 / (1 + std::exp(-sum / static_cast<double>(area))));
        }
    }

    // Sums of a picture's channels, or of the squares of what they differ from `mean`.
    template <bool Squares = false>
    static void add_up(const Job& job, size_t picture, const T* mean, T* sums) {
        const size_t area = job.height * job.width;
        each_part(job, picture * area, [&](const T* x, size_t channels, size_t first) {
            for (size_t c = 0; c < channels; c += kLane) {
                const Vec middle = some(mean + first + c, channels - c);
                Vec sum[4] = {};
                for (size_t at = 0; at < area; at += 4)
#pragma GCC unroll 4
                    for (size_t k = 0; k < 4; ++k) {
                        if (at + k >= area) continue;
                        const Vec v = some(x + (at + k) * channels + c, channels - c) - middle;
                        sum[k] = Squares ? fused(v, v, sum[k]) : sum[k] + v;
                    }
                put(sums + first + c, channels - c, (sum[0] + sum[1]) + (sum[2] + sum[3]));
            }
        });
    }

    static void activate(const Job& job, size_t begin, size_t end) {
        const size_t margin = job.tile > 1, tile = static_cast<size_t>(job.tile), wide = job.wide_inputs;
        const size_t rows = tile * job.down + 2 * margin, columns = tile * job.across + 2 * margin;
        for (size_t r = begin; r < end; ++r) {
            const size_t p = r / rows, y = r % rows - margin;
            T* to = job.padded + r * columns * wide;
            if (y >= job.height) {   // also above the picture, where y wraps around
                std::memset(to, 0, columns * wide * sizeof(T));
                continue;
            }
            std::memset(to, 0, margin * wide * sizeof(T));
            to += margin * wide;
            for (size_t x = 0; x < job.width; ++x, to += wide) pixel(job, p, (p * job.height + y) * job.width + x, to);
            std::memset(to, 0, (columns - margin - job.width) * wide * sizeof(T));
        }
    }

    static void pixel(const Job& job, size_t picture, size_t at, T* to) {
        const T *scale = job.scale + picture * job.wide_inputs, *offset = job.offset + picture * job.wide_inputs;
        std::memset(to + job.inputs, 0, (job.wide_inputs - job.inputs) * sizeof(T));
        each_part(job, at, [&](const T* x, size_t channels, size_t first) {
            for (size_t c = 0; c < channels; c += kLane) {
                const size_t left = channels - c, o = first + c;
                Vec v = some(x + c, left);
                if (job.gain || job.gate) v = fused(v, some(scale + o, left), some(offset + o, left));
                if (job.silu) v = v / (fill<Vec>(1) + exponential(-v));
                put(to + o, left, v);
            }
        });
    }

    template <int Tile>
    static void transform_tiles(const Job& job, size_t begin, size_t end) {
        constexpr int kWindow = window_of(Tile);
        const size_t columns = Tile * job.across + kWindow - Tile, rows = Tile * job.down + kWindow - Tile;
        const size_t wide = job.wide_inputs;
        for (size_t own = begin; own < end; ++own) {
            const size_t t = job.first + own, p = t / (job.down * job.across);
            const size_t y = t / job.across % job.down, x = t % job.across;
            const T* from = job.padded + ((p * rows + y * Tile) * columns + x * Tile) * wide;
            for (size_t c = 0; c < wide; c += kLane) {
                Vec in[kWindow][kWindow], half[kWindow][kWindow], out[kWindow];
#pragma GCC unroll 8
                for (int i = 0; i < kWindow; ++i)
#pragma GCC unroll 8
                    for (int j = 0; j < kWindow; ++j) in[i][j] = load<T>(from + (i * columns + j) * wide + c);
#pragma GCC unroll 8
                for (int j = 0; j < kWindow; ++j) apply(Points<Tile>::kInput, &in[0][j], kWindow, &half[0][j], kWindow);
#pragma GCC unroll 8
                for (int i = 0; i < kWindow; ++i) {
                    apply(Points<Tile>::kInput, half[i], 1, out, 1);
#pragma GCC unroll 8
                    for (int j = 0; j < kWindow; ++j)
                        store<T>(job.values + (i * kWindow + j) * job.values_stride + own * wide + c, out[j]);
                }
            }
        }
    }

    static void transform(const Job& job, size_t begin, size_t end) {
        if (job.tile == 4) transform_tiles<4>(job, begin, end);
        else if (job.tile == 2) transform_tiles<2>(job, begin, end);
    }   // values of filters of one tap are what is convolved

    template <int Rows>
    static void rows(const T* in, size_t wide, const T* weight, size_t inputs, T* out, size_t step) {
        Vec sum[Rows][kColumns] = {};
        for (size_t c = 0; c < inputs; ++c, weight += kColumns * kLane) {
            const Vec left = load<T>(weight), right = load<T>(weight + kLane);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
                const Vec v = fill<Vec>(in[r * wide + c]);
                sum[r][0] = fused(v, left, sum[r][0]);
                sum[r][1] = fused(v, right, sum[r][1]);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            store<T>(out + r * step, sum[r][0]);
            store<T>(out + r * step + kLane, sum[r][1]);
        }
    }

    static void multiply(const Job& job, size_t begin, size_t end) {
        constexpr size_t kBlock = kColumns * kLane;
        const size_t blocks = job.wide_outputs / kBlock;
        for (size_t at = begin; at < end; ++at) {
            const size_t wide = job.wide_inputs, step = job.wide_outputs;
            const T* weight = job.weight + at * job.inputs * kBlock;
            const T* in = job.values + at / blocks * job.values_stride;
            T* out = job.products + at / blocks * job.products_stride + at % blocks * kBlock;
            size_t t = 0;
            const auto some_rows = [&](auto rows_of, size_t count) {
                for (; t + count <= job.tiles; t += count)
                    rows_of(in + t * wide, wide, weight, job.inputs, out + t * step, step);
            };
            some_rows(rows<kRows>, kRows);
            some_rows(rows<4>, 4);
            some_rows(rows<1>, 1);
        }
    }

    template <int Tile>
    static void finish_tiles(const Job& job, size_t begin, size_t end) {
        constexpr int kWindow = window_of(Tile);
        for (size_t own = begin; own < end; ++own) {
            const size_t t = job.first + own, p = t / (job.down * job.across);
            const size_t y = t / job.across % job.down * Tile, x = t % job.across * Tile;
            for (size_t o = 0; o < job.outputs; o += kLane) {
                const T* from = job.products + own * job.wide_outputs + o;
                Vec in[kWindow][kWindow], half[Tile][kWindow], out[Tile];
#pragma GCC unroll 8
                for (int i = 0; i < kWindow; ++i)
#pragma GCC unroll 8
                    for (int j = 0; j < kWindow; ++j)
                        in[i][j] = load<T>(from + (i * kWindow + j) * job.products_stride);
#pragma GCC unroll 8
                for (int j = 0; j < kWindow; ++j)
                    apply(Points<Tile>::kOutput, &in[0][j], kWindow, &half[0][j], kWindow);
                Vec add = load<T>(job.bias + o);
                if (job.shift) add = add + some(job.shift + p * job.outputs + o, job.outputs - o);
                for (size_t i = 0; i < Tile && y + i < job.height; ++i) {
                    apply(Points<Tile>::kOutput, half[i], 1, out, 1);
                    for (size_t j = 0; j < Tile && x + j < job.width; ++j)
                        place(job, (p * job.height + y + i) * job.width + x + j, o, out[j] + add);
                }
            }
        }
    }

    static void place(const Job& job, size_t pixel, size_t output, Vec v) {
        const size_t at = pixel * job.outputs + output, count = job.outputs - output;
        if (job.skip) v = v + some(job.skip + at, count);
        put(job.out + at, count, v);
    }

    static void finish(const Job& job, size_t begin, size_t end) {
        if (job.tile == 4) finish_tiles<4>(job, begin, end);
        else if (job.tile == 2) finish_tiles<2>(job, begin, end);
        else finish_tiles<1>(job, begin, end);
    }

    static constexpr ConvKernels<T> table(const char* name) {
        return {name, kLane, kColumns * kLane, measure, activate, transform, multiply, finish};
    }
};

}  // namespace
}  // namespace cbench
