// For machines without clang: makes valid streams, damages them, decodes, for SECONDS of CPU time (SECONDS [SEED]).
// "seeds FOLDER" writes valid streams of every mode for libfuzzer.cpp, which is how csrc/fuzz/corpus was made.
#include <fstream>
#include <random>
#include <string>

#include "budget.hpp"
#include "target.hpp"

namespace cbench::fuzz {

int write_seeds(const std::string& folder) {
    std::mt19937 random(1);
    std::vector<int32_t> values(Models::kMost);
    for (auto& v : values) v = static_cast<int32_t>(random() >> (random() % 31));
    for (int m = 0; m < kModes; ++m)
        for (const uint32_t about : {1u, 120u, 480u}) {
            const auto mode = static_cast<Mode>(m);
            const size_t n = length_of(mode, about);
            Bytes bytes = {static_cast<uint8_t>(m), static_cast<uint8_t>(n), static_cast<uint8_t>(n >> 8)};
            const Bytes stream = encode(mode, values, n);
            bytes.insert(bytes.end(), stream.begin(), stream.end());
            std::ofstream out(folder + "/" + kNames[m] + "-" + std::to_string(n), std::ios::binary);
            out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
            if (!out) return 1;
        }
    return 0;
}

}  // namespace cbench::fuzz

int main(int argc, char** argv) {
    using namespace cbench::fuzz;
    if (argc > 2 && std::string(argv[1]) == "seeds") return write_seeds(argv[2]);
    Budget budget(argc > 1 ? std::atof(argv[1]) : 10);
    const char* name = std::getenv("CBENCH_FUZZ_TARGET");
    const Mode only = mode_of(name);
    std::mt19937_64 random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
    std::vector<int32_t> values(Models::kMost);
    for (bool spent = false; !spent;) {
        const auto mode = only < kModes ? only : static_cast<Mode>(random() % kModes);
        const size_t n = length_of(mode, static_cast<uint32_t>(random() >> (random() % 16 ? 52 + random() % 6 : 20)));
        for (auto& v : values) v = static_cast<int32_t>(random() >> (32 + random() % 31));
        const Bytes good = encode(mode, values, n);
        decode(mode, n, good.data(), good.size());
        for (int k = 0; k < 40 && !spent; ++k) {
            Bytes bad = good;
            for (uint64_t changes = 1 + random() % 3; changes--;) {
                const size_t at = bad.empty() ? 0 : random() % bad.size();
                switch (random() % 5) {
                    case 0: if (!bad.empty()) bad[at] ^= static_cast<uint8_t>(1u << random() % 8); break;
                    case 1: if (!bad.empty()) bad[at] = static_cast<uint8_t>(random()); break;
                    case 2: bad.resize(at); break;
                    case 3: bad.insert(bad.begin() + static_cast<std::ptrdiff_t>(at), static_cast<uint8_t>(random())); break;
                    default: if (!bad.empty()) bad.erase(bad.begin() + static_cast<std::ptrdiff_t>(at)); break;
                }
            }
            // An exact buffer of its own, so that the sanitizer sees every byte read beyond it.
            std::unique_ptr<uint8_t[]> exact(new uint8_t[bad.size()]);
            std::copy(bad.begin(), bad.end(), exact.get());
            if (random() % 2) repair(mode, exact.get(), bad.size());
            decode(mode, random() % 8 ? n : length_of(mode, static_cast<uint32_t>(random())), exact.get(), bad.size());
            spent = budget.spend();
        }
    }
    budget.report(name);
    return 0;
}
