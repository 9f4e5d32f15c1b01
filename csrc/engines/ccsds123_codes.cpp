#include "ccsds123_codes.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace cbench {

namespace {

constexpr int kSymbolLimits[kLowEntropyCodes] = {12, 10, 8, 6, 6, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 0};

// The lengths from which all words of bits follow. A tree is a number, the length of a leaf's word of bits, or "/" and
// the length of an inner node's word followed by the trees of all its children; "a*n" stands for n times a. Brackets
// group, and show inner nodes that are not the first of their parent.
constexpr const char* kTrees[kLowEntropyCodes] = {
    "/1 /2 5 [/5 8*3 9*4 10*2 11*2 12*2 11] [/6 8*3 9*4 10*2 11*2 12*2 11] 6*4 7*2 8*2 9*2 8 3*3"
    " [/3 6*4 [/6 9*3 10*4 11*2 12*2 13*2 12] 7*2 8*2 9*4 8] 4*2"
    " [/5 7*3 8*4 9*2 10*2 11*2 10] [/5 7*3 8*4 9*2 10*2 11*2 10] 5*2 6*2 5",

    "/1 /3 /5 7*3 8*2 9*2 10*2 11*3 5*2 [/6 8*3 9*4 10 11 12*2 11] [/6 8*3 9*3 10 11*2 12*2 11] 6*2 7*2 9*2 8"
    " [/3 5*3 [/6 8*3 9*2 10*2 11*2 12*3] 6 [/7 9*3 10*3 11 12*2 13*2 12] [/7 9*3 10*2 11*2 12*2 13*3] 8*2 9*3]"
    " [/3 5*3 [/6 8*3 9*2 10*2 11*2 12*3] 6 [/7 9*3 10*2 11*2 12*2 13*3] 7 8*2 9*3]"
    " 3*2 4*2 5*2 6 [/7 9*3 10*4 11 12 13*2 12] 6",

    "/1 2 [/3 4 [/5 7*3 8*2 9*2 11*3]*2 [/6 7 8*2 9*2 10*2 12*3] [/6 8*3 9*2 10*2 12*3] 7*2 8 9*2]"
    " [/3 [/5 6 7*2 8*2 9*2 11*3] [/5 7*3 8*2 9*2 11*3] 5 [/6 8*3 9*2 10*2 12*3]*2 7*2 8 9*2]"
    " 3*2 [/5 6 7*2 8*2 9*2 11*3] [/5 7*3 8*2 9*2 11*3] 6*3",

    "/1 /3 /4 5 [/7 7 8*2 9*2 11*2 12]*2 7*2 9*3 4*2 5*2 7*2 8 2"
    " [/3 4 [/6 6 [/8 8 9*2 10*2 12*2 13] 7 8*2 10*2 11]*2 [/7 7 8*2 9*2 11*2 12] 6 8*3]"
    " [/4 5 [/7 7 8*2 9*2 11*2 12]*2 7*2 9*3] [/5 5 [/7 7 8*2 9*2 11*2 12] 6 7*2 9*2 10] 5"
    " [/7 7 8*2 9*2 11*2 12] 6",

    "/1 /2 /4 4 [/6 6 7*2 9*2 12*3] 5 7*2 9 10*2"
    " [/4 [/6 6 7*2 9*2 12*3] [/6 7 8*2 10*2 12 13*2] [/7 7 8*2 10*2 12 13*2] 8*2 10*2 11]"
    " [/5 5 [/7 7 8*2 10*2 12 13*2] [/7 7 8*2 10*2 13*3] 8*2 10 11*2]"
    " [/6 7 8*2 9 10 12*2 13] [/7 7 8*2 10*2 12 13*2] 8*2 9 2*2 4*2 7*2 8",

    "/1 1 2"
    " [/3"
    " [/3"
    "  [/5 5 [/7 [/8 9 10*2 13*2 14] 9*2 12*2 14] [/7 8 9*2 12*2 14] 9 10 11]"
    "  [/6 [/7 [/8 9 10*2 13*2 15] 9*2 12*2 14] 8*2 11*2 13] [/6 [/7 8 9*2 12*2 14] 8*2 11*2 13] 8 9 10]"
    " [/5 [/6 [/6 [/8 9 10*2 13*2 15] 9*2 12*2 14] 8*2 11*2 13] [/7 8 9*2 12*2 14]*2 10*2 11]"
    " [/5 [/6 [/7 8 9*2 12*2 14] 8*2 11*2 13] [/7 8 9*2 12*2 14] 7 10*2 12] 7 [/8 9 10*2 13*2 14] 9]"
    " 5*2 7",

    "/2 /2 /3 /4 3 [/6 [/7 6 8*2 12*2 14] 7*2 11*2 13] [/6 [/7 6 8*2 12*2 14] 7*2 11 12 13] 9*2 11"
    " [/6 [/6 5 7*2 11*2 13] 6*2 10 11 13] 4 8*2 10 3 [/5 4 [/7 6 8*2 12*2 14] 6 10*2 12] 7*2 9"
    " [/4 3 [/6 [/7 6 8*2 12*2 14] 7*2 11 12 13] 5 9*2 11]"
    " [/4 [/5 4 [/7 [/8 7 9*2 13*2 15] 8*2 12*2 14] 6 10*2 12] 5*2 9*2 11] [/8 7 9*2 13*2 15] 7 9",

    "/1 /2 1 [/5 [/5 4 [/8 7 9*2 15*2 17] [/8 7 9 10 15*2 17] 12*2 14] 6*2 12*2 14]"
    " [/5 4 6 [/8 7 9*2 15*2 16] 12*2 14] 9*2 11"
    " [/4 [/5 [/5 4 [/8 7 9*2 15*2 16] [/8 7 9 10 15*2 17] 12*2 14] 6*2 12*2 14]"
    " [/7 6 8 [/9 9 11*2 16 17 18] 14*2 16] 6 11*2 13]"
    " 3 [/9 9 11*2 16 17 18] 9 10",

    "/2 /3*3 /4*2 /5*4 3 6 [/9 [/9 7 10*2 15] 10*2 15] 12 6*2 11 [/8 [/8 6 9*2 15] 9*2 14] [/8 6 9*2 15] 11"
    " 5 [/8 [/8 6 9*2 14] 9*2 14] 11 5*2 11 [/7 5 8*2 13] [/8 5 8*2 14] 10"
    " 4 [/7 [/7 5 8*2 14] [/10 8 11*2 16] 8 13] 10 4*2 10 [/6 4 7*2 13] 4 9"
    " [/6 [/6 4 7*2 12] [/9 7 10*2 15] 7 12] [/6 [/7 4 7*2 13] [/10 7 10*2 16] 7 12] 9",

    "/3*4 /4*5 /5*2 2 [/9 6 10*2 17] 6 12 [/8 [/9 6 10*2 17] 10*2 16] 6 12"
    " [/8 [/8 [/8 6 10*2 17] 9 10 16] 9 10 16] [/8 6 10*2 17] 12 5 [/8 [/8 6 10*2 16] 9 10 16] 12"
    " 5 [/8 [/8 [/8 6 10*2 16] 9 10 16] 9 10 16] 12 5*2 12 [/7 5 9*2 15] 5 11"
    " [/7 [/7 5 9*2 15] 8 9 15] [/8 5 9*2 16] 11"
    " [/7 [/7 [/7 5 9*2 15] 8 9 15] 8*2 15] [/7 [/8 5 9*2 16] 8 9 15] 11"
    " 4 [/7 [/7 [/8 5 9*2 15] 8 9 15] 8 9 15] 11 4*2 10",

    "/3*6 /4*3 1 [/9 [/9 [/9 6 10 11 18] 10 11 18] 10*2 18] [/9 6 10 11 18] 13"
    " [/9 [/9 [/9 [/9 6 10 11 18] 10 11 18] 10*2 18] 10*2 18] [/9 [/9 6 10 11 18] 10 11 18] 13"
    " 5 [/9 [/9 6 10 11 18] 10 11 18] 13 5 [/9 [/9 [/9 6 10 11 18] 10 11 18] 10*2 18] 13"
    " 5 [/8 [/9 [/9 [/9 6 10 11 18] 10 11 18] 10*2 18] 10*2 17] 13 5*2 13 [/8 5 10*2 17] 5 13"
    " [/8 [/8 5 10*2 17] 9 10 17] 5 12 [/8 [/8 [/8 5 10*2 17] 9 10 17] 9 10 17] 5 12",

    "/4*15 /5 1 6 7 15 6 7 15 6 [/10 7 12*2 20] 15 6 [/10 7 12*2 20] 15"
    " 6 [/10 [/10 [/10 7 12*2 20] 12*2 20] 12*2 20] 15 [6*2 15]*4 [/10 6 11*2 20] 6 14"
    " [/10 [/10 6 11*2 20] 11*2 20] 6 14 [/10 [/10 6 11*2 20] 11*2 20] 6 14"
    " [/9 [/10 [/10 6 11*2 20] 11*2 20] 11*2 19] 6 14"
    " [/9 [/9 [/10 [/10 6 11*2 20] 11*2 20] 11*2 19] 11*2 19] 6 14"
    " [/9 [/9 [/9 [/10 [/10 [/10 6 11 12 20] 11*2 20] 11*2 20] 11*2 19] 11*2 19] 11*2 19] [/10 6 11*2 20] 14"
    " 5 [/10 [/10 6 11*2 20] 11*2 20] 14",

    "/4*5 /5*21 /6 1 7 8 17 [7*2 16]*13 [7*2 15]*2 [/9 7 12 13 20] 7 15 [/9 [/9 7 12 13 20] 12 13 20] 7 15"
    " [6 7 15]*5 6 [/10 7 12 13 20] 15 6 [/9 [/10 7 12 13 21] 12 13 20] 15"
    " 6 [/9 [/9 [/9 7 12 13 21] 12 13 20] 12 13 20] 15 6*2 15",

    "/5*18 /6*27 /7 1 8 9 17 [8*2 16]*18 [7 8 16]*9 [7 8 15]*9 [7*2 15]*8 [/8 [/8 7 12*2 18] 12*2 18] 7 15",

    "/6*43 /7*42 1 9 10 17 [9*2 17]*19 [8 9 17]*22 [8 9 16]*22 [8*2 16]*21",

    "/8*256 1 9*256",
};

// A tree with every "a*n" and "[...]*n" written out and without brackets: what is left are numbers and "/".
std::string spell_out(const char*& at) {
    std::string all;
    for (;; ++at) {
        std::string one;
        if (*at == '[') {
            one = spell_out(++at);
        } else if (*at == '/' || (*at >= '0' && *at <= '9')) {
            do one += *at++;
            while (*at >= '0' && *at <= '9');
            one += ' ';
            --at;
        } else if (*at == ' ') {
            continue;
        } else {
            return all;   // a closing bracket, or the end
        }
        const bool many = at[1] == '*';
        char* end = nullptr;
        const long times = many ? std::strtol(at + 2, &end, 10) : 1;
        for (long i = 0; i < times; ++i) all += one;
        if (many) at = end - 1;
    }
}

}  // namespace

