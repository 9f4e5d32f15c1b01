// How long to fuzz: CPU seconds of this process, so that a loaded machine does not fuzz less.
#pragma once
#include <cstdio>
#include <ctime>

namespace cbench::fuzz {

class Budget {
  public:
    explicit Budget(double seconds) : seconds_(seconds) {}

    // Counts one execution; whether all time is used up.
    bool spend() { return ++executions_ % 16 == 0 && used() >= seconds_; }

    void report(const char* target) const {
        const char* name = target && *target ? target : "all";
        std::printf("%-9s %12llu executions, %6.0f CPU seconds, no finding\n", name, executions_, used());
        std::fflush(stdout);
    }

  private:
    static double used() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

    double seconds_;
    unsigned long long executions_ = 0;
};

}  // namespace cbench::fuzz
