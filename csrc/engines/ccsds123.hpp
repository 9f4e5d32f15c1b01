// The predictor and quantiser of CCSDS 123.0-B-2 (full prediction mode, wide neighbour-oriented local sums), line by
// line, with its sample-adaptive coder in band-interleaved order or mapped residuals for another coder. Names follow
// the standard; all arithmetic is integer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "golomb.hpp"

namespace cbench {

struct CcsdsParams {
    int bands = 0, columns = 0;      // N_z, N_x
    int depth = 16;                  // D
    int32_t low = 0;                 // s_min
    int32_t delta = 0;               // m, the absolute error limit of every band
    int previous_bands = 3;          // P, at most kMaxPrevious
    int omega = 19;                  // weight resolution
    int v_min = -1, v_max = 3, t_inc_log = 6;
    GolombParams golomb;
};

class Ccsds123 {
public:
    static constexpr int kMaxPrevious = 15;
    explicit Ccsds123(const CcsdsParams& params);

    // One line (bands, columns): samples in, bits to `out`; what the decoder will have goes to `restored`.
    void encode(const int32_t* line, int32_t* restored, BitWriter& out);
    // One line from bits.
    void decode(BitReader& in, int32_t* line);
    // The same for another coder: mapped residuals, those of a band `stride` behind those of the band before.
    void predict(const int32_t* line, int32_t* restored, uint16_t* mapped, size_t stride);
    void restore(const uint16_t* mapped, size_t stride, int32_t* line);

private:
    template <class Put>   // put(band, x, mapped residual)
    void encode_with(const int32_t* line, int32_t* restored, Put&& put);
    template <class Get>   // get(band, x)
    void decode_with(int32_t* line, Get&& get);
    template <class Code>   // code(band, x, low-resolution prediction, sign of the double-resolution one's last bit)
    void run(int32_t* line, Code&& code);
    template <int kCount, class Code>
    void run_band(int z, int32_t* line, Code&& code);
    uint32_t map(int32_t q, int64_t prediction, bool odd, bool first) const;
    int32_t unmap(uint32_t mapped, int64_t prediction, bool odd, bool first) const;
    void limits(int64_t prediction, bool first, int32_t& below, int32_t& above) const;

    const CcsdsParams p_;
    const int32_t high_, middle_, step_;
    int64_t line_ = 0;
    std::vector<int32_t> weights_;        // (bands, P + 3): N, W, NW, then the bands before, nearest first
    std::vector<int32_t> above_;          // (bands, columns): the line before as the decoder has it
    std::vector<int32_t> differences_;    // (P + 1, columns): central local differences of this and the P bands before
    std::vector<GolombBand> statistics_;
};

}  // namespace cbench
