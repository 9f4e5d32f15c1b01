// Interleaved rANS: 48-bit states in 64-bit lanes, 16-bit words, 16-bit frequencies (format: csrc/FORMAT.md).
//
// A stream is a sequence of coded events. It ends with a tail that one lane codes; before the tail, `lanes` states take
// turns. The words that the tail produced first become the other lanes' initial states, so that lanes are nearly free.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "memory.hpp"
#include "simd/kernels.hpp"
#include "simd/states.hpp"

namespace cbench {

constexpr uint64_t kStart = uint64_t{1} << 16;     // lane 0 starts here (plus a check of the events): cheaper than 2^32
constexpr int kMaxLanes = 64;
constexpr int kLaneCounts[4] = {1, 8, 32, 64};
constexpr size_t kChunk = 4096;                    // ops resolved at a time; a multiple of every lane count

inline Op raw_op(uint32_t value, int width) { return make_op(value << (16 - width), 1u << (16 - width)); }

// The check of the events that a single-lane stream carries in its initial state, where it costs nothing. A change of
// any one event always changes it.
inline uint32_t add_event(uint32_t check, uint32_t start) { return (check * 40503u + start) & 0xffff; }

// One coding step of one lane; words go downwards.
inline void put(uint64_t& x, Op op, uint16_t*& word) {
    const uint64_t f = op_frequency(op);
    if (x >= f << 32) {
        *--word = static_cast<uint16_t>(x);
        x >>= 16;
    }
    x = ((x / f) << 16) + x % f + op_start(op);
}

// A block of bytes that is written once: no zero-filling, and room in front for a head that is known last.
class Bytes {
  public:
    Bytes() = default;
    explicit Bytes(size_t size) : memory_(allocate(size)), size_(size) {}
    Bytes(Memory memory, size_t first, size_t size) : memory_(std::move(memory)), first_(first), size_(size) {}
    uint8_t* data() { return memory_.get() + first_; }
    const uint8_t* data() const { return memory_.get() + first_; }
    size_t size() const { return size_; }
    operator std::vector<uint8_t>() const { return {data(), data() + size_}; }

  private:
    Memory memory_;
    size_t first_ = 0, size_ = 0;
};

// Where the events of a stream come from: fills `ops` with events first .. first+count-1.
struct OpSource {
    virtual void resolve(size_t first, size_t count, Op* ops) = 0;
    virtual ~OpSource() = default;
};

// The check of a many-lane stream over everything behind it. A change of any one byte always changes it.
uint32_t stream_check(uint64_t head, uint64_t groups, const uint8_t* data, size_t size);

void append_varint(std::vector<uint8_t>& out, uint64_t value);
uint64_t read_varint(const uint8_t*& p, const uint8_t* end);

// Codes n events. `stored_count` >= 0 is written into the stream's first number.
Bytes encode_stream(OpSource& source, size_t n, int64_t stored_count);

// Reads a stream event by event or group by group, from a copy of its words.
class StreamReader {
  public:
    StreamReader(const uint8_t* data, size_t size);

    bool has_count() const { return has_count_; }
    uint64_t count() const { return count_; }

    void decode(const TableView& t, const int32_t* index, int32_t* out, size_t n);
    // The same with table 0 for two streams, which are quicker side by side than one after the other.
    static void decode_two(StreamReader& one, StreamReader& two, const TableView& t, int32_t* out_one, size_t n_one,
                           int32_t* out_two, size_t n_two);
    void decode_bits(const uint16_t* p1, uint8_t* out, size_t n);
    void decode_rows(const RowView& t, const int32_t* row, int32_t* out, size_t n);
    void decode_raw(int width, uint32_t* out, size_t n);   // width 1..32

    // Slot of the next event, then its interval: for callers with a search of their own.
    uint32_t slot() const { return static_cast<uint32_t>(x_[lane_] & 0xffff); }
    void advance(uint32_t start, uint32_t frequency);

    // Group access for kernels with a loop of their own (states.hpp).
    bool at_group_start() const { return lane_ == 0 && groups_left_ > 0; }
    int lanes() const { return lanes_; }
    size_t groups_left() const { return groups_left_; }
    template <class Kernel>
    void run_groups(size_t groups, Kernel&& kernel);

    void finish();   // raises unless every word is used and the state is the initial one

  private:
    uint16_t next_word();
    void leave_bulk();
    void step_lane();

    uint64_t x_[kMaxLanes];
    int lanes_ = 1;
    int lane_ = 0;
    size_t groups_left_ = 0;
    bool has_count_ = false;
    uint64_t count_ = 0;
    bool checks_events_ = false;
    uint32_t check_ = 0;
    Memory memory_;
    uint16_t* words_ = nullptr;       // in memory_: aligned copy with zero padding behind
    size_t position_ = 0, words_end_ = 0;
    std::vector<uint16_t> forked_;    // the words that were lent to the lanes' initial states
    size_t forked_position_ = 0;
};

template <class Kernel>
void StreamReader::run_groups(size_t groups, Kernel&& kernel) {
    DecodeJob job{x_, lanes_, words_ + position_, words_ + words_end_};
    const size_t done = kernel(job, groups);
    position_ = static_cast<size_t>(job.word - words_);
    if (done != groups || position_ > words_end_)
        throw BitstreamError("the coded stream ends too early (it is truncated or damaged)");
    groups_left_ -= groups;
    if (groups_left_ == 0) leave_bulk();
}

}  // namespace cbench
