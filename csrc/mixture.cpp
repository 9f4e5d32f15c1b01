#include "mixture.hpp"

#include <string>

namespace cbench {

namespace {

// exp(x) for -128 <= x <= 0 from + and * alone: the same bits on every machine.
double exponential(double x) {
    const double y = x / 1024;
    double term = 1, sum = 1;
    for (int i = 1; i < 12; ++i) sum += term *= y / i;
    for (int i = 0; i < 10; ++i) sum *= sum;
    return sum;
}

double logistic_cdf(double z) { return 1 / (1 + exponential(-z)); }

double gaussian_cdf(double z) {
    if (z > 7) return 1;   // nearer to 1 than the table's unit
    double term = z, sum = z;
    for (int i = 3; i < 200; i += 2) sum += term *= z * z / i;
    return 0.5 + sum * exponential(-z * z / 2) * 0.3989422804014327;
}

struct CdfTables {
    uint32_t entry[2][kCdfSteps];
    CdfTables() {
        for (int family = 0; family < 2; ++family) {
            const auto value = [&](int i) {
                const double z = i / 32.0, g = family ? gaussian_cdf(z) : logistic_cdf(z);
                return std::min(65535u, static_cast<uint32_t>(g * 65536 + 0.5));
            };
            for (int i = 0; i < kCdfSteps; ++i) entry[family][i] = value(i) << 16 | (value(i + 1) - value(i));
        }
    }
};

const uint32_t* cdf_table(Family family) {
    static const CdfTables tables;
    return tables.entry[family == Family::kGaussian];
}

}  // namespace

const uint32_t* logistic_table() { return cdf_table(Family::kLogistic); }

Mixture::Mixture(const int32_t* mean, const uint8_t* scale, const uint16_t* weight, size_t n, size_t components,
                 int32_t low, int32_t size, Family family)
    : n_(n), weight_(n * components) {
    if (components < 1 || components > kMaxComponents) throw ArgumentError("a mixture has 1 to 64 components");
    if (size < 1 || size > 32768) throw ArgumentError("a mixture covers 1 to 32768 values");
    if (low < -(1 << 20) || low > 1 << 20) throw ArgumentError("a mixture's lowest value must lie within +-2^20");
    for (size_t i = 0; i < n * components; ++i)
        if (mean[i] < -(1 << 29) || mean[i] > 1 << 29) throw ArgumentError("a mixture's means must lie within +-2^21");
    std::vector<uint32_t> sum(n, 0), heaviest(n, 0);
    for (size_t j = 0; j < components; ++j)
        for (size_t i = 0; i < n; ++i) {
            const uint32_t w = weight ? weight[j * n + i] : 1;
            if (w > (weight ? weight[heaviest[i] * n + i] : 1u)) heaviest[i] = static_cast<uint32_t>(j);
            sum[i] += w;
        }
    std::vector<uint32_t> rest(n, 65536);
    for (size_t j = 0; j < components; ++j)
        for (size_t i = 0; i < n; ++i) {
            if (!sum[i]) throw ArgumentError("a mixture whose weights are all zero has no distribution");
            const uint64_t w = weight ? weight[j * n + i] : 1;
            rest[i] -= weight_[j * n + i] = static_cast<uint32_t>((w << 16) / sum[i]);
        }
    for (size_t i = 0; i < n; ++i) weight_[heaviest[i] * n + i] += rest[i];
    view_ = {mean, scale, weight_.data(), cdf_table(family), n, static_cast<int>(components), low, size};
}

void MixtureSource::resolve(size_t first, size_t count, Op* ops) {
    const MixtureView& m = mixture_.view();
    const auto interval = mixture_kernels().interval;
    constexpr size_t kBlock = 256;
    int32_t k[kBlock];
    uint32_t from[kBlock], to[kBlock];
    for (size_t done = 0; done < count; done += kBlock) {
        const size_t n = std::min(kBlock, count - done), at = first + done;
        for (size_t i = 0; i < n; ++i) {
            k[i] = symbols_[at + i] - m.low;
            if (k[i] < 0 || k[i] >= m.size)
                throw ArgumentError("symbol " + std::to_string(symbols_[at + i]) + " at position " +
                                    std::to_string(at + i) + " lies outside the mixture's range");
        }
        interval(m, at, k, n, from, to);
        for (size_t i = 0; i < n; ++i) ops[done + i] = make_op(from[i], to[i] - from[i]);
    }
}

void read_mixture(StreamReader& in, const Mixture& mixture, int32_t* out, size_t first, size_t count) {
    const MixtureView& m = mixture.view();
    const auto search = mixture_kernels().search;
    uint32_t slot[kMaxLanes], from[kMaxLanes], to[kMaxLanes];
    int32_t k[kMaxLanes];
    for (size_t i = 0; i < count;) {
        const auto lanes = static_cast<size_t>(in.lanes());
        if (in.at_group_start() && count - i >= lanes) {
            const size_t groups = std::min(in.groups_left(), (count - i) / lanes);
            in.run_groups(groups, [&](DecodeJob& job, size_t wanted) {
                size_t g = 0;
                for (; g < wanted && job.word <= job.limit; ++g, i += lanes) {
                    for (size_t l = 0; l < lanes; ++l) slot[l] = static_cast<uint32_t>(job.x[l] & 0xffff);
                    search(m, first + i, slot, lanes, k, from, to);
                    for (size_t l = 0; l < lanes; ++l) {
                        uint64_t& x = job.x[l];
                        x = (to[l] - from[l]) * (x >> 16) + slot[l] - from[l];
                        const uint64_t low = x < kLow;
                        x = x << (low << 4) | (*job.word & (0 - low));
                        job.word += low;
                        out[i + l] = m.low + k[l];
                    }
                }
                return g;
            });
            continue;
        }
        slot[0] = in.slot();
        search(m, first + i, slot, 1, k, from, to);
        in.advance(from[0], to[0] - from[0]);
        out[i++] = m.low + k[0];
    }
}

}  // namespace cbench
