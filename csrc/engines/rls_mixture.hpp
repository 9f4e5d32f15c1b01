// The distribution of one sample - Gaussians around the predictions and a spike - as intervals of the range coder.
// Internal linkage, see lanes.hpp.
//
// The cumulative distribution comes from a table with linear interpolation. Each step of its evaluation is a correctly
// rounded operation that never decreases with its argument, so that the cumulative counts cannot decrease either, on
// any machine; one count a symbol is added to make them increase.
#pragma once
#include "lanes.hpp"
#include "rls.hpp"

namespace cbench::rls {
namespace {

// Three around every prediction, the others around the last one.
constexpr double kWidths[6] = {1.0, 0.5, 1.9, 4.0, 12.0, 40.0};
constexpr double kMixtureRate = 0.01, kSpikeRate = 0.01;

struct Spike {
    int32_t value = 0;
    int context = -1;       // -1: none
    double weight = 0.0;
};

// A coded sample: quantiser bin number, what the decoder gives, its edges and the Gaussians' shares below them.
struct Bin {
    int32_t index = 0, out = 0;
    bool spike = false;
    double lower_edge = 0.0, upper_edge = 0.0, lower_share = 0.0, upper_share = 0.0;
    F8 below[kSlots / kLanes], up_to[kSlots / kLanes];
};

struct Edge {
    uint64_t count = 0;
    double at = 0.0, share = 0.0;
    F8 part[kSlots / kLanes];
};

struct Mixture {
    Model& m;
    const Spike& spike;
    double* weight;
    int context;
    double best, inverse;
    int32_t anchor;
    int64_t lowest, symbols;            // bin number of the first symbol; how many there are
    double top;
    F8 centre_[kSlots / kLanes], inverse_[kSlots / kLanes];

