#include "rans.hpp"

namespace cbench {

namespace {

// Words lie in memory in little-endian order in the end; on other hosts they are turned there.
void to_or_from_little_endian([[maybe_unused]] uint16_t* words, [[maybe_unused]] size_t n) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (size_t i = 0; i < n; ++i) words[i] = static_cast<uint16_t>(words[i] << 8 | words[i] >> 8);
#endif
}

// Writes words downwards into a block that grows at the front. The head of the stream comes to stand before them, so
// that the words are never moved.
class WordStack {
  public:
    explicit WordStack(size_t expected) { start(expected + 4 * kMaxLanes); }

    // Room for `count` more words (kernels write up to a vector below the lowest word).
    uint16_t* reserve(size_t count) {
        if (static_cast<size_t>(low_ - begin()) < count + 2 * kMaxLanes) {
            const size_t used = size();
            const uint16_t* words = low_;
            const auto old = std::move(memory_);
            start(2 * (capacity_ + count) + 4 * kMaxLanes);
            low_ -= used;
            std::memcpy(low_, words, 2 * used);
        }
        return low_;
    }
    void lower_to(uint16_t* low) { low_ = low; }
    size_t size() const { return static_cast<size_t>(begin() + capacity_ - low_); }
    uint16_t pop() { return *low_++; }

    Bytes finish(const std::vector<uint8_t>& head) {
        const size_t words = size(), bytes = head.size() + 2 * words;
        to_or_from_little_endian(reserve(head.size()), words);
        const size_t first = 2 * capacity_ - bytes;
        if (!head.empty()) std::memcpy(memory_.get() + first, head.data(), head.size());
        return {std::move(memory_), first, bytes};
    }

  private:
    uint16_t* begin() const { return reinterpret_cast<uint16_t*>(memory_.get()); }
    void start(size_t capacity) {
        memory_ = allocate(2 * capacity);
        capacity_ = capacity;
        low_ = begin() + capacity;
    }
    Memory memory_;
    size_t capacity_ = 0;
    uint16_t* low_ = nullptr;
};

// About how many bits n events cost, from at most 1024 of them; integers only, so equal on every machine.
uint64_t estimate_bits(OpSource& source, size_t n) {
    const size_t samples = std::min<size_t>(n, 1024), block = 16;
    Op ops[block];
    uint64_t bits = 0, seen = 0;
    for (size_t s = 0; s < samples; s += block) {
        const size_t first = n <= 1024 ? s : s * ((n - block) / 1024);
        const size_t count = std::min(block, n - first);
        source.resolve(first, count, ops);
        for (size_t i = 0; i < count; ++i) {
            // log2 with two more bits of the mantissa, in eighths of a bit
            const uint32_t f = op_frequency(ops[i]);
            const int top = 31 - __builtin_clz(f);
            const uint32_t mantissa = ((f << (16 - top)) >> 13) & 7;
            bits += 8 * 16 - (8 * static_cast<uint64_t>(top) + mantissa);
        }
        seen += count;
    }
    return seen == 0 ? 0 : bits * n / seen / 8;
}

// The most lanes whose states cost at most 1/4096 of the stream (5 bits a lane).
int choose_lanes(uint64_t bits) {
    int code = 0;
    while (code < 3 && static_cast<uint64_t>(kLaneCounts[code + 1]) * 5 * 4096 <= bits) ++code;
    return code;
}

void append_bytes(std::vector<uint8_t>& out, uint64_t value, int bytes) {
    for (int b = 0; b < bytes; ++b) out.push_back(static_cast<uint8_t>(value >> (8 * b)));
}

int significant_bytes(uint64_t value) {
    int bytes = 0;
    for (; value; value >>= 8) ++bytes;
    return bytes;
}

}  // namespace

// 32 interleaved polynomial hashes of 16-bit words, folded into one; the kernels hash the blocks.
uint32_t stream_check(uint64_t head, uint64_t groups, const uint8_t* data, size_t size) {
    uint32_t part[kHashParts] = {};
    const size_t blocks = size / sizeof(uint16_t[kHashParts]);
    kernels().hash_blocks(data, blocks, part);
    auto hash = static_cast<uint32_t>(head * 31 + groups);
    for (const uint32_t p : part) hash = hash * kHashFactor + p;
    for (size_t i = sizeof(uint16_t[kHashParts]) * blocks; i < size; ++i) hash = hash * kHashFactor + data[i];
    return hash;
}

void append_varint(std::vector<uint8_t>& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
    out.push_back(static_cast<uint8_t>(value));
}

