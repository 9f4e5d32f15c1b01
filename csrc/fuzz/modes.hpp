// Names of what is fuzzed. New ones come last: the first byte of a file in the corpus is the number of its mode.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace cbench::fuzz {

enum Mode { kStatic, kIndexed, kEscape, kBits, kRows, kRaw, kMixture, kStates, kAdaptive, kStack, kTwo,   // the coder
            kGolomb, kCcsds, kHybrid, kExperts, kLines, kGuided, kPixels, kLinear, kModes };              // engines
constexpr const char* kNames[kModes] = {"static",   "indexed", "escape", "bits",   "rows",  "raw",    "mixture",
                                        "states",   "adaptive", "stack", "two",    "golomb", "ccsds", "hybrid",
                                        "experts",  "lines",   "guided", "pixels", "linear"};

// A mode by its name; kModes for none.
inline Mode mode_of(const char* name) {
    int m = 0;
    while (m < kModes && (!name || std::strcmp(name, kNames[m]))) ++m;
    return static_cast<Mode>(m);
}

using Bytes = std::vector<uint8_t>;

}  // namespace cbench::fuzz
