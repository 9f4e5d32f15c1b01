// Picks the kernels once at load time; CBENCH_SIMD=portable|avx2|avx512 forces a set.
#include <cstdlib>
#include <cstring>

#include "kernels.hpp"

namespace cbench {

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

namespace {

struct Available {
    const Kernels* list[4] = {&kPortable, nullptr, nullptr, nullptr};
    const Kernels* chosen = &kPortable;

    Available() {
        int n = 1;
#if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) list[n++] = &kAvx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vbmi") &&
            __builtin_cpu_supports("avx512vbmi2"))
            list[n++] = &kAvx512;
#endif
        chosen = list[n - 1];
        if (const char* name = std::getenv("CBENCH_SIMD"))
            for (int i = 0; i < n; ++i)
                if (!std::strcmp(list[i]->name, name)) chosen = list[i];
    }
};

Available& available() {
    static Available instance;
    return instance;
}

}  // namespace

const Kernels& kernels() { return *available().chosen; }

const Kernels* const* available_kernels() { return available().list; }

bool choose_kernels(const char* name) {
    for (const Kernels* const* k = available().list; *k; ++k)
        if (!std::strcmp((*k)->name, name)) {
            available().chosen = *k;
            return true;
        }
    return false;
}

}  // namespace cbench
