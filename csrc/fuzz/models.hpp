// Fixed models for the engines: pseudo-random weights, of the shapes that their constructors ask for.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../engines/linear_ar.hpp"
#include "../engines/linerwkv.hpp"
#include "../engines/pixel_ar.hpp"

namespace cbench::fuzz {

class Random {   // integers only, so that no library decides the inputs
  public:
    uint32_t bits(int count) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state_ >> 33) >> (31 - count);
    }
    int32_t within(int32_t low, int32_t high) {
        return low + static_cast<int32_t>(bits(31) % static_cast<uint32_t>(high - low + 1));
    }
    float weight() { return static_cast<float>(within(-1024, 1024)) / 4096.0f; }

  private:
    uint64_t state_ = 1;
};

inline std::shared_ptr<LineNetwork> line_network(Random& random, size_t f) {
    LineTensors t;
    const auto add = [&](const std::string& name, size_t size, float base = 0.0f) {
        for (size_t i = 0; i < size; ++i) t[name].push_back(base + random.weight());
    };
    const auto norm = [&](const std::string& name) {
        add(name + ".weight", f, 1.0f);
        add(name + ".bias", f);
    };
    for (const auto& [part, taps] : {std::pair<std::string, size_t>{"encoder", 3}, {"decoder", 1}}) {
        add(part + ".convs.0.weight", f * f * taps);
        add(part + ".convs.0.bias", f);
        norm(part + ".norms.0");
    }
    for (const std::string block : {"blocks_lines.0", "blocks_bands.0"}) {
        for (const char* name : {".ln0", ".ln1", ".ln2"}) norm(block + name);
        for (const char* name : {".att.time_mix_k", ".att.time_mix_v", ".att.time_mix_r", ".ffn.time_mix_k", ".ffn.time_mix_r"})
            add(block + name, f, 0.5f);
        for (const char* name : {".att.time_decay", ".att.time_first"}) add(block + name, f);
        for (const char* name : {".att.key", ".att.value", ".att.receptance", ".att.output", ".ffn.key", ".ffn.receptance", ".ffn.value"})
            add(block + std::string(name) + ".weight", f * f);
    }
    add("encoder.conv_in.weight", f * 3);
    add("encoder.conv_in.bias", f);
    norm("encoder.norm_in");
    for (const std::string part : {"decoder", "bandzerodec"}) {
        add(part + ".conv_out.weight", f);
        add(part + ".conv_out.bias", 1);
    }
    return std::make_shared<LineNetwork>(static_cast<int>(f), 2, 1, 1, 2, t);
}

inline PixelModel pixel_model(Random& random, int hidden, int mixtures) {
    const auto h = static_cast<size_t>(hidden), k = static_cast<size_t>(mixtures);
    std::vector<int16_t> inner(3 * kPixelFeatures * h), middle(3 * h * h), linear(3 * kPixelFeatures), outer(3 * h * 3 * k);
    for (auto* weights : {&inner, &middle, &linear, &outer})
        for (auto& w : *weights) w = static_cast<int16_t>(random.within(-200, 200));
    const std::vector<int32_t> base_m(3 * h, 1000), shift_m(3 * h, 10), base_o(9 * k, 50), shift_o(9 * k, 12);
    return PixelModel({hidden, mixtures, inner.data(), 6, {middle.data(), base_m.data(), shift_m.data()},
                       {outer.data(), base_o.data(), shift_o.data()}, linear.data(), 6});
}

// Three tables of nine values, and two levels of tables of finer and coarser means.
struct LinearTables {
    std::unique_ptr<TableSet> tables;
    std::unique_ptr<LinearModel> model;

    explicit LinearTables(Random& random) {
        constexpr size_t kTables = 3, kSlots = 10;   // the last one stands for all other values
        std::vector<uint32_t> cdf(kTables * (kSlots + 1)), weights(kSlots), frequencies(kSlots);
        for (size_t t = 0; t < kTables; ++t) {
            for (auto& w : weights) w = static_cast<uint32_t>(random.within(1, 5000));
            quantise(weights.data(), kSlots, 16, frequencies.data());
            for (size_t k = 0; k < kSlots; ++k) cdf[t * (kSlots + 1) + k + 1] = cdf[t * (kSlots + 1) + k] + frequencies[k];
        }
        const std::vector<int32_t> size(kTables, kSlots - 1), offset(kTables, -4);
        tables = std::make_unique<TableSet>(cdf.data(), kTables, kSlots + 1, size.data(), offset.data(), 16, true);
        PixelMap map{{12, 14}, {0, 0}, {63, 15}, {0, 64}, {}, {}};
        for (int32_t place = 0; place < 80; ++place) {
            map.row.push_back(place % 3);
            map.centre.push_back(place < 64 ? 4 * place : 16 * (place - 64));
        }
        int32_t weight[9], bias[3];
        for (auto& w : weight) w = random.within(-20000, 20000);
        for (auto& b : bias) b = random.within(-100000, 100000);
        model = std::make_unique<LinearModel>(*tables, std::move(map), weight, bias);
    }
};

}  // namespace cbench::fuzz
