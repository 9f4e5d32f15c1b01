// Convolutions: choice of the tile, packed weights, and the order of the stages.
#include "conv.hpp"

#include <algorithm>
#include <cstring>

#include "../simd/kernels.hpp"

namespace cbench {

extern const ConvKernels<float> kConvFloatPortable;
extern const ConvKernels<double> kConvDoublePortable;
#if defined(__x86_64__)
extern const ConvKernels<float> kConvFloatAvx2, kConvFloatAvx512;
extern const ConvKernels<double> kConvDoubleAvx2, kConvDoubleAvx512;
#endif

namespace {

constexpr size_t kLargePicture = 256;   // pixels from which on tiles of 4 x 4 pay for their larger weights
constexpr size_t kTilesAtOnce = 64;     // so many stay in cache
constexpr size_t kWorthSharing = size_t{1} << 19;   // products, fewer than that are done sooner than threads wake up
constexpr size_t kLineBytes = 64;

// Weights -> values at the points.
constexpr double kWeights4[6][3] = {{1, 0, 0},           {1. / 3, 1. / 3, 1. / 3},  {-1. / 3, 1. / 3, -1. / 3},
                                    {-16. / 15, -8. / 15, -4. / 15}, {1. / 15, -2. / 15, 4. / 15}, {0, 0, 1}};
constexpr double kWeights2[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};

template <class T>
const ConvKernels<T>& chosen() {
    constexpr bool kFloat = sizeof(T) == sizeof(float);
    const auto pick = [](const auto& f, const auto& d) -> const ConvKernels<T>& {
        if constexpr (kFloat) return f;
        else return d;
    };
#if defined(__x86_64__)
    const char* name = kernels().name;
    if (!std::strcmp(name, "avx512")) return pick(kConvFloatAvx512, kConvDoubleAvx512);
    if (!std::strcmp(name, "avx2") && __builtin_cpu_supports("fma")) return pick(kConvFloatAvx2, kConvDoubleAvx2);
#endif
    return pick(kConvFloatPortable, kConvDoublePortable);
}

constexpr size_t rounded_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

template <class T>
Convolution<T>::Convolution(const double* weight, const double* bias, size_t outputs, size_t inputs, size_t side,
                            ConvFront<T> front)
    : kernels_(chosen<T>()), outputs_(outputs), inputs_(inputs), side_(side),
      wide_outputs_(rounded_up(outputs, kernels_.block)), front_(std::move(front)),
      weight_(weight, weight + outputs * inputs * side * side), bias_(wide_outputs_) {
    std::fill_n(std::copy(bias, bias + outputs, bias_.data()), wide_outputs_ - outputs, T(0));
}

template <class T>
Lines<T> Convolution<T>::pack(int tile) const {
    const size_t window = window_of(tile), points = window * window, block = kernels_.block;
    const auto weights = tile == 4 ? kWeights4 : kWeights2;
    Lines<T> out(points * inputs_ * wide_outputs_);
    std::fill_n(out.data(), out.size(), T(0));
    for (size_t o = 0; o < outputs_; ++o)
        for (size_t i = 0; i < inputs_; ++i) {
            const T* tap = weight_.data() + (o * inputs_ + i) * side_ * side_;
            for (size_t p = 0; p < points; ++p) {
                double value = tap[0];
                if (tile > 1) {
                    const double *down = weights[p / window], *across = weights[p % window];
                    value = 0;
                    for (size_t a = 0; a < 3; ++a)
                        for (size_t b = 0; b < 3; ++b)
                            value += down[a] * across[b] * static_cast<double>(tap[3 * a + b]);
                }
                out.data()[(p * wide_outputs_ / block + o / block) * inputs_ * block + i * block + o % block] =
                    static_cast<T>(value);
            }
        }
    return out;
}

template <class T>
const T* Convolution<T>::packed(int tile) const {
    std::lock_guard<std::mutex> lock(packing_);
    Lines<T>& own = packed_[tile == 4];
    if (!own.size()) own = pack(tile);
    return own.data();
}

template <class T>
void Convolution<T>::run(ConvCrew& crew, const ConvCall<T>& call) const {
    std::lock_guard<std::mutex> lock(crew.busy);
    ConvJob<T> job{};
    job.height = call.height;
    job.width = call.width;
    job.inputs = inputs_;
    job.outputs = outputs_;
    job.tile = side_ == 1 ? 1 : call.height * call.width >= kLargePicture ? 4 : 2;
    job.down = rounded_up(call.height, job.tile) / job.tile;
    job.across = rounded_up(call.width, job.tile) / job.tile;
    job.wide_inputs = rounded_up(inputs_, kernels_.lanes);
    job.wide_outputs = wide_outputs_;
    if (!front_.gain.empty()) {
        job.gain = front_.gain.data();
        job.base = front_.base.data();
        job.groups = front_.groups;
        job.eps = front_.eps;
    }
    if (!front_.gate.empty()) job.gate = front_.gate.data();
    job.gate_taps = front_.gate.size();
    job.silu = front_.silu;
    job.parts = call.parts.size();
    job.weight = packed(job.tile);
    job.bias = bias_.data();
    const size_t window = window_of(job.tile), area = call.height * call.width;
    const size_t at_once = std::max<size_t>(1, kTilesAtOnce / (job.down * job.across));
    for (size_t p = 0; p < call.pictures; p += at_once) {
        job.pictures = std::min(at_once, call.pictures - p);
        for (size_t i = 0; i < job.parts; ++i)
            job.part[i] = {call.parts[i].x + p * area * call.parts[i].channels, call.parts[i].channels};
        job.out = call.out + p * area * outputs_;
        job.shift = call.shift ? call.shift + p * outputs_ : nullptr;
        job.skip = call.skip ? call.skip + p * area * outputs_ : nullptr;
        run_some(crew, job, window * window);
    }
}

template <class T>
void Convolution<T>::run_some(ConvCrew& crew, ConvJob<T>& job, size_t points) const {
    const size_t margin = job.tile > 1 ? 2 : 0, all = job.pictures * job.down * job.across;
    const size_t at_once = job.tile == 1 ? all : std::min(all, kTilesAtOnce);
    const size_t rows = job.tile * job.down + margin, columns = job.tile * job.across + margin;
    const size_t line = kLineBytes / sizeof(T), channels = rounded_up(job.pictures * job.wide_inputs, line);
    // One line more than the rows of a point: else those of all points would compete for the same places in the cache.
    job.values_stride = at_once * job.wide_inputs + line;
    job.products_stride = at_once * job.wide_outputs + line;
    const size_t sizes[] = {channels, channels, rounded_up(job.pictures * rows * columns * job.wide_inputs, line),
                            job.tile == 1 ? 0 : rounded_up(points * job.values_stride, line),
                            points * job.products_stride};
    size_t total = 0;
    for (const size_t size : sizes) total += size * sizeof(T);
    if (crew.memory.size() < total) crew.memory = Lines<char>(total);
    T* at = reinterpret_cast<T*>(crew.memory.data());
    T** const parts[] = {&job.scale, &job.offset, &job.padded, &job.values, &job.products};
    for (size_t i = 0; i < 5; ++i) {
        *parts[i] = at;
        at += sizes[i];
    }
    if (job.tile == 1) job.values = job.padded;
    const bool alone = points * all * job.wide_inputs * job.wide_outputs < kWorthSharing;
    const auto in_parts = [&](ConvStage<T> stage, size_t count) {
        if (alone) return stage(job, 0, count);
        crew.crew.run([&](int i) { stage(job, count * i / crew.crew.size(), count * (i + 1) / crew.crew.size()); });
    };
    if (job.gain || job.gate) in_parts(kernels_.measure, job.pictures);
    in_parts(kernels_.activate, job.pictures * rows);
    for (job.first = 0; job.first < all; job.first += at_once) {
        job.tiles = std::min(at_once, all - job.first);
        in_parts(kernels_.transform, job.tiles);
        in_parts(kernels_.multiply, points * (job.wide_outputs / kernels_.block));
        in_parts(kernels_.finish, job.tiles);
    }
}

template class Convolution<float>;
template class Convolution<double>;

}  // namespace cbench
