// AVX-512 kernels, encoding: eight lanes a register.
#include "avx512.hpp"
#include "passes.hpp"


namespace cbench {
namespace avx512 {

// For every mask: the byte shuffle that moves the marked 16-bit words to the end of a 128-bit register, in order.
struct AlignRight {
    alignas(64) uint8_t shuffle[256][16];
    constexpr AlignRight() : shuffle() {
        for (int mask = 0; mask < 256; ++mask) {
            for (int b = 0; b < 16; ++b) shuffle[mask][b] = 0x80;
            int to = 8 - __builtin_popcount(static_cast<unsigned>(mask));
            for (int l = 0; l < 8; ++l)
                if (mask >> l & 1) {
                    shuffle[mask][2 * to] = static_cast<uint8_t>(2 * l);
                    shuffle[mask][2 * to + 1] = static_cast<uint8_t>(2 * l + 1);
                    ++to;
                }
        }
    }
};
constexpr AlignRight kAlignRight;

template <int R>
uint16_t* encode_lanes(uint64_t* state, const Op* ops, size_t groups, uint16_t* word) {
    __m512i x[R];
    for (int r = 0; r < R; ++r) x[r] = _mm512_loadu_si512(state + 8 * r);
    const __m512i low16 = _mm512_set1_epi64(0xffff), one = _mm512_set1_epi64(1), total = _mm512_set1_epi64(65536);
    for (size_t g = groups; g-- > 0;) {
        const Op* op = ops + g * 8 * R;
        for (int r = R - 1; r >= 0; --r) {
            const __m512i e = _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(op + 8 * r)));
            const __m512i start = _mm512_and_si512(e, low16), f = _mm512_add_epi64(_mm512_srli_epi64(e, 16), one);
            const __mmask8 full = _mm512_cmpge_epu64_mask(x[r], _mm512_slli_epi64(f, 32));
            const __m128i out = _mm_shuffle_epi8(
                _mm512_cvtepi64_epi16(x[r]), _mm_load_si128(reinterpret_cast<const __m128i*>(kAlignRight.shuffle[full])));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(word - 8), out);
            word -= _mm_popcnt_u32(full);
            x[r] = _mm512_mask_srli_epi64(x[r], full, x[r], 16);
            const __m512i q =
                _mm512_cvttpd_epu64(_mm512_div_pd(_mm512_cvtepu64_pd(x[r]), _mm512_cvtepu64_pd(f)));
            x[r] = _mm512_add_epi64(_mm512_add_epi64(x[r], start), _mm512_mul_epu32(q, _mm512_sub_epi64(total, f)));
        }
    }
    for (int r = 0; r < R; ++r) _mm512_storeu_si512(state + 8 * r, x[r]);
    return word;
}

uint16_t* encode(uint64_t* x, int lanes, const Op* ops, size_t groups, uint16_t* end) {
    return lanes == 64   ? encode_lanes<8>(x, ops, groups, end)
           : lanes == 32 ? encode_lanes<4>(x, ops, groups, end)
                         : encode_lanes<1>(x, ops, groups, end);
}

// One table of at most 256 slots: its bytes are looked up in registers.
size_t resolve_small(const TableView& t, const int32_t* symbols, size_t n, Op* ops) {
    const Bytes256 start_low(t.small->start_low), start_high(t.small->start_high), less_low(t.small->less_low),
        less_high(t.small->less_high);
    const __m512i size = _mm512_set1_epi32(t.size[0]), offset = _mm512_set1_epi32(t.offset[0]);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i k[4];
        __mmask16 outside = 0;
        for (int q = 0; q < 4; ++q) {
            prefetch_before(symbols + i + 16 * q);
            k[q] = _mm512_sub_epi32(_mm512_loadu_si512(symbols + i + 16 * q), offset);
            outside |= _mm512_cmpge_epu32_mask(k[q], size);
        }
        if (outside) {
            if (!t.escape) break;
            for (auto& part : k) part = _mm512_min_epu32(part, size);
        }
        // Packing interleaves 128-bit parts; unpacking undoes exactly that.
        const __m512i at = _mm512_packus_epi16(_mm512_packus_epi32(k[0], k[1]), _mm512_packus_epi32(k[2], k[3]));
        const __m512i sl = start_low(at), sh = start_high(at), ll = less_low(at), lh = less_high(at);
        const __m512i start0 = _mm512_unpacklo_epi8(sl, sh), start1 = _mm512_unpackhi_epi8(sl, sh);
        const __m512i less0 = _mm512_unpacklo_epi8(ll, lh), less1 = _mm512_unpackhi_epi8(ll, lh);
        _mm512_storeu_si512(ops + i, _mm512_unpacklo_epi16(start0, less0));
        _mm512_storeu_si512(ops + i + 16, _mm512_unpackhi_epi16(start0, less0));
        _mm512_storeu_si512(ops + i + 32, _mm512_unpacklo_epi16(start1, less1));
        _mm512_storeu_si512(ops + i + 48, _mm512_unpackhi_epi16(start1, less1));
    }
    return resolve_from(i, t, symbols, nullptr, n, ops);
}

// 64 numbers in four registers.
struct Table64 {
    __m512i part[4];
    Table64(const int32_t* table, int n) {
        alignas(64) int32_t all[64] = {};
        std::memcpy(all, table, sizeof(int32_t) * static_cast<size_t>(n));
        for (int i = 0; i < 4; ++i) part[i] = _mm512_load_si512(all + 16 * i);
    }
    __m512i operator()(__m512i at, __mmask16 upper) const {
        return _mm512_mask_blend_epi32(upper, _mm512_permutex2var_epi32(part[0], at, part[1]),
                                       _mm512_permutex2var_epi32(part[2], at, part[3]));
    }
};

// At most 64 tables: what belongs to a table comes from registers, so that one gather a symbol remains.
size_t resolve_64(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    const Table64 first(t.first, t.tables), size(t.size, t.tables), offset(t.offset, t.tables);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        prefetch_before(symbols + i);
        prefetch_before(index + i);
        const __m512i table = _mm512_loadu_si512(index + i);
        const __mmask16 upper = _mm512_cmpgt_epu32_mask(table, _mm512_set1_epi32(31));
        const __m512i most = size(table, upper);
        __m512i k = _mm512_sub_epi32(_mm512_loadu_si512(symbols + i), offset(table, upper));
        if (_mm512_cmpge_epu32_mask(k, most)) {
            if (!t.escape) break;
            k = _mm512_min_epu32(k, most);
        }
        _mm512_storeu_si512(ops + i, _mm512_i32gather_epi32(_mm512_add_epi32(first(table, upper), k), t.entry, 4));
    }
    return resolve_from(i, t, symbols, index, n, ops);
}

size_t resolve(const TableView& t, const int32_t* symbols, const int32_t* index, size_t n, Op* ops) {
    if (n >= 64 && !index && t.small) return resolve_small(t, symbols, n, ops);
    if (n >= 64 && index && t.tables <= 64) return resolve_64(t, symbols, index, n, ops);
    return resolve_plain(t, symbols, index, n, ops);
}

}  // namespace avx512

extern const Kernels kAvx512;
const Kernels kAvx512 = {"avx512",
                         avx512::encode,
                         avx512::resolve,
                         resolve_bits,
                         avx512::decode_static,
                         avx512::decode_indexed,
                         avx512::decode_bits,
                         avx512::decode_two,
                         largest,
                         all_bits,
                         least,
                         sum,
                         hash_blocks};

}  // namespace cbench
