// One row of samples: predict, code, learn. Compiled once for every instruction set; internal linkage, see lanes.hpp.
//
// A sample goes through: surround() - what its neighbours say; predict_all() - the experts, their mean by recent
// success, a second stage that corrects it; deviate() - the scale of what remains; mixture and coder; adapt() -
// everything learns.
#pragma once
#include "rls_filter.hpp"
#include "rls_mixture.hpp"

namespace cbench::rls {
namespace {

constexpr double kBeta = 8.656170245;            // 6 log2(e): how much the mean prefers recent success
constexpr double kSlowest = 0.002;               // rate of the mean squares, kSlowestMean of the mean magnitude
constexpr double kSlowestMean = 0.003;
constexpr double kActivityRate = 0.02;
constexpr double kSmallestScale = -4.33, kGreatestScale = 16.0;
constexpr double kInverse = 0.52991;             // deviation = 2^scale / kInverse
constexpr double kMeanMagnitude = 0.798;         // of a normal number of deviation 1

struct Row {
    Model& m;
    RangeState& coder;
    const int z, columns;
    const bool first_line, second_line;
    const double *n, *nn, *b, *bn, *bnn;         // values: lines above, band before
    double* c;
    const double *en, *enn, *eb;                 // errors, eight lanes a sample
    double* ec;
    const double *rn, *rnn;
    double* r;
    const int32_t* on;
    int32_t* o;
    const double* network;
    const Gate* gate;
    BandStats& stats;
    F8 limits, deviations, used;
    double f_u[kMaxExperts][kMaxInputs], u2[kLanes], features[kLanes];

    explicit Row(const RowJob& job);
    template <bool kDecode>
    void code(int32_t* samples);
    template <bool kDecode>
    void code_sample(int x, int32_t* sample);

    // The sample at hand.
    double W, N, NW, NE, WW, NN, mean;
    double guess[kLanes], middle, best, spread, inverse;
    int context;
    Spike spike;

