// libFuzzer entry: mode, two bytes of length, then the stream. CBENCH_FUZZ_TARGET fixes the mode; CBENCH_FUZZ_SECONDS says
// after how many CPU seconds to stop (libFuzzer's own limit is on the clock of the wall).
#include "budget.hpp"
#include "target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace cbench::fuzz;
    static const char* name = std::getenv("CBENCH_FUZZ_TARGET");
    static const char* seconds = std::getenv("CBENCH_FUZZ_SECONDS");
    static const Mode only = mode_of(name);
    static Budget budget(seconds ? std::atof(seconds) : 1e9);
    if (budget.spend()) {
        budget.report(name);
        std::_Exit(0);   // libFuzzer takes any other exit for a crash
    }
    if (size < 3) return 0;
    const auto mode = only < kModes ? only : static_cast<Mode>(data[0] % kModes);
    std::vector<uint8_t> stream(data + 3, data + size);
    repair(mode, stream.data(), stream.size());
    decode(mode, length_of(mode, data[1] | static_cast<uint32_t>(data[2]) << 8), stream.data(), stream.size());
    return 0;
}
