// Recursive least squares on eight lanes: prediction w.u and the update of w and P. Internal linkage, see lanes.hpp.
#pragma once
#include "lanes.hpp"
#include "rls.hpp"

namespace cbench::rls {
namespace {

constexpr double kLargestScale = 1048576.0;      // 2^20

struct Filter {
    double* at;
    int inputs, vectors;
    Filter(const Bank& bank, int band) : at(bank.of(band)), inputs(bank.inputs), vectors(bank.vectors) {}
    int width() const { return vectors * kLanes; }
    double& scale() const { return at[0]; }
    // P of a new start: variance, decay, inputs that decay, the first one; and the largest variance allowed.
    double* start() const { return at + 1; }
    double* w() const { return at + kLanes; }
    double* h() const { return w() + width(); }
    double* p() const { return h() + width(); }
};

// P back to its diagonal start; weights stay.
CBENCH_LOCAL void restart(const Filter& f) {
    const int n = f.width();
    f.scale() = 1.0;
    for (int i = 0; i < n; ++i) f.h()[i] = 0.0;
    for (int i = 0; i < n * n; ++i) f.p()[i] = 0.0;
    const double variance = f.start()[0], decay = f.start()[1];
    const int decaying = static_cast<int>(f.start()[2]), first = static_cast<int>(f.start()[3]);
    double v = variance;
    for (int i = decaying - 1; i >= first; --i, v *= decay) f.p()[i * n + i] = v;
    for (int i = decaying; i < f.inputs; ++i) f.p()[i * n + i] = variance;
}

CBENCH_INLINE double dot(const double* a, const double* b, int vectors) {
    F8 s = load(a) * load(b);
    for (int v = 1; v < vectors; ++v) s = s + load(a + v * kLanes) * load(b + v * kLanes);
    return sum(s);
}

// Stored matrix less h h^T, and its product with u, for `B` registers of columns.
template <int B>
CBENCH_INLINE void pass_columns(const Filter& f, const double* u, int c, double* product) {
    const int n = f.width();
    const double* h = f.h();
    Part columns[B], acc[B];
    for (int b = 0; b < B; ++b) {
        columns[b] = load_part(h + c + b * kPartLanes);
        acc[b] = Part{};
    }
    double* row = f.p() + c;
    for (int i = 0; i < f.inputs; ++i, row += n) {
        const Part hi = h[i] - Part{}, ui = u[i] - Part{};
        for (int b = 0; b < B; ++b) {
            const Part p = load_part(row + b * kPartLanes) - hi * columns[b];
            store_part(row + b * kPartLanes, p);
            acc[b] = acc[b] + p * ui;
        }
    }
    for (int b = 0; b < B; ++b) store_part(product + c + b * kPartLanes, acc[b]);
}

CBENCH_INLINE void pass(const Filter& f, const double* u, double* product) {
#if defined(__AVX512F__)
    switch (f.vectors) {
        case 1: return pass_columns<1>(f, u, 0, product);
        case 2: return pass_columns<2>(f, u, 0, product);
        case 3: return pass_columns<3>(f, u, 0, product);
        case 4: return pass_columns<4>(f, u, 0, product);
        case 5: return pass_columns<5>(f, u, 0, product);
        case 6: return pass_columns<6>(f, u, 0, product);
        case 7: return pass_columns<7>(f, u, 0, product);
        case 8: return pass_columns<8>(f, u, 0, product);
        case 11: return pass_columns<11>(f, u, 0, product);
        case 12: return pass_columns<12>(f, u, 0, product);
        default: break;
    }
#elif defined(__AVX__)
    int c = 0;
    for (; c + 2 * kLanes <= f.width(); c += 2 * kLanes) pass_columns<4>(f, u, c, product);
    if (c < f.width()) pass_columns<2>(f, u, c, product);
    return;
#endif
    for (int c = 0; c < f.width(); c += kLanes) pass_columns<kParts>(f, u, c, product);
}

// Prediction of a filter; weights that ran away start again from nothing.
CBENCH_INLINE double predict(const Filter& f, const double* u) {
    const double y = dot(f.w(), u, f.vectors);
    if (magnitude(y) < 1e9) return y;
    for (int i = 0; i < f.width(); ++i) f.w()[i] = 0.0;
    restart(f);
    return 0.0;
}

// One step with the error e of predict(): k = P u, g = 1 / (forgetting + u.k), w += g e k,
// P = (P - g k k^T) / forgetting.
// The change of P is kept in h and made in the next step, in the same pass over P as its product with u.
CBENCH_INLINE void learn(const Filter& f, double forgetting, const double* u, double e) {
    alignas(64) double k[kMaxInputs];
    pass(f, u, k);
    const double scale = f.scale(), q = scale * dot(u, k, f.vectors);
    if (!(q >= -0.01 * forgetting) || q > 1e15) return restart(f);
    const double g = q < 1e-9 ? 0.0 : 1.0 / (forgetting + q);
    const F8 step = all(g * e * scale), root = all(square_root(g * scale));
    double *w = f.w(), *h = f.h();
    for (int v = 0; v < f.vectors; ++v) {
        const F8 kv = load(k + v * kLanes);
        store(w + v * kLanes, load(w + v * kLanes) + step * kv);
        store(h + v * kLanes, root * kv);
    }
    if (g == 0.0) return;
    f.scale() = scale / forgetting;
    if (f.scale() < kLargestScale) return;
    // Rescaling by a power of two is exact. Directions that no input has excited for long have grown: start again then.
    const int n = f.width();
    double largest = 0.0;
    for (int i = 0; i < f.inputs; ++i) largest = f.p()[i * n + i] > largest ? f.p()[i * n + i] : largest;
    if (largest * kLargestScale > f.start()[4]) return restart(f);
    f.scale() *= 1.0 / kLargestScale;
    for (int i = 0; i < n * n; ++i) f.p()[i] *= kLargestScale;
    for (int v = 0; v < n; ++v) h[v] *= 1024.0;
}

}  // namespace
}  // namespace cbench::rls
