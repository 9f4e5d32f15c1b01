#include "memory.hpp"

#include <mutex>
#include <utility>

namespace cbench {

namespace {

constexpr size_t kSmallest = size_t{1} << 16;   // smaller blocks are cheap
#if defined(CBENCH_FUZZ)
constexpr size_t kMost = 0;                     // the sanitizer is to see every block end where it ends
#else
constexpr size_t kMost = size_t{5} << 23;       // bytes kept in all
#endif
constexpr int kBlocks = 8;

struct Kept {
    std::mutex mutex;
    std::pair<uint8_t*, size_t> block[kBlocks] = {};
    size_t total = 0;
};

Kept& kept() {
    static Kept* instance = new Kept;   // never destroyed: threads may end after the program's static objects
    return *instance;
}

}  // namespace

// Both functions do without the kept blocks when another thread is at them; so a forked process cannot hang here either.
Memory allocate(size_t size) {
    if (size >= kSmallest) {
        Kept& k = kept();
        const std::unique_lock<std::mutex> lock(k.mutex, std::try_to_lock);
        if (lock)
            for (auto& [block, capacity] : k.block)
                if (block && capacity >= size && capacity / 4 <= size) {
                    k.total -= capacity;
                    return {std::exchange(block, nullptr), GiveBack{capacity}};
                }
    }
    return {new uint8_t[size], GiveBack{size}};
}

void GiveBack::operator()(uint8_t* block) const {
    if (size >= kSmallest) {
        Kept& k = kept();
        const std::unique_lock<std::mutex> lock(k.mutex, std::try_to_lock);
        if (lock && k.total + size <= kMost)
            for (auto& [place, capacity] : k.block)
                if (!place) {
                    place = block;
                    capacity = size;
                    k.total += size;
                    return;
                }
    }
    delete[] block;
}

}  // namespace cbench
