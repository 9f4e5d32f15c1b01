// State of the adaptive hyperspectral engine: memory, tables, and the start of a block.
#include <algorithm>
#include <cstring>

#include "../error.hpp"
#include "../plain_arithmetic.hpp"
#include "../simd/kernels.hpp"
#include "rls_filter.hpp"

namespace cbench::rls {

extern const RowKernels kRowPortable;
#if defined(__x86_64__)
extern const RowKernels kRowAvx2;
extern const RowKernels kRowAvx512;
#endif

namespace {

const RowKernels& chosen() {
#if defined(__x86_64__)
    for (const RowKernels* k : {&kRowAvx2, &kRowAvx512})
        if (!std::strcmp(k->name, kernels().name)) return *k;
#endif
    return kRowPortable;
}

// The normal distribution function from its power series, by + - * / alone.
double normal_share(double z) {
    const double t = z < 0 ? -z : z, y = t * t / 2;
    double e = 1, term = 1;   // exp(-y) = (exp(-y / 64))^64
    for (int i = 1; i < 24; ++i) e += term *= -y / 64 / i;
    for (int i = 0; i < 6; ++i) e *= e;
    double s = t, power = t;
    for (int i = 1; i < 200; ++i) s += power *= t * t / (2 * i + 1);
    const double half = 0.3989422804014327 * e * s;
    return z < 0 ? 0.5 - half : 0.5 + half;
}

// Pairs (share at the cell's start, increase over the cell) for z = -8 .. 8, in multiples of 2^-50: sums are exact.
std::vector<double> normal_table() {
    std::vector<double> share(kCells + 1), table(2 * kCells);
    const double grain = 1125899906842624.0;
    for (int i = 0; i <= kCells; ++i) {
        const double exact = normal_share((i - kCells / 2) / 32.0) * grain;
        share[i] = static_cast<double>(static_cast<int64_t>(exact + 0.5)) / grain;
    }
    share[0] = 0;
    share[kCells] = 1;
    for (int i = 1; i <= kCells; ++i) share[i] = std::max(share[i], share[i - 1]);
    for (int i = 0; i < kCells; ++i) {
        table[2 * i] = share[i];
        table[2 * i + 1] = share[i + 1] - share[i];
    }
    return table;
}

// Pairs (z, density) where the share is i / 256: first guesses of the decoder, not part of the format.
std::vector<double> quantile_table(const std::vector<double>& normal) {
    std::vector<double> table(2 * 258);
    for (int i = 0, cell = 0; i < 258; ++i) {
        const double want = std::min(std::max(i / 256.0, 0.0005), 0.9995);
        while (cell + 1 < kCells && normal[2 * (cell + 1)] < want) ++cell;
        const double rise = std::max(normal[2 * cell + 1], 1e-9);
        table[2 * i] = (cell + (want - normal[2 * cell]) / rise - kCells / 2) / 32.0;
        table[2 * i + 1] = rise * 32.0;
    }
    return table;
}

const double* normal() {
    static const std::vector<double> table = normal_table();
    return table.data();
}

const double* quantiles() {
    static const std::vector<double> table = quantile_table(normal_table());
    return table.data();
}

int inputs_of(const ExpertSpec& spec) {
    return spec.bands + spec.spatial + spec.own + spec.near + (spec.network ? 1 : 0);
}

void check(const Config& c) {
    if (c.bands < 1 || c.columns < 1 || c.bands > 1 << 20 || c.columns > 1 << 28)
        throw ArgumentError("a cube needs at least one band and one column");
    if (c.low < -65536 || c.high > 65536 || c.low > c.high) throw ArgumentError("samples have at most 16 bits");
    if (c.delta < 0 || c.delta > 65535) throw ArgumentError("the error bound must lie in 0..65535");
    if (c.experts.empty() || c.experts.size() > kMaxExperts) throw ArgumentError("one to six experts are needed");
    if (!(c.variance >= 1.0)) throw ArgumentError("the largest variance of a weight must be at least 1");
    for (const ExpertSpec& s : c.experts) {
        const bool known = (s.spatial == 3 || s.spatial == 8) && (s.near == 0 || s.near == 3 || s.near == 8) &&
                           (s.own == 4 || s.own == 6);
        if (!known || s.bands < 1 || inputs_of(s) > kMaxInputs || !(s.forgetting > 0.9 && s.forgetting <= 1.0))
            throw ArgumentError("an expert has settings that do not exist");
    }
}

}  // namespace

template <class T>
T* Engine::take(size_t count) {
    const size_t words = (count * sizeof(T) + 7) / 8;
    memory_.emplace_back(new uint64_t[words + 8]);
    auto address = reinterpret_cast<uintptr_t>(memory_.back().get());
    auto* aligned = reinterpret_cast<uint64_t*>((address + 63) / 64 * 64);
    cleared_.emplace_back(aligned, words);
    return reinterpret_cast<T*>(aligned);
}

Engine::Engine(const Config& config) : kernels_(chosen()) {
    check(config);
    Model& m = model_;
    m.bands = config.bands;
    m.columns = config.columns;
    m.pitch = config.columns + 2 * kPad;
    m.experts = static_cast<int>(config.experts.size());
    m.slots = std::min(3 * (m.experts + 1) + 3, kSlots);
    m.groups = (m.slots + kLanes - 1) / kLanes;
    m.low = config.low;
    m.high = config.high;
    m.delta = config.delta;
    m.step = 2 * config.delta + 1;
    m.variance = config.variance;
    m.normal = normal();
    m.quantile = quantiles();
    const auto bank = [&](const ExpertSpec& spec, int inputs, int count) {
        Bank b;
        b.spec = spec;
        b.inputs = inputs;
        b.vectors = (inputs + kLanes - 1) / kLanes;
        const auto n = static_cast<size_t>(b.vectors * kLanes);
        b.stride = kLanes + n * (n + 2);
        b.state = take<double>(b.stride * static_cast<size_t>(count));
        return b;
    };
    for (int e = 0; e < m.experts; ++e) {
        const ExpertSpec& spec = config.experts[static_cast<size_t>(e)];
        m.expert[e] = bank(spec, inputs_of(spec), m.bands);
        m.network = m.network || spec.network;
        m.most = std::max(m.most, spec.bands);
    }
    m.stage = bank({0, 0.998, 0, 0, 0, false}, kLanes, m.bands);
    m.scale = bank({0, 0.9998, 0, 0, 0, false}, kLanes, m.bands);
    m.common = bank({0, 0.99995, 0, 0, 0, false}, kLanes, 1);
    const auto samples = static_cast<size_t>(m.pitch) * static_cast<size_t>(m.bands);
    for (int age = 0; age < 3; ++age) {
        m.value[age] = take<double>(samples);
        m.error[age] = take<double>(samples * kLanes);
        m.residual[age] = take<double>(samples);
        if (age < 2) m.output[age] = take<int32_t>(samples);
    }
    m.difference_pitch = static_cast<size_t>((m.most + m.bands + kLanes - 1) / kLanes * kLanes);
    m.difference = take<double>(m.difference_pitch * static_cast<size_t>(m.columns));
    m.activity = take<double>(static_cast<size_t>(m.columns) + 2);
    m.hit = take<int32_t>(static_cast<size_t>(m.columns));
    m.stats = take<BandStats>(static_cast<size_t>(m.bands));
    reset();
}

void Engine::reset() {
    for (const auto& [words, count] : cleared_) std::memset(words, 0, count * 8);
    Model& m = model_;
    m.line = 0;
    const int around = m.experts + 1;
    for (int c = 0; c < kContexts; ++c) {
        m.seen[c] = 0;
        for (int slot = 0; slot < kSlots; ++slot) {
            const bool last = slot % around == m.experts, plain = slot < around;
            const double share = (last ? 0.6 : 0.4 / m.experts) * (plain ? 0.6 : 0.2);
            const double wide = slot < m.slots ? 0.003 / (m.slots - 3 * around) : 0.0;
            m.weight[c][slot] = slot < 3 * around ? 0.997 * share : wide;
        }
    }
    for (int i = 0; i < kSpikes; ++i) {
        m.spike[i] = 0.05;
        m.spike_seen[i] = 0;
    }
}

// Cold start of a band: weights that repeat the difference of the band before, P by the errors of that band so far.
void Engine::start_band(int z) {
    Model& m = model_;
    const auto start = [z, &m](const Bank& bank, double variance, double decay, int decaying, int first) {
        const Filter filter(bank, z);
        filter.start()[0] = variance;
        filter.start()[1] = decay;
        filter.start()[2] = decaying;
        filter.start()[3] = first;
        filter.start()[4] = m.variance;
        restart(filter);
    };
    BandStats& stats = m.stats[z];
    for (double& square : stats.squares) square = 400;
    stats.mean = 4;
    if (z > 0) stats = m.stats[z - 1];
    const double unit = 1.0 / std::max(1.0, stats.squares[kPoint]);
    for (int e = 0; e < m.experts; ++e) {
        const Bank& bank = m.expert[e];
        const int bands = bank.spec.bands;
        start(bank, 0.1 * unit, 0.95, bands, bands - std::min(bands, z));
        if (z > 0) Filter(bank, z).w()[bands - 1] = 1;
    }
    start(m.stage, 0.02 * unit, 1, 0, 0);
    start(m.scale, 0.0005, 1, 0, 0);
    if (z > 0) return;
    start(m.common, 0.05, 1, 0, 0);
    Filter(m.common, 0).w()[1] = 1;   // the band's mean magnitude
}

void Engine::start_row(int band) {
    if (model_.line == 0) start_band(band);
    if (band > 0) return;
    std::fill_n(model_.activity, model_.columns + 2, 1.0);
    std::fill_n(model_.hit, model_.columns, 0);
}

const double* Engine::values(int band) const {
    return model_.value[0] + static_cast<size_t>(band) * static_cast<size_t>(model_.pitch) + kPad;
}

void Engine::encode_row(int band, int32_t* samples, const double* network, RangeState& coder, const Gate* gate) {
    const PlainArithmetic plain;
    start_row(band);
    kernels_.encode({&model_, &coder, band, samples, network, gate});
}

void Engine::decode_row(int band, int32_t* samples, const double* network, RangeState& coder, const Gate* gate) {
    const PlainArithmetic plain;
    start_row(band);
    kernels_.decode({&model_, &coder, band, samples, network, gate});
}

void Engine::end_line() {
    Model& m = model_;
    const auto turn = [](auto& rows) { std::rotate(std::begin(rows), std::end(rows) - 1, std::end(rows)); };
    turn(m.value);
    turn(m.error);
    turn(m.residual);
    turn(m.output);
    ++m.line;
}

}  // namespace cbench::rls
