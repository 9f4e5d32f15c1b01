// Mixture parameters that stay alive as long as the mixture that points into them.
#pragma once
#include "bindings.hpp"
#include "mixture.hpp"

namespace cbench {

class MixtureModel {
  public:
    MixtureModel(Array<int32_t> mean, Array<uint8_t> scale, std::optional<Array<uint16_t>> weight, int32_t low, int32_t size,
                 bool gaussian);
    const Mixture& get() const { return *mixture_; }

  private:
    Array<int32_t> mean_;
    Array<uint8_t> scale_;
    std::optional<Array<uint16_t>> weight_;
    std::optional<Mixture> mixture_;
};

}  // namespace cbench
