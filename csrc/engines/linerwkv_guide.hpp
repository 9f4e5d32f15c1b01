// LineRWKV as a source of predictions for the adaptive experts: rows of samples in, rows of predictions out.
#pragma once
#include "linerwkv.hpp"
#include "linerwkv_scale.hpp"
#include "plain_arithmetic.hpp"
#include "rls.hpp"

namespace cbench {

// Follows one independent block of lines on either side; the rows it takes are those that the decoder gives. Bands are
// normalised with statistics of the lines before, so nothing is sent beside the samples.
class NetworkGuide {
public:
    NetworkGuide(std::shared_ptr<const LineNetwork> network, int bands, int columns, int threads);
    NetworkGuide(const NetworkGuide&) = delete;
    NetworkGuide& operator=(const NetworkGuide&) = delete;

    // Back to the state before the first line.
    void reset();
    // One line (bands, columns): calls code(band, row, prediction, gate) for each of its rows, which finds out their
    // samples as the decoder gives them and must call the gate on the way. `prediction` is what the network expects of
    // the row, in units of the samples; both are null in the first line. Ends early, with false, when code() says so.
    template <class Code>
    bool line(int32_t* line, Code&& code);

private:
    void end_first_line(const int32_t* line);
    void normalise(int band, const int32_t* samples, int from, int to);
    static void pass(void* guide, int column);
    void take(int columns);

    const int bands_, columns_;
    LineEngine engine_;
    CausalScale scale_;
    std::vector<float> predicted_;   // of the current line, and room for a band behind the last one
    std::vector<double> row_;        // predictions of the current row
    const int32_t* samples_ = nullptr;
    int band_ = 0, taken_ = 0;       // current row, and its columns that the network has
    const rls::Gate gate_{&pass, this};
};

template <class Code>
bool NetworkGuide::line(int32_t* line, Code&& code) {
    const PlainArithmetic plain;
    const bool first = engine_.lines() == 0;
    const auto rows = [&] {
        for (int band = 0; band < bands_; ++band, line += columns_) {
            band_ = band, taken_ = 0, samples_ = line;
            if (!code(band, line, first ? nullptr : row_.data(), first ? nullptr : &gate_)) return false;
            scale_.add(band, line, columns_);
            if (!first) take(columns_);
        }
        return true;
    };
    bool fine = true;
    const int32_t* begin = line;
    if (first) {
        fine = rows();
        if (fine) end_first_line(begin);
    } else {
        engine_.follow(predicted_.data(), [&] { return fine = rows(); });
        if (fine) scale_.end_line(engine_.lines() - 1);
    }
    return fine;
}

}  // namespace cbench
