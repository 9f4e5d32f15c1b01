// A few threads that run one job after the other in lockstep; the caller is one of them. Waiting threads look out for
// work for a short while before they sleep, because the jobs of one line of an image follow each other within microseconds.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace cbench {

class Crew {
public:
    explicit Crew(int threads) : size_(threads < 1 ? 1 : threads) {
        for (int i = 1; i < size_; ++i) others_.emplace_back([this, i] { work(i); });
    }
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    ~Crew() {
        if (others_.empty()) return;
        job_ = nullptr;
        publish();
        for (auto& thread : others_) thread.join();
    }

    int size() const { return size_; }

    // Waits a moment; `spins` is how often it did before.
    static void pause(int spins) {
        if (spins > kSpins) {
            std::this_thread::yield();
            return;
        }
#if defined(__x86_64__) || defined(_M_X64)
        _mm_pause();
#endif
    }

    // Calls job(i) for i = 0 .. size() - 1, each on its own thread; returns when all are done. Jobs must not throw.
    template <class Job>
    void run(Job&& job) {
        if (size_ == 1) {
            job(0);
            return;
        }
        context_ = &job;
        job_ = [](void* context, int i) { (*static_cast<std::remove_reference_t<Job>*>(context))(i); };
        left_.store(size_ - 1, std::memory_order_relaxed);
        publish();
        job(0);
        for (int spins = 0; left_.load(std::memory_order_acquire) != 0; ++spins) pause(spins);
    }

private:
    static constexpr int kSpins = 1000;

    void publish() {
        turn_.fetch_add(1, std::memory_order_seq_cst);
        if (asleep_.load(std::memory_order_seq_cst)) {
            std::lock_guard<std::mutex> lock(mutex_);
            wake_.notify_all();
        }
    }

    void work(int i) {
        for (unsigned seen = 0;;) {
            int spins = 0;
            while (turn_.load(std::memory_order_seq_cst) == seen && spins < 2 * kSpins) pause(spins++);
            if (turn_.load(std::memory_order_seq_cst) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                ++asleep_;
                wake_.wait(lock, [&] { return turn_.load(std::memory_order_seq_cst) != seen; });
                --asleep_;
            }
            ++seen;   // a turn ends before the next begins, so none can be missed
            if (!job_) return;
            job_(context_, i);
            left_.fetch_sub(1, std::memory_order_release);
        }
    }

    const int size_;
    std::vector<std::thread> others_;
    std::atomic<unsigned> turn_{0};
    std::atomic<int> left_{0}, asleep_{0};
    void (*job_)(void*, int) = nullptr;
    void* context_ = nullptr;
    std::mutex mutex_;
    std::condition_variable wake_;
};

}  // namespace cbench