const uint32_t kLowEntropyThresholds[kLowEntropyCodes] = {303336, 225404, 166979, 128672, 95597, 69670, 50678, 34898,
                                                          23331,  14935,  9282,   5510,   3195,  1928,  1112,  408};

const LowEntropyCode& low_entropy_code(int i) {
    static const std::vector<LowEntropyCode> codes = [] {
        std::vector<LowEntropyCode> made;
        for (int c = 0; c < kLowEntropyCodes; ++c) made.emplace_back(kSymbolLimits[c], kTrees[c]);
        return made;
    }();
    return codes[i];
}

LowEntropyCode::LowEntropyCode(int limit, const char* tree) : limit_(limit), nodes_(1) {
    const std::string numbers = spell_out(tree);
    Order order;
    const char* at = numbers.c_str();
    read(at, 0, 0, order);
    leaves_ = assign(order, true);
    inner_ = assign(order, false);
}

void LowEntropyCode::read(const char*& at, int16_t node, int symbols, Order& order) {
    const bool leaf = *at != '/';
    char* end;
    nodes_[node].length = static_cast<uint8_t>(std::strtol(leaf ? at : at + 1, &end, 10));
    at = end + 1;
    order.emplace_back(node, symbols);
    if (leaf) return;
    const auto first = static_cast<int16_t>(nodes_.size());
    nodes_[node].first = first;
    nodes_.resize(nodes_.size() + limit_ + 2);
    for (int16_t s = 0; s < limit_ + 2; ++s) {
        nodes_[first + s].parent = node;
        nodes_[first + s].symbol = static_cast<uint8_t>(s);
        read(at, static_cast<int16_t>(first + s), symbols + 1, order);
    }
}

