#include "ccsds123_hybrid.hpp"

#include <algorithm>

#include "ccsds123_codes.hpp"

namespace cbench {

namespace {

[[noreturn]] void damaged() {
    throw BitstreamError("the coded stream makes no sense when it is read from its end (it is damaged)");
}

int sum_bits(const GolombParams& p) { return 2 + p.d + p.gamma_star; }

}  // namespace

void HybridBand::start(const GolombParams& p) {
    count = uint32_t{1} << p.gamma_0;
    sum = uint64_t{4} * count;   // the standard leaves the choice to the encoder
}

int HybridBand::code(const GolombParams& p) const {
    const uint64_t scaled = sum << 14;
    if (scaled >= uint64_t{kLowEntropyThresholds[0]} * count) {
        const uint64_t h = sum + (49u * count >> 5);
        const int most = std::max(p.d - 2, 2);
        int k = 1;
        while (k < most && (uint64_t{count} << (k + 3)) <= h) ++k;
        return k;
    }
    int i = 0;
    while (i + 1 < kLowEntropyCodes && scaled < uint64_t{kLowEntropyThresholds[i + 1]} * count) ++i;
    return -1 - i;
}

template <class Writer>
void HybridEncoder::encode(int band, uint32_t m, Writer& out) {
    HybridBand& b = bands_[band];
    if (!b.count) {
        b.start(p_);
        out.put(m, p_.d);
        return;
    }
    if (b.count < (uint32_t{1} << p_.gamma_star) - 1) {
        b.sum += uint64_t{4} * m;
        ++b.count;
    } else {
        out.put(static_cast<uint32_t>(b.sum & 1), 1);   // halving would lose it
        b.sum = (b.sum + uint64_t{4} * m + 1) >> 1;
        b.count = (b.count + 1) >> 1;
    }
    const int k = b.code(p_);
    if (k >= 0) {
        put_large(m, k, out);
        return;
    }
    const LowEntropyCode& code = low_entropy_code(-1 - k);
    const uint32_t limit = static_cast<uint32_t>(code.limit()), symbol = std::min(m, limit + 1);
    if (m > limit) put_large(m - limit - 1, 0, out);
    int& word = words_[-1 - k];
    word = code.node(word).first + static_cast<int>(symbol);
    const LowEntropyCode::Node& node = code.node(word);
    if (node.leaf()) {
        out.put(node.bits, node.length);
        word = 0;
    }
}

template <class Writer>
void HybridEncoder::put_large(uint32_t m, int k, Writer& out) const {
    const uint32_t u = m >> k;
    if (u < static_cast<uint32_t>(p_.u_max)) {
        out.put((m & ((uint32_t{1} << k) - 1)) << 1 | 1, k + 1);
        out.put(0, static_cast<int>(u));
    } else {
        out.put(m, p_.d);
        out.put(0, p_.u_max);
    }
}

template <class Writer>
void HybridEncoder::finish(Writer& out) const {
    for (int i = 0; i < kLowEntropyCodes; ++i) {
        const LowEntropyCode::Node& node = low_entropy_code(i).node(words_[i]);
        out.put(node.bits, node.length);
    }
    for (const HybridBand& b : bands_) out.put(static_cast<uint32_t>(b.sum), sum_bits(p_));
    out.put(1, 1);
}

template void HybridEncoder::encode(int, uint32_t, BitWriter&);
template void HybridEncoder::encode(int, uint32_t, BitCounter&);
template void HybridEncoder::finish(BitWriter&) const;
template void HybridEncoder::finish(BitCounter&) const;

HybridDecoder::HybridDecoder(const uint8_t* data, size_t size, int bands, uint64_t samples, const GolombParams& p)
    : p_(p), data_(data), bits_(uint64_t{8} * size), bands_(bands) {
    if (!size || !data[size - 1]) damaged();
    while (!take(1)) {}
    for (int z = bands - 1; z >= 0; --z) {
        bands_[z].sum = take(sum_bits(p));
        bands_[z].left = samples;
    }
    for (int i = kLowEntropyCodes - 1; i >= 0; --i) {
        words_[i] = low_entropy_code(i).inner_of(last_bits());
        drop(low_entropy_code(i).node(words_[i]).length);
    }
}

uint32_t HybridDecoder::decode(int band) {
    Band& b = bands_[band];
    const uint64_t sample = --b.left;
    b.count = count_of(sample);
    if (sample == 0) {
        HybridBand fresh;
        fresh.start(p_);
        if (b.sum != fresh.sum) damaged();
        return take(p_.d);
    }
    uint32_t m;
    const int k = b.code(p_);
    if (k >= 0) {
        m = take_large(k);
    } else {
        const LowEntropyCode& code = low_entropy_code(-1 - k);
        int& word = words_[-1 - k];
        if (!word) {
            word = code.leaf_of(last_bits());
            drop(code.node(word).length);
        }
        m = code.node(word).symbol;
        word = code.node(word).parent;
        if (m > static_cast<uint32_t>(code.limit())) m += take_large(0);
    }
    if (m >> p_.d) damaged();
    uint64_t before = b.sum;
    if (rescaled(sample)) before = 2 * before - take(1);
    if (before < uint64_t{4} * m) damaged();
    b.sum = before - uint64_t{4} * m;
    return m;
}

void HybridDecoder::finish() const {
    const bool open = std::any_of(words_.begin(), words_.end(), [](int word) { return word != 0; });
    if (bits_ || open) throw BitstreamError("the coded stream goes on before its first sample");
}

// The bits that are still to be read, the last one lowest; at least 57 of them, or zeros before the beginning.
uint64_t HybridDecoder::last_bits() const {
    const uint64_t end = (bits_ + 7) / 8, begin = end > 8 ? end - 8 : 0;
    uint64_t last = 0;
    for (uint64_t i = begin; i < end; ++i) last = last << 8 | data_[i];
    return last >> (8 * end - bits_);
}

void HybridDecoder::drop(int count) {
    if (bits_ < static_cast<uint64_t>(count))
        throw BitstreamError("the coded stream begins too late (it is truncated)");
    bits_ -= static_cast<uint64_t>(count);
}

uint32_t HybridDecoder::take(int count) {   // count <= 32
    const uint64_t last = last_bits();
    drop(count);
    return static_cast<uint32_t>(last & ((uint64_t{1} << count) - 1));
}

uint32_t HybridDecoder::take_large(int k) {
    uint64_t last = last_bits();
    int u = 0;
    for (; u < p_.u_max && !(last & 1); last >>= 1) ++u;
    if (u == p_.u_max) {
        drop(u);
        const uint32_t m = take(p_.d);
        if (m >> k < static_cast<uint32_t>(p_.u_max)) damaged();   // it would have had a shorter word
        return m;
    }
    drop(u + 1);
    return static_cast<uint32_t>(u) << k | take(k);
}

// Whether the encoder halved the statistics with this sample; the first one has number 0.
bool HybridDecoder::rescaled(uint64_t sample) const {
    const uint64_t first = (uint64_t{1} << p_.gamma_star) - (uint64_t{1} << p_.gamma_0);
    return sample >= first && (sample - first) % (uint64_t{1} << (p_.gamma_star - 1)) == 0;
}

uint32_t HybridDecoder::count_of(uint64_t sample) const {
    const uint64_t full = uint64_t{1} << p_.gamma_star, first = full - (uint64_t{1} << p_.gamma_0);
    if (sample < first) return static_cast<uint32_t>((uint64_t{1} << p_.gamma_0) + sample);
    return static_cast<uint32_t>(full / 2 + (sample - first) % (full / 2));
}

}  // namespace cbench
