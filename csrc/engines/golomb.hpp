// The sample-adaptive Golomb coder of CCSDS 123.0-B (length-limited GPO2 codes, one pair of statistics a band) and the
// bit stream under it: most significant bit first, zeros up to the end of the last byte.
#pragma once
#include <cstdint>
#include <vector>

#include "error.hpp"

namespace cbench {

class BitWriter {
public:
    // Appends the low `count` bits of `value`, count <= 32; higher bits of value must be zero.
    void put(uint32_t value, int count) {
        held_ = held_ << count | value;
        bits_ += count;
        while (bits_ >= 8) out_.push_back(static_cast<uint8_t>(held_ >> (bits_ -= 8)));
    }

    // Whole bytes written so far; they are no longer here afterwards.
    std::vector<uint8_t> take() {
        taken_ += out_.size();
        std::vector<uint8_t> whole;
        whole.swap(out_);
        return whole;
    }

    // Bits written so far.
    uint64_t count() const { return 8 * (taken_ + out_.size()) + static_cast<uint64_t>(bits_); }

    std::vector<uint8_t> finish() {
        if (bits_) put(0, 8 - bits_);
        return take();
    }

private:
    std::vector<uint8_t> out_;
    uint64_t held_ = 0, taken_ = 0;
    int bits_ = 0;
};

// In place of a writer where only the number of bits matters.
class BitCounter {
public:
    void put(uint32_t, int count) { bits_ += static_cast<uint64_t>(count); }
    uint64_t count() const { return bits_; }

private:
    uint64_t bits_ = 0;
};

class BitReader {
public:
    BitReader(const uint8_t* data, size_t size) : next_(data), end_(data + size) {}

    uint32_t get(int count) {   // count <= 32
        if (!count) return 0;
        refill();
        if (bits_ < count) throw BitstreamError("the coded stream ends too early (it is truncated)");
        bits_ -= count;
        return static_cast<uint32_t>(held_ >> bits_ & ((uint64_t{1} << count) - 1));
    }

    // Number of zeros before the next one, at most `limit` (<= 32); the one is consumed unless the limit was reached.
    int zeros(int limit) {
        int n = 0;
        while (n < limit && !get(1)) ++n;
        return n;
    }

    // Everything must have been used but the padding of the last byte.
    void finish() {
        if (next_ != end_ || bits_ >= 8 || (bits_ && (held_ & ((uint64_t{1} << bits_) - 1))))
            throw BitstreamError("the coded stream goes on after its last sample");
    }

private:
    void refill() {
        while (bits_ <= 56 && next_ != end_) {
            held_ = held_ << 8 | *next_++;
            bits_ += 8;
        }
    }

    const uint8_t *next_, *end_;
    uint64_t held_ = 0;   // only the low bits_ bits count
    int bits_ = 0;
};

// Parameters by their names in the standard.
struct GolombParams {
    int d = 16;            // D, bits of a raw sample
    int u_max = 18;        // longest unary part
    int gamma_0 = 1;       // initial count exponent
    int k = 3;             // initial accumulator
    int gamma_star = 6;    // rescaling counter size
};

// Statistics and codewords of one band.
class GolombBand {
public:
    template <class Writer>
    void encode(Writer& out, uint32_t m, const GolombParams& p) {
        if (!count_) {
            out.put(m, p.d);
            start(p);
            return;
        }
        const int k = parameter(p);
        const uint32_t u = m >> k;
        if (u < static_cast<uint32_t>(p.u_max)) {
            out.put(1, static_cast<int>(u) + 1);
            out.put(m & ((uint32_t{1} << k) - 1), k);
        } else {
            out.put(0, p.u_max);
            out.put(m, p.d);
        }
        update(m, p);
    }

    uint32_t decode(BitReader& in, const GolombParams& p) {
        if (!count_) {
            start(p);
            return in.get(p.d);
        }
        const int k = parameter(p);
        const int u = in.zeros(p.u_max);
        const uint32_t m = u < p.u_max ? static_cast<uint32_t>(u) << k | in.get(k) : in.get(p.d);
        if (u < p.u_max ? m >> p.d : m >> k < static_cast<uint32_t>(p.u_max))
            throw BitstreamError("the coded stream holds a codeword that nobody writes (it is damaged)");
        update(m, p);
        return m;
    }

private:
    void start(const GolombParams& p) {
        count_ = uint32_t{1} << p.gamma_0;
        sum_ = ((3u << (p.k + 6)) - 49u) * count_ >> 7;
    }

    // Largest k <= D - 2 with count 2^k <= sum + 49/128 count, or 0.
    int parameter(const GolombParams& p) const {
        const uint32_t h = sum_ + (49u * count_ >> 7);
        int k = 0;
        while (k < p.d - 2 && (uint64_t{count_} << (k + 1)) <= h) ++k;
        return k;
    }

    void update(uint32_t m, const GolombParams& p) {
        if (count_ < (uint32_t{1} << p.gamma_star) - 1) {
            sum_ += m;
            ++count_;
        } else {
            sum_ = (sum_ + m + 1) >> 1;
            count_ = (count_ + 1) >> 1;
        }
    }

    uint32_t count_ = 0, sum_ = 0;
};

// Signed residual -> number without sign, for a prediction `below` above the smallest possible value and `above` below
// the largest: small magnitudes alternate in sign, beyond the nearer end of the range only one sign is possible.
inline uint32_t fold(int32_t e, int32_t below, int32_t above) {
    const int32_t theta = below < above ? below : above;
    const int32_t size = e < 0 ? -e : e;
    if (size > theta) return static_cast<uint32_t>(theta + size);
    return e >= 0 ? 2u * static_cast<uint32_t>(e) : 2u * static_cast<uint32_t>(-e) - 1;
}

inline int32_t unfold(uint32_t m, int32_t below, int32_t above) {
    const int32_t theta = below < above ? below : above;
    if (m > static_cast<uint32_t>(below) + static_cast<uint32_t>(above))
        throw BitstreamError("the coded stream holds a sample outside its range (it is damaged)");
    if (m > 2u * static_cast<uint32_t>(theta)) {
        const int32_t size = static_cast<int32_t>(m) - theta;
        return below < above ? size : -size;
    }
    return m & 1 ? -static_cast<int32_t>((m + 1) >> 1) : static_cast<int32_t>(m >> 1);
}

}  // namespace cbench