    void surround(int x);
    void gather(int e, int x, const double (*own)[kLanes]);
    void predict_all(int x);
    void deviate(int x);
    void find_spike(int x);
    void adapt(int x, int32_t out, double value, bool skip);
};

Row::Row(const RowJob& job)
    : m(*job.model), coder(*job.coder), z(job.band), columns(m.columns), first_line(m.line == 0),
      second_line(m.line == 1), network(job.network), gate(job.gate), stats(m.stats[z]) {
    const auto row = [&](double* base, int band, int width) {
        return base + (static_cast<size_t>(band) * static_cast<size_t>(m.pitch) + kPad) * static_cast<size_t>(width);
    };
    const int before = z > 0 ? z - 1 : 0, above2 = second_line ? 1 : 2;
    c = row(m.value[0], z, 1), n = row(m.value[1], z, 1), nn = row(m.value[above2], z, 1);
    b = row(m.value[0], before, 1), bn = row(m.value[1], before, 1), bnn = row(m.value[above2], before, 1);
    ec = row(m.error[0], z, kLanes), en = row(m.error[1], z, kLanes), enn = row(m.error[2], z, kLanes);
    eb = row(m.error[0], before, kLanes);
    r = row(m.residual[0], z, 1), rn = row(m.residual[1], z, 1), rnn = row(m.residual[above2], z, 1);
    const size_t at = static_cast<size_t>(z) * static_cast<size_t>(m.pitch) + kPad;
    o = m.output[0] + at, on = m.output[1] + at;
    for (int e = 0; e < m.experts; ++e)
        for (double& u : f_u[e]) u = 0.0;
    double lanes[kLanes], squares[kLanes], bound[kLanes];
    for (int l = 0; l < kLanes; ++l) {
        lanes[l] = l < m.experts ? 1.0 : 0.0;
        squares[l] = square_root(stats.squares[l]);
        bound[l] = 8.0 * squares[l] + 32.0;
    }
    used = load(lanes), deviations = load(squares), limits = load(bound);
}

// Neighbours in the band and the local mean. Outside the picture the sample above stands in.
CBENCH_INLINE void Row::surround(int x) {
    if (first_line) {
        W = x > 0 ? c[x - 1] : z > 0 ? b[0] : 0.0;
        WW = x > 1 ? c[x - 2] : W;
        N = NW = NE = NN = mean = W;
        return;
    }
    N = n[x], NE = n[x + 1], NN = nn[x];
    W = x > 0 ? c[x - 1] : N;
    NW = x > 0 ? n[x - 1] : N;
    WW = x > 1 ? c[x - 2] : W;
    if (x == 0) mean = (N + NE) * 0.5;
    else if (x == columns - 1) mean = ((W + NW) + 2.0 * N) * 0.25;
    else mean = ((W + NW) + (N + NE)) * 0.25;
}

// The inputs of expert e: previous bands, neighbours, own errors, neighbours in the band before, network.
CBENCH_INLINE void Row::gather(int e, int x, const double (*own)[kLanes]) {
    const ExpertSpec& spec = m.expert[e].spec;
    double* u = f_u[e];
    const double* d = m.difference + static_cast<size_t>(x) * m.difference_pitch + (m.most + z - spec.bands);
    for (int i = 0; i < spec.bands; ++i) u[i] = d[i];
    u += spec.bands;
    if (!first_line) {
        u[0] = N - mean, u[1] = W - mean, u[2] = NW - mean;
        if (spec.spatial == 8) {
            u[3] = NE - mean, u[4] = WW - mean, u[5] = NN - mean;
            u[6] = nn[x + 1] - mean, u[7] = n[x + 2] - mean;
        }
    }
    u += spec.spatial;
    for (int i = 0; i < spec.own; ++i) u[i] = own[i][e];
    u += spec.own;
    if (spec.near > 0 && z > 0) {
        const double middle_before = b[x] - d[spec.bands - 1];
        const double left = b[x > 0 ? x - 1 : 0], right = b[x + 1 < columns ? x + 1 : columns - 1];
        if (first_line) {
            u[0] = left - b[x], u[1] = right - b[x];
        } else {
            u[0] = left - middle_before, u[1] = right - middle_before, u[2] = bn[x] - middle_before;
            if (spec.near == 8) {
                u[3] = bn[x - 1] - middle_before, u[4] = bn[x + 1] - middle_before;
                u[5] = b[x > 1 ? x - 2 : 0] - middle_before;
                u[6] = b[x + 2 < columns ? x + 2 : columns - 1] - middle_before;
                u[7] = bnn[x] - middle_before;
            }
        }
    }
    u += spec.near;
    if (spec.network && network) u[0] = network[x] - mean;
}

CBENCH_INLINE F8 clip(F8 v, F8 bound) { return upper(all(0.0) - bound, lower(v, bound)); }

CBENCH_INLINE double clip(double v, double low, double high) { return v > low ? (v < high ? v : high) : low; }

CBENCH_INLINE void Row::predict_all(int x) {
    const auto error = [](const double* row, int at) { return load(row + static_cast<std::ptrdiff_t>(at) * kLanes); };
    const F8 eW = error(ec, x - 1), eN = error(en, x), eNE = error(en, x + 1), eNW = error(en, x - 1);
    const F8 eWW = error(ec, x - 2);
    alignas(64) double own[6][kLanes];
    store(own[0], clip(eW, limits)), store(own[1], clip(eN, limits)), store(own[2], clip(eNE, limits));
    store(own[3], clip(eNW, limits)), store(own[4], clip(eWW, limits)), store(own[5], clip(error(enn, x), limits));
    const double low = m.low, high = m.high;
    for (int e = 0; e < m.experts; ++e) {
        gather(e, x, own);
        guess[e] = clip(mean + predict(Filter(m.expert[e], z), f_u[e]), low, high);
    }
    for (int e = m.experts; e < kLanes; ++e) guess[e] = 0.0;
    // Mean of the experts, weighted by how well they did nearby.
    F8 loss = all(2.0) * (magnitude(eW) + magnitude(eN) + deviations) + (magnitude(eNW) + magnitude(eNE));
    loss = loss + magnitude(eWW);
    if (z > 0) loss = loss + magnitude(error(eb, x));
    loss = loss * used;
    const double usual = sum(loss) / m.experts + 1e-3;
    const F8 w = exp2_8(all(-kBeta / usual) * (loss - all(usual))) * used;
    const F8 guesses = load(guess);
    middle = sum(w * guesses) / sum(w);
    const F8 apart = (guesses - all(middle)) * used;
    spread = sum(magnitude(apart)) / m.experts;
    // The second stage: weights of the experts that sum to one, and the last errors of its own.
    store(u2, apart);
    u2[6] = own[0][kPoint], u2[7] = own[1][kPoint];
    const double reach = 4.0 * (spread + 0.5 * square_root(stats.squares[kPoint])) + 4.0;
    const double change = clip(predict(Filter(m.stage, z), u2), -reach, reach);
    best = clip(middle + change, low, high);
}

// log2 of the deviation from eight features: 1, the band's mean, residuals around, activity of the pixel over bands.
CBENCH_INLINE void Row::deviate(int x) {
    const double rW = x > 0 ? r[x - 1] : first_line ? stats.mean : rn[0];
    const double rWW = x > 1 ? r[x - 2] : rW;
    double around = 5.0 * rW + rWW, far = rWW + rW;
    if (!first_line) {
        const double above = rn[x], left = x > 0 ? rn[x - 1] : above, right = x + 1 < columns ? rn[x + 1] : above;
        around = (rW + above) + (left + right) + (rWW + rnn[x]);
        far = rWW + rnn[x];
    }
    const double* a = m.activity + 1 + x;
    const double texture = first_line ? magnitude(W - WW) : magnitude(N - NW) + magnitude(W - NW) + magnitude(N - NE);
    const double raw[kLanes] = {1.0, stats.mean + 0.05, around + 0.5, far + 0.5, a[0], a[-1] + a[1],
                                magnitude(mean) + 8.0, texture + 1.0};
    double logs[kLanes];
    store(logs, log2_8(load(raw)));
    features[0] = 1.0, features[1] = logs[1], features[2] = logs[2] - logs[1], features[3] = logs[3] - logs[1];
    features[4] = logs[4], features[5] = logs[5], features[6] = logs[6] - 8.66, features[7] = logs[7] - logs[1];
    const double both = predict(Filter(m.common, 0), features) + predict(Filter(m.scale, z), features);
    const double s = clip(both, kSmallestScale, kGreatestScale);
    inverse = exp2_1(-s) * kInverse;
    const int c = static_cast<int>((s - kSmallestScale) * 1.733);
    context = c < kContexts ? c : kContexts - 1;
}

// A value that at least two of W, N, NW, NE have in common (W and WW in the first line) may well come again.
CBENCH_INLINE void Row::find_spike(int x) {
    int32_t v[4];
    int count = 0;
    if (x > 0) v[count++] = o[x - 1];
    if (first_line) {
        if (x > 1) v[count++] = o[x - 2];
    } else {
        v[count++] = on[x];
        if (x > 0) v[count++] = on[x - 1];
        if (x + 1 < columns) v[count++] = on[x + 1];
    }
    int most = 1;
    for (int i = 0; i + 1 < count; ++i) {
        int same = 1;
        for (int j = i + 1; j < count; ++j) same += v[j] == v[i];
        if (same > most) most = same, spike.value = v[i];
    }
    spike.context = most > 1 ? (most - 2) * 3 + m.hit[x] : -1;
    spike.weight = most > 1 ? m.spike[spike.context] : 0.0;
}

// Everything learns. `out`: what the decoder gives; `value`: what prediction shall see; `skip`: a spike, no lesson.
CBENCH_INLINE void Row::adapt(int x, int32_t out, double value, bool skip) {
    const double point = value - best, coded = static_cast<double>(out) - best, size = magnitude(coded);
    c[x] = value, o[x] = out, r[x] = size;
    const bool very_first = first_line && x == 0;
    m.difference[static_cast<size_t>(x) * m.difference_pitch + static_cast<size_t>(m.most + z)] =
        very_first ? 0.0 : value - mean;
    guess[kPoint] = best;
    const F8 errors = all(value) - load(guess);
    alignas(64) double error[kLanes];
    store(error, errors);
    store(ec + static_cast<std::ptrdiff_t>(x) * kLanes, errors);
    if (skip) return;
    for (int e = 0; e < m.experts; ++e) learn(Filter(m.expert[e], z), m.expert[e].spec.forgetting, f_u[e], error[e]);
    learn(Filter(m.stage, z), m.stage.spec.forgetting, u2, point);
    const double step = m.step;
    const double smooth = square_root(size * size + 0.02 * (step * step));
    const double surprise = smooth * inverse * (1.0 / kMeanMagnitude) - 1.0;
    const double pull = surprise < 4.0 ? surprise : 4.0;
    learn(Filter(m.scale, z), m.scale.spec.forgetting, features, pull);
    learn(Filter(m.common, 0), m.common.spec.forgetting, features, pull);
    const double relative = size * inverse * 1.4513;
    double& a = m.activity[1 + x];
    a = a + kActivityRate * ((relative < 6.0 ? relative : 6.0) - a);
    a = a > 0.02 ? a : 0.02;
    if (very_first) return;
    const double age = static_cast<double>(m.line) * columns + x;
    const double rate = age < 499.0 ? 1.0 / (1.0 + age) : kSlowest;
    const F8 old = load(stats.squares);
    store(stats.squares, old + all(rate) * (errors * errors - old));
    const double slow = 1.0 / (2.0 + age);
    stats.mean = stats.mean + (slow > kSlowestMean ? slow : kSlowestMean) * (size - stats.mean);
}

template <bool kDecode>
CBENCH_INLINE void Row::code_sample(int x, int32_t* sample) {
    surround(x);
    predict_all(x);
    deviate(x);
    find_spike(x);
    const bool sure = spike.context >= 0 && spike.weight > 0.5;
    Mixture mix(m, context, guess, best, inverse, spike);
    const Bin bin = kDecode ? mix.decode(coder, sure) : mix.encode(coder, *sample);
    const double value = m.delta == 0 ? static_cast<double>(bin.out) : mix.centre(bin);
    const bool hit = spike.context >= 0 && bin.spike;
    if (spike.context >= 0) mix.learn_spike(bin);
    m.hit[x] = spike.context < 0 ? 0 : hit ? 1 : 2;
    const bool skip = hit && sure;
    if (!skip) mix.learn(bin);
    adapt(x, bin.out, value, skip);
    *sample = bin.out;
}

template <bool kDecode>
void Row::code(int32_t* samples) {
    for (int x = 0; x < columns; ++x) {
        if (gate && x % kGate == 0) gate->pass(gate->context, x);
        code_sample<kDecode>(x, samples + x);
    }
    // What the next line finds beside the row.
    c[-1] = c[0], c[columns] = c[columns + 1] = c[columns - 1];
}

void encode_row(const RowJob& job) { Row(job).code<false>(job.samples); }
void decode_row(const RowJob& job) { Row(job).code<true>(job.samples); }

}  // namespace
}  // namespace cbench::rls
