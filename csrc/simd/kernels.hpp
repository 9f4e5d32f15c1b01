// The inner loops of the coder behind one table of function pointers: portable, AVX2 and AVX-512 give the same bytes.
//
// A kernel works on whole groups: group g holds the symbols g*lanes .. g*lanes+lanes-1, symbol i belongs to lane
// i mod lanes. Lane counts are 8, 32 and 64. Everything else (tails, checks, single-lane streams) is rans.hpp.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cbench {

// The kernel files are compiled for other instruction sets than the rest, so this header has no inline function with
// external linkage: the linker must never pick such a copy for code that runs on every machine.

// One coded event: start | (frequency - 1) << 16, on the scale 2^16.
using Op = uint32_t;
static inline Op make_op(uint32_t start, uint32_t frequency) { return start | (frequency - 1) << 16; }
static inline uint32_t op_start(Op op) { return op & 0xffff; }
static inline uint32_t op_frequency(Op op) { return (op >> 16) + 1; }

constexpr uint64_t kLow = uint64_t{1} << 32;       // states of running lanes lie in [2^32, 2^48)
constexpr int kHashParts = 32;                     // interleaved hashes of a stream's 16-bit words
constexpr uint32_t kHashFactor = 0x9e3779b1u;

// A division of the 2^16 slots into cells with numbers that rise (and may skip some): 2^shift slots wide, but 2 wide among
// the first and the last `ends` slots, where most distributions have their rare symbols.
struct Cells {
    int shift;
    uint32_t ends;
    constexpr uint32_t operator()(uint32_t slot) const {
        const uint32_t low = slot < ends ? slot : ends, high = slot < 65536 - ends ? 0 : slot - (65536 - ends);
        return (slot >> shift) + (low + high + 1) / 2;
    }
};
constexpr Cells kEndCells{6, 1024}, kSmallCells{8, 0}, kSmallEndCells{9, 128};

// Table 0 once more, if it has 2 to 256 symbols: bytes that fit registers. Symbols are numbered from 0 within the table,
// an escape symbol last.
struct alignas(64) SmallTable {   // a vector load across two cache lines costs two
    uint8_t start_low[256], start_high[256], less_low[256], less_high[256];   // less: frequency - 1
    uint8_t next_low[256], next_high[256];   // frequency - 1 of the following symbol
    // By the slot's cell, of kSmallEndCells or kSmallCells: the first symbol that reaches into it; for the (at most 15)
    // cells where that and the next often do not suffice: 16 * (1..15), else 0; and by that + which sixteenth of 2^shift
    // slots it is: the first symbol that reaches into that part of the cell.
    uint8_t cell[256], crowd[256], part[256];
    bool ends;
};

// A set of tables as the kernels see it (owned by TableSet in tables.hpp).
struct TableView {
    const Op* entry;          // entry[first[t] + k]: the k-th symbol of table t
    const int32_t* first;     // per table
    const int32_t* size;      // per table, without the escape slot
    const int32_t* offset;    // per table: value of symbol 0
    const uint64_t* bucket;   // bucket[(t << bucket_bits) + (slot >> (16 - bucket_bits))]: first candidate of that slot,
                              // start | (frequency-1) << 16 | value << 32
    int bucket_bits;
    int tables;
    bool escape;              // every table ends with one slot for all other values
    const SmallTable* small;  // null if table 0 is not small
    // Like `bucket`, but with the next symbol too, which together with the first nearly always suffices:
    // start | (frequency-1) << 16 | (next frequency-1) << 32 | (2 * value + stop) << 48. With `stop`, what lies behind the
    // first candidate is not the next value; where the first candidate is the escape slot, every slot lies behind.
    // Null unless all values fit 15 bits.
    const uint64_t* near;
    const uint64_t* ends;     // the same for table 0 by kEndCells; null unless as good
};

// Value that stands for "escaped" in decoded output until the true value is read.
constexpr int32_t kEscaped = INT32_MIN;

// Where a decoder stands: lane states, next word, and the last position from which a group may start.
struct DecodeJob {
    uint64_t* x;
    int lanes;
    const uint16_t* word;
    const uint16_t* limit;    // a group is decoded only while word <= limit; lanes + 8 words beyond it are readable
};

struct Kernels {
    const char* name;
    // Codes `groups` groups of ops, last group first; words are written downwards from `end`. At least lanes + 8 words
    // of free space lie below what is needed. Returns the new lowest word.
    uint16_t* (*encode)(uint64_t* x, int lanes, const Op* ops, size_t groups, uint16_t* end);
    // Symbols -> ops. index may be null (table 0). Returns the number of symbols resolved before the first that lies
    // outside its table; with escape tables all are resolved and outsiders get the escape slot.
    size_t (*resolve)(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops);
    // Bits and probabilities of a one (scale 2^16, 1..65535) -> ops.
    void (*resolve_bits)(const uint8_t* bits, const uint16_t* p1, size_t n, Op* ops);
    // Decoding; each returns the number of groups done. Escaped symbols come out as kEscaped.
    size_t (*decode_static)(DecodeJob& job, const TableView& t, int32_t* out, size_t groups);
    size_t (*decode_indexed)(DecodeJob& job, const TableView& t, const int32_t* index, int32_t* out, size_t groups);
    size_t (*decode_bits)(DecodeJob& job, const uint16_t* p1, uint8_t* out, size_t groups);
    // Two streams of 64 lanes with a small table side by side; null where nothing is gained by it.
    size_t (*decode_two)(DecodeJob& one, DecodeJob& two, const TableView& t, int32_t* out_one, int32_t* out_two,
                         size_t groups);
    // Passes (passes.hpp): largest value, negative ones counting as very large; all values or-ed; least value; sum modulo
    // 2^32; for each of `blocks` blocks of kHashParts 16-bit little-endian words: part[j] = part[j] * kHashFactor + word j.
    uint32_t (*largest)(const int32_t* values, size_t n);
    uint8_t (*all_bits)(const uint8_t* values, size_t n);
    uint16_t (*least)(const uint16_t* values, size_t n);
    uint32_t (*sum)(const uint16_t* values, size_t n);
    void (*hash_blocks)(const uint8_t* data, size_t blocks, uint32_t* part);
};

const Kernels& kernels();                       // the chosen set
const Kernels* const* available_kernels();      // null-terminated, slowest first
bool choose_kernels(const char* name);          // "portable", "avx2", "avx512"; false if this machine cannot

}  // namespace cbench
