// One independent block of lines of a cube: adaptive experts, with or without a network beside them, and the range coder.
#pragma once
#include <memory>
#include <optional>

#include "linerwkv_guide.hpp"
#include "rls.hpp"

namespace cbench {

class BlockCoder {
public:
    // A network is needed by experts that look at one, and by no others.
    BlockCoder(const rls::Config& config, std::shared_ptr<const LineNetwork> network, int threads);

    // Back to the state before the first line.
    void reset();
    // One line (bands, columns), replaced by what the decoder gives. `coder.out` must have room for line_bytes().
    void encode_line(int32_t* line, RangeState& coder);
    // Stops early when the coder finds damage.
    void decode_line(int32_t* line, RangeState& coder);
    // What each band has cost so far in this block, by the width of the coder's intervals; of an encoder.
    const std::vector<double>& band_bits() const { return band_bits_; }
    size_t line_bytes() const { return engine_.row_bytes() * static_cast<size_t>(bands_); }

private:
    template <class Code>   // code(band, row, prediction, gate), false to stop
    void each_row(int32_t* line, Code&& code);

    const int bands_, columns_;
    rls::Engine engine_;
    std::optional<NetworkGuide> guide_;
    std::vector<double> band_bits_;
};

}  // namespace cbench
