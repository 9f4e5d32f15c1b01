// Rounding to nearest and no flushing of small numbers while an object of this class lives, whatever the calling thread
// has set: what we compute must not depend on it.
#pragma once
#include <cfenv>

namespace cbench {

class PlainArithmetic {
public:
    PlainArithmetic() {
        std::fegetenv(&before_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~PlainArithmetic() { std::fesetenv(&before_); }
    PlainArithmetic(const PlainArithmetic&) = delete;
    PlainArithmetic& operator=(const PlainArithmetic&) = delete;

private:
    std::fenv_t before_;
};

}  // namespace cbench
