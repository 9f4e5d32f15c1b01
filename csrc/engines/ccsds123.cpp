#include "ccsds123.hpp"

#include <algorithm>

namespace cbench {

Ccsds123::Ccsds123(const CcsdsParams& params)
    : p_(params), high_(params.low + static_cast<int32_t>((int64_t{1} << params.depth) - 1)),
      middle_(params.low + (int32_t{1} << (params.depth - 1))), step_(2 * params.delta + 1),
      weights_(static_cast<size_t>(params.bands) * (params.previous_bands + 3), 0),
      above_(static_cast<size_t>(params.bands) * params.columns, 0),
      differences_(static_cast<size_t>(params.previous_bands + 1) * params.columns, 0), statistics_(params.bands) {
    // The nearest band starts with 7/8, every further one with an eighth of the one before it.
    for (int z = 0; z < p_.bands; ++z) {
        int32_t* w = weights_.data() + static_cast<size_t>(z) * (p_.previous_bands + 3) + 3;
        int32_t value = (int32_t{7} << p_.omega) >> 3;
        for (int i = 0; i < std::min(z, p_.previous_bands); ++i, value >>= 3) w[i] = value;
    }
}

// How far a quantised residual can go down and up from a prediction; the first sample of a band is never quantised.
void Ccsds123::limits(int64_t prediction, bool first, int32_t& below, int32_t& above) const {
    const int32_t down = static_cast<int32_t>(prediction) - p_.low, up = high_ - static_cast<int32_t>(prediction);
    below = first || !p_.delta ? down : (down + p_.delta) / step_;
    above = first || !p_.delta ? up : (up + p_.delta) / step_;
}

uint32_t Ccsds123::map(int32_t q, int64_t prediction, bool odd, bool first) const {
    int32_t below, above;
    limits(prediction, first, below, above);
    const int32_t theta = std::min(below, above), size = q < 0 ? -q : q;
    if (size > theta) return static_cast<uint32_t>(theta + size);
    const int32_t turned = odd ? -q : q;
    return turned >= 0 ? 2u * static_cast<uint32_t>(size) : 2u * static_cast<uint32_t>(size) - 1;
}

int32_t Ccsds123::unmap(uint32_t mapped, int64_t prediction, bool odd, bool first) const {
    int32_t below, above;
    limits(prediction, first, below, above);
    if (mapped > static_cast<uint32_t>(below) + static_cast<uint32_t>(above))
        throw BitstreamError("the coded stream holds a sample outside its range (it is damaged)");
    const int32_t theta = std::min(below, above);
    if (mapped > 2u * static_cast<uint32_t>(theta)) {
        const int32_t size = static_cast<int32_t>(mapped) - theta;
        return below < above ? size : -size;
    }
    const int32_t turned = mapped & 1 ? -static_cast<int32_t>((mapped + 1) >> 1) : static_cast<int32_t>(mapped >> 1);
    return odd ? -turned : turned;
}

template <class Put>
void Ccsds123::encode_with(const int32_t* line, int32_t* restored, Put&& put) {
    run(restored, [&](int z, int x, int64_t prediction, bool odd, bool first) {
        const int32_t s = line[static_cast<size_t>(z) * p_.columns + x];
        const int32_t error = s - static_cast<int32_t>(prediction);
        int32_t q = error;
        if (p_.delta && !first) q = error < 0 ? -((p_.delta - error) / step_) : (error + p_.delta) / step_;
        put(z, x, map(q, prediction, odd, first));
        return q;
    });
}

template <class Get>
void Ccsds123::decode_with(int32_t* line, Get&& get) {
    run(line, [&](int z, int x, int64_t prediction, bool odd, bool first) {
        return unmap(get(z, x), prediction, odd, first);
    });
}

void Ccsds123::encode(const int32_t* line, int32_t* restored, BitWriter& out) {
    encode_with(line, restored, [&](int z, int, uint32_t m) { statistics_[z].encode(out, m, p_.golomb); });
}

void Ccsds123::decode(BitReader& in, int32_t* line) {
    decode_with(line, [&](int z, int) { return statistics_[z].decode(in, p_.golomb); });
}

void Ccsds123::predict(const int32_t* line, int32_t* restored, uint16_t* mapped, size_t stride) {
    encode_with(line, restored, [&](int z, int x, uint32_t m) { mapped[z * stride + x] = static_cast<uint16_t>(m); });
}

void Ccsds123::restore(const uint16_t* mapped, size_t stride, int32_t* line) {
    decode_with(line, [&](int z, int x) { return uint32_t{mapped[z * stride + x]}; });
}

template <class Code>
void Ccsds123::run(int32_t* line, Code&& code) {
    for (int z = 0; z < p_.bands; ++z) {
        switch (std::min(z, p_.previous_bands)) {   // fixed counts let the compiler unroll the usual cases
            case 0: run_band<0>(z, line, code); break;
            case 1: run_band<1>(z, line, code); break;
            case 2: run_band<2>(z, line, code); break;
            case 3: run_band<3>(z, line, code); break;
            default: run_band<-1>(z, line, code);
        }
    }
    std::copy(line, line + above_.size(), above_.begin());
    ++line_;
}

template <int kCount, class Code>
void Ccsds123::run_band(int z, int32_t* line, Code&& code) {
    const int count = kCount >= 0 ? kCount : std::min(z, p_.previous_bands), total = count + 3;
    const int nx = p_.columns, omega = p_.omega;
    const int64_t y = line_;
    int32_t w[kMaxPrevious + 3] = {}, u[kMaxPrevious + 3] = {};
    int32_t* kept = weights_.data() + static_cast<size_t>(z) * (p_.previous_bands + 3);
    std::copy(kept, kept + total, w);
    int32_t* s = line + static_cast<size_t>(z) * nx;
    const int32_t* n = above_.data() + static_cast<size_t>(z) * nx;
    const auto ring = [&](int band) {
        return differences_.data() + static_cast<size_t>(band % (p_.previous_bands + 1)) * nx;
    };
    int32_t* own = ring(z);
    const int32_t* before[kMaxPrevious] = {};
    for (int i = 0; i < count; ++i) before[i] = ring(z - 1 - i);

    const int32_t w_min = -(int32_t{1} << (omega + 2)), w_max = (int32_t{1} << (omega + 2)) - 1;
    const int64_t unit = int64_t{1} << (omega + 2);
    const int64_t s_low = p_.low * unit, s_high = high_ * unit + unit / 2, s_mid = middle_ * unit + unit / 2;

    for (int x = 0; x < nx; ++x) {
        const bool first = y == 0 && x == 0;
        int32_t sigma = 0;
        u[0] = u[1] = u[2] = 0;
        if (y > 0) {
            const int32_t north = n[x];
            if (nx == 1) sigma = 4 * north;
            else if (x == 0) sigma = 2 * (north + n[1]);
            else if (x == nx - 1) sigma = s[x - 1] + n[x - 1] + 2 * north;
            else sigma = s[x - 1] + n[x - 1] + north + n[x + 1];
            u[0] = 4 * north - sigma;
            u[1] = 4 * (x ? s[x - 1] : north) - sigma;
            u[2] = 4 * (x ? n[x - 1] : north) - sigma;
        } else if (x > 0) {
            sigma = 4 * s[x - 1];
        }
        int64_t twice;   // double-resolution predicted sample value
        if (first) {
            twice = 2 * int64_t{z && p_.previous_bands ? line[static_cast<size_t>(z - 1) * nx] : middle_};
        } else {
            int64_t d = 0;
            for (int i = 0; i < 3; ++i) d += int64_t{w[i]} * u[i];
            for (int i = 0; i < count; ++i) {
                u[3 + i] = before[i][x];
                d += int64_t{w[3 + i]} * u[3 + i];
            }
            d += (int64_t{sigma} - 4 * int64_t{middle_}) * (int64_t{1} << omega) + s_mid;
            d = d < s_low ? s_low : d > s_high ? s_high : d;
            twice = d >> (omega + 1);
        }
        const int64_t prediction = twice >> 1;
        const int32_t q = code(z, x, prediction, (twice & 1) != 0, first);
        const int64_t value = prediction + int64_t{q} * (first ? 1 : step_);
        const int32_t sample = static_cast<int32_t>(value < p_.low ? p_.low : value > high_ ? high_ : value);
        s[x] = sample;
        own[x] = first ? 0 : 4 * sample - sigma;
        if (first) continue;

        const int64_t age = (y * nx + x - nx) >> p_.t_inc_log;
        const int64_t v = p_.v_min + age;
        const int rho = static_cast<int>(v < p_.v_min ? p_.v_min : v > p_.v_max ? p_.v_max : v) + p_.depth - omega;
        const bool negative = 2 * int64_t{sample} < twice;
        for (int i = 0; i < total; ++i) {
            const int64_t turned = negative ? -int64_t{u[i]} : int64_t{u[i]};
            const int64_t change =
                rho >= 0 ? (turned + (int64_t{1} << rho)) >> (rho + 1) : (turned * (int64_t{1} << -rho) + 1) >> 1;
            const int64_t next = w[i] + change;
            w[i] = static_cast<int32_t>(next < w_min ? w_min : next > w_max ? w_max : next);
        }
    }
    std::copy(w, w + total, kept);
}

}  // namespace cbench
