// Distributions straight from parameters: mixtures of discretised logistics or Gaussians, evaluated in 32-bit integers, so
// that every machine gets the same intervals and nobody has to store rows of probabilities.
//
// For symbol value low + k, k = 0..size-1, C(k) = k + floor(F(k) (65536 - size) / 65536), C(0) = 0, C(size) = 65536, with
//   F(k)   = floor(sum_j w_j G((low + k - 1/2 - mean_j) / s_j) / 65536)
//   mean   in units of 1/256 of a symbol; s = 2^(scale/16 - 4), scale = 0..255; the w_j are weights / their sum, in 1/65536,
//            rounded down, the rest on the first of the heaviest
//   G      the distribution function of the family, 1..65535 in 1/65536: tabulated at steps of 1/32, linear between
#pragma once
#include <cstdint>
#include <vector>

#include "rans.hpp"
#include "simd/mixture.hpp"

namespace cbench {

enum class Family { kLogistic, kGaussian };

const uint32_t* logistic_table();   // the tabulated function of MixtureView::cdf

// Parameters of n symbols with K components each, component-major: mean[j * n + i].
class Mixture {
  public:
    Mixture(const int32_t* mean, const uint8_t* scale, const uint16_t* weight, size_t n, size_t components, int32_t low,
            int32_t size, Family family);   // weight may be null: equal weights
    const MixtureView& view() const { return view_; }
    size_t n() const { return n_; }

  private:
    size_t n_;
    std::vector<uint32_t> weight_;
    MixtureView view_{};
};

class MixtureSource final : public OpSource {
  public:
    MixtureSource(const Mixture& mixture, const int32_t* symbols) : mixture_(mixture), symbols_(symbols) {}
    void resolve(size_t first, size_t count, Op* ops) override;

  private:
    const Mixture& mixture_;
    const int32_t* symbols_;
};

// Decodes the symbols first..first+count-1 of the mixture.
void read_mixture(StreamReader& in, const Mixture& mixture, int32_t* out, size_t first, size_t count);

}  // namespace cbench