uint64_t read_varint(const uint8_t*& p, const uint8_t* end) {
    uint64_t value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
        if (p == end) break;
        const uint8_t byte = *p++;
        value |= static_cast<uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift > 0) break;   // not the shortest form
            return value;
        }
    }
    throw BitstreamError("the head of the coded stream is damaged");
}

namespace {

uint64_t stream_head(int code, int64_t stored_count) {
    return static_cast<uint64_t>(code) | (stored_count >= 0 ? 4 | static_cast<uint64_t>(stored_count) << 3 : 0);
}

// Codes events downwards from `position` with one lane, until `done(position)`; returns where it stopped.
template <class Done>
size_t encode_tail(OpSource& source, size_t position, size_t step, uint64_t& x, WordStack& words, Op* ops, Done&& done) {
    while (position > 0) {
        const size_t count = std::min(position, step), first = position - count;
        source.resolve(first, count, ops);
        uint16_t* low = words.reserve(count);
        for (; position > first; --position) {
            words.lower_to(low);
            if (done(position)) return position;
            put(x, ops[position - 1 - first], low);
        }
        words.lower_to(low);
    }
    return 0;
}

Bytes encode_single(OpSource& source, size_t n, int64_t stored_count, uint64_t bits) {
    std::vector<Op> ops(kChunk);
    uint32_t check = 0;
    for (size_t at = 0; at < n; at += kChunk) {
        const size_t count = std::min(kChunk, n - at);
        source.resolve(at, count, ops.data());
        for (size_t i = 0; i < count; ++i) check = add_event(check, op_start(ops[i]));
    }
    uint64_t x = kStart | check;
    WordStack words(bits / 16 + bits / 128 + 256);
    encode_tail(source, n, kChunk, x, words, ops.data(), [](size_t) { return false; });
    std::vector<uint8_t> head;
    append_varint(head, stream_head(0, stored_count));
    if (x != kStart || words.size()) append_bytes(head, x, significant_bytes(x));
    return words.finish(head);
}

}  // namespace

Bytes encode_stream(OpSource& source, size_t n, int64_t stored_count) {
    const uint64_t bits = estimate_bits(source, n);
    const int code = choose_lanes(bits);
    if (code == 0) return encode_single(source, n, stored_count, bits);
    const auto lanes = static_cast<size_t>(kLaneCounts[code]);

    // The tail, by lane 0 alone: until it has produced the other lanes' initial states and whole groups remain.
    WordStack words(bits / 16 + bits / 128 + 256);
    std::vector<Op> ops(kChunk);
    uint64_t x[kMaxLanes];
    x[0] = kStart;
    size_t position = encode_tail(source, n, 512, x[0], words, ops.data(), [&](size_t at) {
        return at % lanes == 0 && words.size() >= 2 * (lanes - 1);
    });
    if (position == 0) return encode_single(source, n, stored_count, bits);
    const size_t groups = position / lanes;
    for (size_t l = 1; l < lanes; ++l) {
        const uint64_t high = words.pop();
        x[l] = kLow | high << 16 | words.pop();
    }
    while (position > 0) {
        const size_t count = position % kChunk ? position % kChunk : kChunk;
        source.resolve(position - count, count, ops.data());
        uint16_t* end = words.reserve(count);
        words.lower_to(kernels().encode(x, static_cast<int>(lanes), ops.data(), count / lanes, end));
        position -= count;
    }

    const uint64_t number = stream_head(code, stored_count);
    std::vector<uint8_t> head;
    append_varint(head, number);
    append_varint(head, groups);
    append_bytes(head, 0, 4);   // the check
    const size_t checked = head.size();
    for (size_t l = 0; l < lanes; l += 8) {
        uint8_t map = 0;
        for (size_t k = 0; k < 8; ++k) map |= static_cast<uint8_t>((x[l + k] >> 40 != 0) << k);
        head.push_back(map);
    }
    for (size_t l = 0; l < lanes; ++l) append_bytes(head, x[l], 5);
    for (size_t l = 0; l < lanes; ++l)
        if (x[l] >> 40) head.push_back(static_cast<uint8_t>(x[l] >> 40));
    Bytes out = words.finish(head);
    const uint32_t hash = stream_check(number, groups, out.data() + checked, out.size() - checked);
    for (size_t b = 0; b < 4; ++b) out.data()[checked - 4 + b] = static_cast<uint8_t>(hash >> (8 * b));
    return out;
}

