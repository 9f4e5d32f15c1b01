#include "block_coder.hpp"

#include "error.hpp"

namespace cbench {

BlockCoder::BlockCoder(const rls::Config& config, std::shared_ptr<const LineNetwork> network, int threads)
    : bands_(config.bands), columns_(config.columns), engine_(config) {
    if (engine_.needs_network() != static_cast<bool>(network))
        throw ArgumentError("a network comes with experts that look at one, and only with them");
    if (network) guide_.emplace(std::move(network), bands_, columns_, threads);
}

void BlockCoder::reset() {
    engine_.reset();
    if (guide_) guide_->reset();
}

template <class Code>
void BlockCoder::each_row(int32_t* line, Code&& code) {
    bool fine = true;
    for (int band = 0; fine && band < bands_; ++band, line += columns_) {
        if (!guide_) {
            fine = code(band, line, nullptr);
            continue;
        }
        const double* prediction = guide_->predict(band);
        guide_->meanwhile(band, [&] { fine = code(band, line, prediction); });
        if (fine) guide_->take(band, line);
    }
    if (!fine) return;
    engine_.end_line();
    if (guide_) guide_->end_line();
}

void BlockCoder::encode_line(int32_t* line, RangeState& coder) {
    each_row(line, [&](int band, int32_t* row, const double* prediction) {
        engine_.encode_row(band, row, prediction, coder);
        return true;
    });
}

void BlockCoder::decode_line(int32_t* line, RangeState& coder) {
    each_row(line, [&](int band, int32_t* row, const double* prediction) {
        engine_.decode_row(band, row, prediction, coder);
        return !coder.damaged && coder.beyond < kLookAhead;
    });
}

}  // namespace cbench
