// The hybrid entropy coder of CCSDS 123.0-B-2: length-limited Golomb codes with their bits in reversed order where
// magnitudes are large, sixteen variable-to-variable codes where they are small. The decoder begins at the end of the
// stream, which holds the final statistics of each band, and undoes the encoder's steps. Names follow the standard.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "golomb.hpp"

namespace cbench {

// Statistics of one band, which both sides follow: sum of the magnitudes times four, and a count of them.
struct HybridBand {
    uint64_t sum = 0;     // Sigma
    uint32_t count = 0;   // Gamma

    void start(const GolombParams& p);
    // Largest usable k of the high-entropy code, -1 - i for low-entropy code i.
    int code(const GolombParams& p) const;
};

// Takes the mapped residuals of a whole image in coding order.
class HybridEncoder {
public:
    HybridEncoder(int bands, const GolombParams& p) : p_(p), bands_(bands) {}
    template <class Writer>   // BitWriter or BitCounter
    void encode(int band, uint32_t m, Writer& out);
    // Unfinished words, and what the decoder starts from.
    template <class Writer>
    void finish(Writer& out) const;

private:
    template <class Writer>
    void put_large(uint32_t m, int k, Writer& out) const;

    const GolombParams p_;
    std::vector<HybridBand> bands_;
    std::array<int, 16> words_{};   // node of each code that its unfinished word has come to
};

// Gives them back in reversed order.
class HybridDecoder {
public:
    // Every band has `samples` of them.
    HybridDecoder(const uint8_t* data, size_t size, int bands, uint64_t samples, const GolombParams& p);
    uint32_t decode(int band);
    // Everything must have been used, and every band must have arrived where it began.
    void finish() const;

private:
    struct Band : HybridBand {
        uint64_t left = 0;   // samples that are still to come
    };
    uint64_t last_bits() const;
    void drop(int count);
    uint32_t take(int count);
    uint32_t take_large(int k);
    bool rescaled(uint64_t sample) const;
    uint32_t count_of(uint64_t sample) const;

    const GolombParams p_;
    const uint8_t* data_;
    uint64_t bits_;   // of the stream that are still to be read
    std::vector<Band> bands_;
    std::array<int, 16> words_{};
};

}  // namespace cbench
