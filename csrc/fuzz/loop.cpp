// For machines without clang: makes valid streams, damages them, decodes, until the time is over.
#include <chrono>
#include <random>

#include "target.hpp"

int main(int argc, char** argv) {
    using namespace cbench::fuzz;
    const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
    const Mode only = mode_of(std::getenv("CBENCH_FUZZ_TARGET"));
    std::mt19937_64 random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
    const auto begin = std::chrono::steady_clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
    unsigned long long runs = 0, streams = 0;
    std::vector<int32_t> values(Models::kMost);
    while (elapsed() < seconds) {
        const auto mode = only < kModes ? only : static_cast<Mode>(random() % kModes);
        const size_t n = length_of(mode, static_cast<uint32_t>(random() >> (random() % 16 ? 52 + random() % 6 : 20)));
        for (auto& v : values) v = static_cast<int32_t>(random() >> (32 + random() % 31));
        const Bytes good = encode(mode, values, n);
        decode(mode, n, good.data(), good.size());
        ++streams;
        for (int k = 0; k < 40; ++k, ++runs) {
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
        }
    }
    std::printf("%llu damaged streams from %llu good ones in %.0f s, no finding\n", runs, streams, elapsed());
    return 0;
}
