// Convolutions of 3 x 3 or 1 x 1 with what stands between them: group norm and SiLU in front, sums behind.
#pragma once
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "conv_kernels.hpp"
#include "crew.hpp"

namespace cbench {

// Memory that begins on a cache line. Not initialised.
template <class T>
class Lines {
public:
    explicit Lines(size_t size = 0)
        : data_(size ? static_cast<T*>(::operator new[](size * sizeof(T), kLine)) : nullptr), size_(size) {}
    T* data() const { return data_.get(); }
    size_t size() const { return size_; }

private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(T* p) const { ::operator delete[](p, kLine); }
    };
    std::unique_ptr<T, Free> data_;
    size_t size_;
};

// The threads and the memory that the convolutions of a network share; one convolution at a time.
struct ConvCrew {
    explicit ConvCrew(int threads) : crew(threads) {}
    std::mutex busy;
    Crew crew;
    Lines<char> memory;
};

// What happens to the channels before they are convolved: a norm or a gate or neither, then perhaps SiLU.
template <class T>
struct ConvFront {
    std::vector<T> gain, base;   // of each channel
    size_t groups = 0;           // of the norm
    double eps = 0;
    std::vector<T> gate;         // a filter along the channels' means
    bool silu = false;
};

// What a convolution is called with: pictures (B, H, W, channels).
template <class T>
struct ConvCall {
    size_t pictures, height, width;
    std::vector<ConvPart<T>> parts;
    const T *shift, *skip;   // shift (B, O) and skip (B, H, W, O) are added to the result, unless null
    T* out;
};

template <class T>
class Convolution {
public:
    // Weights (outputs, inputs, side, side), side 3 or 1; stride 1, zero padding that keeps the sides.
    Convolution(const double* weight, const double* bias, size_t outputs, size_t inputs, size_t side,
                ConvFront<T> front);
    void run(ConvCrew& crew, const ConvCall<T>& call) const;
    size_t inputs() const { return inputs_; }
    size_t outputs() const { return outputs_; }

private:
    const T* packed(int tile) const;
    Lines<T> pack(int tile) const;
    void run_some(ConvCrew& crew, ConvJob<T>& job, size_t points) const;

    const ConvKernels<T>& kernels_;
    const size_t outputs_, inputs_, side_, wide_outputs_;
    const ConvFront<T> front_;
    std::vector<T> weight_;
    Lines<T> bias_;
    mutable std::mutex packing_;
    mutable Lines<T> packed_[2];   // for small and large tiles, made when they are needed
};

}  // namespace cbench
