#include "block_coder.hpp"

#include <cmath>

#include "error.hpp"

namespace cbench {

BlockCoder::BlockCoder(const rls::Config& config, std::shared_ptr<const LineNetwork> network, int threads)
    : bands_(config.bands), columns_(config.columns), engine_(config), band_bits_(config.bands, 0.0) {
    if (engine_.needs_network() != static_cast<bool>(network))
        throw ArgumentError("a network comes with experts that look at one, and only with them");
    if (network) guide_.emplace(std::move(network), bands_, columns_, threads);
}

void BlockCoder::reset() {
    engine_.reset();
    if (guide_) guide_->reset();
    band_bits_.assign(band_bits_.size(), 0.0);
}

template <class Code>
void BlockCoder::each_row(int32_t* line, Code&& code) {
    bool fine = true;
    if (guide_) {
        fine = guide_->line(line, code);
    } else {
        for (int band = 0; fine && band < bands_; ++band, line += columns_) fine = code(band, line, nullptr, nullptr);
    }
    if (fine) engine_.end_line();
}

void BlockCoder::encode_line(int32_t* line, RangeState& coder) {
    each_row(line, [&](int band, int32_t* row, const double* prediction, const rls::Gate* gate) {
        const uint8_t* begin = coder.out;
        const double range = static_cast<double>(coder.range);
        engine_.encode_row(band, row, prediction, coder, gate);
        const double shrunk = std::log2(range / static_cast<double>(coder.range));
        band_bits_[band] += 8.0 * static_cast<double>(coder.out - begin) + shrunk;
        return true;
    });
}

void BlockCoder::decode_line(int32_t* line, RangeState& coder) {
    each_row(line, [&](int band, int32_t* row, const double* prediction, const rls::Gate* gate) {
        engine_.decode_row(band, row, prediction, coder, gate);
        return !coder.damaged && coder.beyond < kLookAhead;
    });
}

}  // namespace cbench
