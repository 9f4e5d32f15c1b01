// The sixteen low-entropy codes of CCSDS 123.0-B-2's hybrid entropy coder: words of symbols <-> words of bits, both of
// variable length. A stream is read from its end, so no word of bits is the end of another one.
#pragma once
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace cbench {

// One code as a tree of words of symbols. Its leaves have a word of bits; so have its inner nodes, among themselves: at
// the end of an image they tell how far an unfinished word has come. Symbols are 0 .. limit and, limit + 1, "anything
// larger".
class LowEntropyCode {
public:
    struct Node {
        int16_t first = -1;    // its children are first .. first + limit + 1; -1: a leaf
        int16_t parent = -1;   // -1: the root, which is node 0
        uint8_t symbol = 0;    // the last one of its word
        uint8_t length = 0;    // bits
        uint32_t bits = 0;     // the last one that is written is the lowest
        bool leaf() const { return first < 0; }
    };

    // `tree`: see ccsds123_codes.cpp.
    LowEntropyCode(int limit, const char* tree);

    int limit() const { return limit_; }
    int size() const { return static_cast<int>(nodes_.size()); }
    const Node& node(int i) const { return nodes_[i]; }
    // The leaf, or inner node, whose word of bits ends a stream. `last`: its last 32 bits or more, the last one lowest.
    int leaf_of(uint64_t last) const { return find(leaves_, last); }
    int inner_of(uint64_t last) const { return find(inner_, last); }

private:
    static constexpr int kLongest = 21;
    struct Words {   // canonical: by length, then by number of symbols, then in the order of the tree
        std::vector<int16_t> nodes;
        std::array<uint32_t, kLongest + 1> first{}, count{}, start{};
    };
    using Order = std::vector<std::pair<int16_t, int>>;   // node and number of symbols
    void read(const char*& at, int16_t node, int symbols, Order& order);
    Words assign(Order order, bool leaves);
    static int find(const Words& words, uint64_t last);

    const int limit_;
    std::vector<Node> nodes_;
    Words leaves_, inner_;
};

constexpr int kLowEntropyCodes = 16;
const LowEntropyCode& low_entropy_code(int i);
// Code i is for bands whose mean magnitude lies below this / 2^16; above the first one there is the high-entropy code.
extern const uint32_t kLowEntropyThresholds[kLowEntropyCodes];

}  // namespace cbench