StreamReader::StreamReader(const uint8_t* data, size_t size) {
    const uint8_t *p = data, *end = data + size;
    const uint64_t head = read_varint(p, end);
    const int code = static_cast<int>(head & 3);
    has_count_ = head & 4;
    count_ = head >> 3;
    if (!has_count_ && count_) throw BitstreamError("the head of the coded stream is damaged");
    const auto take = [&](size_t bytes) {
        if (static_cast<size_t>(end - p) < bytes)
            throw BitstreamError("the coded stream ends inside its states (it is truncated)");
        const uint8_t* q = p;
        p += bytes;
        return q;
    };
    const auto number = [](const uint8_t* q, size_t bytes) {
        uint64_t value = 0;
        for (size_t b = 0; b < bytes; ++b) value |= static_cast<uint64_t>(q[b]) << (8 * b);
        return value;
    };
    lanes_ = kLaneCounts[code];
    if (code) {
        groups_left_ = read_varint(p, end);
        const auto check = static_cast<uint32_t>(number(take(4), 4));
        if (groups_left_ == 0 || stream_check(head, groups_left_, p, static_cast<size_t>(end - p)) != check)
            throw BitstreamError("the coded stream is damaged or truncated (its check does not fit)");
        const uint8_t* map = take(static_cast<size_t>(lanes_) / 8);
        for (int l = 0; l < lanes_; ++l) x_[l] = number(take(5), 5);
        for (int l = 0; l < lanes_; ++l)
            if (map[l / 8] >> (l % 8) & 1) {
                const uint64_t top = *take(1);
                if (!top) throw BitstreamError("the states of the coded stream are damaged");
                x_[l] |= top << 40;
            }
        for (int l = 0; l < lanes_; ++l)
            if (x_[l] < kLow) throw BitstreamError("the states of the coded stream are damaged");
    } else {
        checks_events_ = true;
        const size_t left = static_cast<size_t>(end - p), bytes = left < 5 ? left : left % 2 ? 5 : 6;
        x_[0] = bytes ? number(take(bytes), bytes) : kStart;
        if (x_[0] < kStart || x_[0] >> (8 * bytes - 8 * (bytes > 0)) == 0 || (left > 4 && x_[0] < kLow) ||
            (bytes && left == bytes && x_[0] == kStart))
            throw BitstreamError("the states of the coded stream are damaged");
    }
    const size_t left = static_cast<size_t>(end - p);
    if (left % 2) throw BitstreamError("the coded stream has an odd number of bytes behind its states");
    words_end_ = left / 2;
    memory_ = allocate(2 * (words_end_ + 2 * kMaxLanes));
    words_ = reinterpret_cast<uint16_t*>(memory_.get());
    if (left) std::memcpy(words_, p, left);
    to_or_from_little_endian(words_, words_end_);
    std::fill_n(words_ + words_end_, 2 * kMaxLanes, uint16_t{0});
}

uint16_t StreamReader::next_word() {
    if (forked_position_ < forked_.size()) return forked_[forked_position_++];
    if (position_ >= words_end_)
        throw BitstreamError("the coded stream ends too early (it is truncated or damaged)");
    return words_[position_++];
}

void StreamReader::leave_bulk() {
    forked_.clear();
    for (int l = 1; l < lanes_; ++l) {
        if (x_[l] >> 32 != 1) throw BitstreamError("the coded stream is damaged (a lane does not end where it began)");
        forked_.push_back(static_cast<uint16_t>(x_[l] >> 16));
        forked_.push_back(static_cast<uint16_t>(x_[l]));
    }
    lane_ = 0;
    lanes_ = 1;
}

void StreamReader::advance(uint32_t start, uint32_t frequency) {
    uint64_t& x = x_[lane_];
    if (checks_events_) check_ = add_event(check_, start);
    x = frequency * (x >> 16) + (x & 0xffff) - start;
    if (x < kLow) {
        if (lanes_ > 1) {
            x = x << 16 | next_word();
        } else if (forked_position_ < forked_.size() || position_ < words_end_) {
            x = x << 16 | next_word();
        }
    }
    step_lane();
}

void StreamReader::step_lane() {
    if (lanes_ == 1) return;
    if (++lane_ < lanes_) return;
    lane_ = 0;
    if (--groups_left_ == 0) leave_bulk();
}