    Mixture(Model& model, int scale_context, const double* guess, double point, double inverse_deviation,
            const Spike& s);
    double share(double at, F8* part) const;
    void edge(int64_t symbol, Edge& e) const;
    Bin bin(int64_t symbol, const Edge& a, const Edge& b) const;
    Bin encode(RangeState& coder, int32_t sample) const;
    Bin decode(RangeState& coder, bool sure) const;
    double centre(const Bin& b) const;
    void learn(const Bin& b);
    void learn_spike(const Bin& b);
};

CBENCH_INLINE Mixture::Mixture(Model& model, int scale_context, const double* guess, double point,
                               double inverse_deviation, const Spike& s)
    : m(model), spike(s), weight(model.weight[scale_context]), context(scale_context), best(point),
      inverse(inverse_deviation) {
    // Near-lossless bins line up with a likely repeated value, so that it is given back exactly.
    const int32_t rounded = static_cast<int32_t>(point + 65536.5) - 65536;
    anchor = m.delta > 0 && spike.context >= 0 && spike.weight > 0.3 ? spike.value : rounded;
    lowest = -((static_cast<int64_t>(anchor) - m.low + m.delta) / m.step);
    symbols = (static_cast<int64_t>(m.high) - anchor + m.delta) / m.step - lowest + 1;
    top = static_cast<double>(static_cast<int64_t>(kTotal) - symbols);
    alignas(64) double centres[kSlots], inverses[kSlots];
    const int around = m.experts + 1;
    int slot = 0;
    for (int j = 0; j < 3; ++j) {
        const double width = inverse * (32.0 / kWidths[j]);
        for (int k = 0; k < around; ++k, ++slot) {
            centres[slot] = k < m.experts ? guess[k] : best;
            inverses[slot] = width;
        }
    }
    for (int j = 3; slot < m.slots; ++j, ++slot) centres[slot] = best, inverses[slot] = inverse * (32.0 / kWidths[j]);
    for (; slot < m.groups * kLanes; ++slot) centres[slot] = best, inverses[slot] = inverse;
    for (int g = 0; g < m.groups; ++g) {
        centre_[g] = load(centres + g * kLanes);
        inverse_[g] = load(inverses + g * kLanes);
    }
}

// Share of the mixture of Gaussians below `at`, and that of each Gaussian.
CBENCH_INLINE double Mixture::share(double at, F8* part) const {
    F8 total = all(0.0);
    for (int g = 0; g < m.groups; ++g) {
        F8 y = (all(at) - centre_[g]) * inverse_[g] + all(kCells / 2);
        y = upper(lower(y, all(kCells - 0.001)), all(0.0));
        const F8 shifted = (y - all(0.5)) + all(kRound);
        F8 start, rise;
        look_up(m.normal, masked(bits_of(shifted), kCells - 1), start, rise);
        part[g] = start + rise * (y - (shifted - all(kRound)));
        total = total + part[g] * load(weight + g * kLanes);
    }
    return sum(total);
}

CBENCH_INLINE void Mixture::edge(int64_t symbol, Edge& e) const {
    e.at = static_cast<double>(anchor + (symbol + lowest) * m.step - m.delta) - 0.5;
    if (symbol <= 0 || symbol >= symbols) {
        e.share = symbol <= 0 ? 0.0 : 1.0;
        e.count = symbol <= 0 ? 0 : kTotal;
        for (int g = 0; g < m.groups; ++g) e.part[g] = all(e.share);
        return;
    }
    e.share = share(e.at, e.part);
    const double both = e.share * (1.0 - spike.weight) + (e.at > spike.value ? spike.weight : 0.0);
    e.count = static_cast<uint64_t>(static_cast<int64_t>((both < 1.0 ? both : 1.0) * top) + symbol);
}

CBENCH_INLINE Bin Mixture::bin(int64_t symbol, const Edge& a, const Edge& b) const {
    Bin out;
    out.index = static_cast<int32_t>(symbol);
    const int64_t value = anchor + (symbol + lowest) * m.step;
    out.out = static_cast<int32_t>(value < m.low ? m.low : value > m.high ? m.high : value);
    out.lower_edge = a.at, out.upper_edge = b.at, out.lower_share = a.share, out.upper_share = b.share;
    for (int g = 0; g < m.groups; ++g) out.below[g] = a.part[g], out.up_to[g] = b.part[g];
    out.spike = spike.context >= 0 && a.at < spike.value && spike.value < b.at;
    return out;
}

CBENCH_INLINE Bin Mixture::encode(RangeState& coder, int32_t sample) const {
    const int32_t from = sample - anchor;
    const int32_t q = from >= 0 ? (from + m.delta) / m.step : -((m.delta - from) / m.step);
    const int64_t symbol = q - lowest;
    Edge a, b;
    edge(symbol, a);
    edge(symbol + 1, b);
    range_encode(coder, a.count, b.count - a.count);
    return bin(symbol, a, b);
}

// Looks for the symbol between whose edges the target lies. How it looks does not matter for what it finds.
CBENCH_INLINE Bin Mixture::decode(RangeState& coder, bool sure) const {
    const uint64_t target = range_target(coder);
    Edge a, b, probe;
    edge(0, a);
    edge(symbols, b);
    int64_t low = 0, high = symbols;
    const double cell = static_cast<double>(target) * (256.0 / static_cast<double>(kTotal));
    const double* q = m.quantile + 2 * static_cast<int>(cell);
    const double z = q[0] + (q[2] - q[0]) * (cell - static_cast<double>(static_cast<int>(cell)));
    double per_count = static_cast<double>(kTotal) * q[1] * inverse * m.step;   // counts a symbol there
    const auto clipped = [](double s) { return static_cast<int64_t>(s > -1e9 ? (s < 1e9 ? s : 1e9) : -1e9); };
    const double first = (static_cast<double>(anchor) - m.delta - 0.5) / m.step + static_cast<double>(lowest);
    int64_t next = sure ? (spike.value - anchor + m.delta) / m.step - lowest
                        : clipped((best + z / inverse) / m.step - first);
    for (int tries = 0; high - low > 1; ++tries) {
        if (tries > 12) next = (low + high) / 2;
        if (next <= low) next = low + 1;
        if (next >= high) next = high - 1;
        edge(next, probe);
        const double ahead = static_cast<double>(static_cast<int64_t>(target) - static_cast<int64_t>(probe.count));
        const double move = ahead / per_count;
        if (probe.count <= target) {
            low = next, a = probe;
            next = sure && tries == 0 ? next + 1 : next + clipped(move);
        } else {
            high = next, b = probe;
            next = next + clipped(move) - 1;
        }
    }
    range_take(coder, a.count, b.count - a.count);
    return bin(low, a, b);
}

// Near-lossless: the mean of the Gaussians inside the bin, by Simpson's rule on the distribution function. It is closer
// to the true sample than the middle of the bin, and prediction is better with it.
CBENCH_INLINE double Mixture::centre(const Bin& b) const {
    const double within = b.upper_share - b.lower_share, low = b.lower_edge, width = b.upper_edge - low;
    if (!(within > 1e-7) || b.lower_share == 0.0 || b.upper_share == 1.0) return b.out;
    F8 part[kSlots / kLanes];
    const double f1 = share(low + 0.25 * width, part), f2 = share(low + 0.5 * width, part);
    const double f3 = share(low + 0.75 * width, part);
    const double area = (4.0 * (f1 + f3) + 2.0 * f2 + (b.lower_share + b.upper_share)) * (1.0 / 12.0);
    const double mean = b.upper_edge - width * ((area - b.lower_share) / within);
    return mean > m.low ? (mean < m.high ? mean : m.high) : m.low;
}

// One step of online expectation maximisation on the weights of this context.
CBENCH_INLINE void Mixture::learn(const Bin& b) {
    const double within = b.upper_share - b.lower_share;
    if (!(within > 1e-12)) return;
    double& seen = m.seen[context];
    const double early = 1.0 / (21.5 + seen), rate = early > kMixtureRate ? early : kMixtureRate;
    seen = seen + 1.0;
    const F8 gain = all(rate * 0.9999 / within), keep = all(1.0 - rate), floor = all(rate * 0.0001 / m.slots);
    for (int g = 0; g < m.groups; ++g) {
        const F8 w = load(weight + g * kLanes);
        store(weight + g * kLanes, w * keep + gain * (w * (b.up_to[g] - b.below[g])) + floor);
    }
}

CBENCH_INLINE void Mixture::learn_spike(const Bin& b) {
    const double within = b.upper_share - b.lower_share, w = spike.weight;
    const double all_in = within * (1.0 - w) + w, due = b.spike ? w / all_in : 0.0;
    double& seen = m.spike_seen[spike.context];
    const double early = 1.0 / (1.5 + seen), rate = early > kSpikeRate ? early : kSpikeRate;
    seen = seen + 1.0;
    const double next = w + rate * (due - w);
    m.spike[spike.context] = next > 1e-4 ? (next < 0.9999 ? next : 0.9999) : 1e-4;
}

}  // namespace
}  // namespace cbench::rls
