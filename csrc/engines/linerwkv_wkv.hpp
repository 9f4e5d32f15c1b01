// wkv of whole sequences and its adjoint, for training. Internal linkage, see linerwkv_kernels.hpp.
#pragma once
#include "linerwkv_kernels.hpp"
#include "linerwkv_lanes.hpp"

namespace cbench {
namespace {

// Up to one vector of channels at a time; a last one that is not full goes through copies padded with zeros.
template <class V, class S>
struct Channels {
    static constexpr int kWidth = sizeof(V) / sizeof(S);
    int steps, channels, first, count;

    V read(const S* x, int t) const {
        const S* at = x + static_cast<size_t>(t) * channels + first;
        if (count == kWidth) return load<V>(at);
        V v = {};
        std::memcpy(&v, at, count * sizeof(S));
        return v;
    }

    void write(S* x, int t, V v) const {
        std::memcpy(x + static_cast<size_t>(t) * channels + first, &v, count * sizeof(S));
    }
};

template <class V>
LINERWKV_INLINE V larger(V a, V b) {
    return a > b ? a : b;
}

template <class V, class S>
void wkv_forward(const S* decay, const S* first, const S* k, const S* v, S* y, int steps, int channels) {
    constexpr int kWidth = Channels<V, S>::kWidth;
    for (int c = 0; c < channels; c += kWidth) {
        const Channels<V, S> part{steps, channels, c, channels - c < kWidth ? channels - c : kWidth};
        const V w = -exponential(part.read(decay, 0)), f = part.read(first, 0);
        V aa = {}, bb = {}, pp = all<V>(static_cast<S>(kEmptyExponent));
        for (int t = 0; t < steps; ++t) {
            const V key = part.read(k, t), value = part.read(v, t);
            V p = larger<V>(pp, f + key), old = exponential(pp - p), now = exponential(f + key - p);
            part.write(y, t, (old * aa + now * value) / (old * bb + now));
            p = larger<V>(pp + w, key);
            old = exponential(pp + w - p);
            now = exponential(key - p);
            aa = old * aa + now * value;
            bb = old * bb + now;
            pp = p;
        }
    }
}

// Adjoints ga, gb of the state before step t, both times e^qq: ga_t = e^w ga_{t+1} + gy/D, gb_t = e^w gb_{t+1} - gy y/D
// with D the denominator of y_t. The states are those of the forward pass, run once more.
template <class V, class S>
void wkv_backward(const S* decay, const S* first, const S* k, const S* v, const S* gy, S* g_decay, S* g_first, S* gk,
                  S* gv, int steps, int channels, S* scratch) {
    constexpr int kWidth = Channels<V, S>::kWidth;
    const auto kept = [&](int part, int t) { return scratch + (static_cast<size_t>(part) * steps + t) * kWidth; };
    for (int c = 0; c < channels; c += kWidth) {
        const Channels<V, S> part{steps, channels, c, channels - c < kWidth ? channels - c : kWidth};
        const V w = -exponential(part.read(decay, 0)), f = part.read(first, 0);
        V aa = {}, bb = {}, pp = all<V>(static_cast<S>(kEmptyExponent));
        for (int t = 0; t < steps; ++t) {
            store(kept(0, t), aa);
            store(kept(1, t), bb);
            store(kept(2, t), pp);
            const V key = part.read(k, t), value = part.read(v, t), p = larger<V>(pp + w, key);
            const V old = exponential(pp + w - p), now = exponential(key - p);
            aa = old * aa + now * value;
            bb = old * bb + now;
            pp = p;
        }
        V ga = {}, gb = {}, qq = all<V>(static_cast<S>(kEmptyExponent)), gw = {}, gf = {};
        for (int t = steps - 1; t >= 0; --t) {
            aa = load<V>(kept(0, t));
            bb = load<V>(kept(1, t));
            pp = load<V>(kept(2, t));
            const V key = part.read(k, t), value = part.read(v, t), g = part.read(gy, t);
            const V p = larger<V>(pp, f + key), old = exponential(pp - p), now = exponential(f + key - p);
            const V den = old * bb + now, y = (old * aa + now * value) / den;
            const V direct = now * g / den, carried = exponential(key + qq);
            const V bonus = direct * (value - y);
            part.write(gv, t, direct + carried * ga);
            part.write(gk, t, bonus + carried * (ga * value + gb));
            gf = gf + bonus;
            gw = gw + exponential(w + qq + pp) * (ga * aa + gb * bb);
            const V next = larger<V>(w + qq, -p), decayed = exponential(w + qq - next), fresh = exponential(-p - next);
            ga = decayed * ga + fresh * g / den;
            gb = decayed * gb - fresh * g * y / den;
            qq = next;
        }
        part.write(g_decay, 0, gw * w);
        part.write(g_first, 0, gf);
    }
}

}  // namespace
}  // namespace cbench