LowEntropyCode::Words LowEntropyCode::assign(Order order, bool leaves) {
    const auto other = [&](const auto& entry) { return nodes_[entry.first].leaf() != leaves; };
    order.erase(std::remove_if(order.begin(), order.end(), other), order.end());
    std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
        return std::make_pair(nodes_[a.first].length, a.second) < std::make_pair(nodes_[b.first].length, b.second);
    });
    Words words;
    uint32_t next = 0;
    int length = 0;
    for (const auto& [node, symbols] : order) {
        Node& n = nodes_[node];
        for (; length < n.length; ++length) next <<= 1;
        if (!words.count[length]) {
            words.first[length] = next;
            words.start[length] = static_cast<uint32_t>(words.nodes.size());
        }
        ++words.count[length];
        words.nodes.push_back(node);
        for (int b = 0; b < length; ++b) n.bits |= (next >> b & 1) << (length - 1 - b);
        ++next;
    }
    return words;
}

int LowEntropyCode::find(const Words& words, uint64_t last) {
    uint32_t word = 0;
    for (int length = 1; length <= kLongest; ++length, last >>= 1) {
        word = word << 1 | static_cast<uint32_t>(last & 1);
        if (word - words.first[length] < words.count[length])
            return words.nodes[words.start[length] + word - words.first[length]];
    }
    return 0;   // never: the words use up all possibilities (test)
}

}  // namespace cbench