void StreamReader::decode(const TableView& t, const int32_t* index, int32_t* out, size_t n) {
    const int shift = 16 - t.bucket_bits;
    size_t i = 0;
    while (i < n) {
        if (at_group_start() && n - i >= static_cast<size_t>(lanes_)) {
            const size_t groups = std::min(groups_left_, (n - i) / static_cast<size_t>(lanes_));
            const size_t step = groups * static_cast<size_t>(lanes_);
            run_groups(groups, [&](DecodeJob& job, size_t g) {
                return index ? kernels().decode_indexed(job, t, index + i, out + i, g)
                             : kernels().decode_static(job, t, out + i, g);
            });
            i += step;
            continue;
        }
        const uint32_t table = index ? static_cast<uint32_t>(index[i]) : 0, s = slot();
        const uint64_t b = t.bucket[(static_cast<size_t>(table) << t.bucket_bits) + (s >> shift)];
        uint32_t start = b & 0xffff, less = b >> 16 & 0xffff;
        int32_t value = static_cast<int32_t>(b >> 32);
        if (s - start > less) {
            const int32_t size = t.size[table];
            int32_t k = value - t.offset[table];
            const Op* row = t.entry + t.first[table];
            do ++k;
            while (s - op_start(row[k]) > (row[k] >> 16));
            start = op_start(row[k]);
            less = row[k] >> 16;
            value = k < size ? t.offset[table] + k : kEscaped;
        }
        out[i++] = value;
        advance(start, less + 1);
    }
}

void StreamReader::decode_two(StreamReader& one, StreamReader& two, const TableView& t, int32_t* out_one, size_t n_one,
                              int32_t* out_two, size_t n_two) {
    const auto kernel = kernels().decode_two;
    if (kernel && t.small && one.lanes_ == 64 && two.lanes_ == 64 && one.at_group_start() && two.at_group_start()) {
        const size_t groups = std::min({one.groups_left_, two.groups_left_, n_one / 64, n_two / 64});
        size_t done = 0;
        one.run_groups(groups, [&](DecodeJob& first, size_t) {
            two.run_groups(groups, [&](DecodeJob& second, size_t g) {
                return done = kernel(first, second, t, out_one, out_two, g);
            });
            return done;
        });
        out_one += 64 * groups;
        out_two += 64 * groups;
        n_one -= 64 * groups;
        n_two -= 64 * groups;
    }
    one.decode(t, nullptr, out_one, n_one);
    two.decode(t, nullptr, out_two, n_two);
}

void StreamReader::decode_bits(const uint16_t* p1, uint8_t* out, size_t n) {
    size_t i = 0;
    while (i < n) {
        if (at_group_start() && n - i >= static_cast<size_t>(lanes_)) {
            const size_t groups = std::min(groups_left_, (n - i) / static_cast<size_t>(lanes_));
            const size_t step = groups * static_cast<size_t>(lanes_);
            run_groups(groups, [&](DecodeJob& job, size_t g) { return kernels().decode_bits(job, p1 + i, out + i, g); });
            i += step;
            continue;
        }
        const uint32_t p = p1[i];
        const bool one = slot() < p;
        out[i++] = one;
        one ? advance(0, p) : advance(p, 65536 - p);
    }
}

void StreamReader::decode_rows(const RowView& t, const int32_t* row, int32_t* out, size_t n) {
    size_t i = 0;
    while (i < n) {
        if (at_group_start() && n - i >= static_cast<size_t>(lanes_)) {
            const size_t groups = std::min(groups_left_, (n - i) / static_cast<size_t>(lanes_));
            const size_t step = groups * static_cast<size_t>(lanes_);
            const DecodeRows kernel = decode_rows_kernel();
            run_groups(groups, [&](DecodeJob& job, size_t g) { return kernel(job, t, row + i, out + i, g); });
            i += step;
            continue;
        }
        const uint16_t* start = t.start + static_cast<size_t>(row[i]) * static_cast<size_t>(t.stride);
        const uint16_t* behind = std::upper_bound(start, start + t.symbols, static_cast<uint16_t>(slot()));
        const auto k = static_cast<int>(behind - start) - 1;
        out[i++] = k;
        advance(start[k], (k + 1 < t.symbols ? start[k + 1] : 65536u) - start[k]);
    }
}

void StreamReader::decode_raw(int width, uint32_t* out, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        uint32_t value = 0;
        for (int done = 0; done < width;) {
            const int bits = std::min(16, width - done);
            const uint32_t part = slot() >> (16 - bits);
            value |= part << done;
            advance(part << (16 - bits), 1u << (16 - bits));
            done += bits;
        }
        out[i] = value;
    }
}

void StreamReader::finish() {
    if (lanes_ > 1 || groups_left_ || position_ != words_end_ || forked_position_ != forked_.size() ||
        x_[0] != (kStart | check_))
        throw BitstreamError("the coded stream does not end where its symbols do (it is damaged, or was made with "
                             "other tables or another number of symbols)");
}

}  // namespace cbench
