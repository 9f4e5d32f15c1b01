// The last-in-first-out view of the coder, for bits-back coding: what was pushed last is popped first, and popping with
// a table from a full stack "decodes" a sample whose bits come back when it is pushed again.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "error.hpp"
#include "rans.hpp"

namespace cbench {

// What pop does when the stack holds too little: raise, or draw seeded clean bits and count them.
class Stack {
  public:
    explicit Stack(bool clean_bits = false, uint64_t seed = 0) : clean_bits_(clean_bits), random_(seed) {}
    Stack(const uint8_t* data, size_t size, bool clean_bits, uint64_t seed) : Stack(clean_bits, seed) {
        if (size % 2 || size < 6) throw BitstreamError("a stack is stored in an even number of bytes, six or more");
        x_ = 0;
        for (size_t b = 0; b < 6; ++b) x_ |= static_cast<uint64_t>(data[b]) << (8 * b);
        if (x_ < kLow) throw BitstreamError("the state of the stored stack is damaged");
        for (size_t i = size; i > 6; i -= 2)
            words_.push_back(static_cast<uint16_t>(data[i - 2] | data[i - 1] << 8));
    }

    void push(Op op) {
        const uint64_t f = op_frequency(op);
        if (x_ >= f << 32) {
            words_.push_back(static_cast<uint16_t>(x_));
            x_ >>= 16;
        }
        x_ = ((x_ / f) << 16) + x_ % f + op_start(op);
    }
    uint32_t slot() const { return static_cast<uint32_t>(x_ & 0xffff); }
    void pop(uint32_t start, uint32_t frequency) {
        const uint64_t x = frequency * (x_ >> 16) + (x_ & 0xffff) - start;
        if (x >= kLow) {
            x_ = x;
            return;
        }
        x_ = x << 16 | next();   // next() raises before anything has changed
    }

    // Content in bits: words and the logarithm of the state.
    double bits() const { return 16.0 * static_cast<double>(words_.size()) + std::log2(static_cast<double>(x_)); }
    uint64_t clean_bits_used() const { return 16 * drawn_; }
    std::vector<uint8_t> bytes() const {
        std::vector<uint8_t> out;
        out.reserve(6 + 2 * words_.size());
        for (int b = 0; b < 6; ++b) out.push_back(static_cast<uint8_t>(x_ >> (8 * b)));
        for (size_t i = words_.size(); i-- > 0;) {
            out.push_back(static_cast<uint8_t>(words_[i]));
            out.push_back(static_cast<uint8_t>(words_[i] >> 8));
        }
        return out;
    }

  private:
    uint16_t next() {
        if (!words_.empty()) {
            const uint16_t word = words_.back();
            words_.pop_back();
            return word;
        }
        if (!clean_bits_)
            throw BitstreamError("the stack is empty: more was popped than had been pushed (start with more initial bits)");
        ++drawn_;
        random_ += 0x9e3779b97f4a7c15u;   // splitmix64
        uint64_t z = random_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return static_cast<uint16_t>((z ^ (z >> 31)) >> 48);
    }

    uint64_t x_ = kLow;
    std::vector<uint16_t> words_;   // the top is at the back
    bool clean_bits_;
    uint64_t random_;
    uint64_t drawn_ = 0;
};

}  // namespace cbench
