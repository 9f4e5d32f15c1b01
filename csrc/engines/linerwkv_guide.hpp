// LineRWKV as a source of predictions for the adaptive experts: rows of samples in, rows of predictions out.
#pragma once
#include <utility>

#include "linerwkv.hpp"
#include "linerwkv_scale.hpp"

namespace cbench {

// Follows one independent block of lines on either side; the rows it takes are those that the decoder gives. Bands are
// normalised with statistics of the lines before, so nothing is sent beside the samples.
class NetworkGuide {
public:
    NetworkGuide(std::shared_ptr<const LineNetwork> network, int bands, int columns, int threads);

    // Back to the state before the first line.
    void reset();
    // What the network expects of a band of the current line, once all bands before it were taken, in units of the
    // samples. Null in the first line.
    const double* predict(int band);
    // Calls job(), which finds out the samples of that band, while other threads finish the band before.
    template <class Job>
    void meanwhile(int band, Job&& job) {
        if (band > 0 && engine_.lines() > 0) engine_.remember(band - 1, std::forward<Job>(job));
        else job();
    }
    // The samples of that band as the decoder gives them.
    void take(int band, const int32_t* samples);
    // After the last band.
    void end_line();

private:
    void normalise(int band, const int32_t* samples);

    const int bands_, columns_;
    LineEngine engine_;
    CausalScale scale_;
    std::vector<float> normalised_, predicted_;   // of the current line
    std::vector<int32_t> first_;                  // the first line
    std::vector<double> row_;                     // predictions of one band
};

}  // namespace cbench
