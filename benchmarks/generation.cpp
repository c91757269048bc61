/// Generates texts token by token. Compares the time with that of reading every weight once for each token of
/// all texts, which is the lower bound for few texts, and measures what zeros behind a ReLU save.
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#if LNFREE_BENCHMARK_BF16
#include <lnfree/device/cpu/bf16.hpp>
#endif
#include <lnfree/model.hpp>

#include "machine_peak.hpp"
#include "median.hpp"

namespace benchmarks {
namespace {

using namespace lnfree;

/// Bytes of the weights that a token reads: all except the position table, of which it reads one row.
template <class Model>
double weight_bytes(const Model& model) {
  double bytes = 0;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.name != "wpe.weight")
      bytes += static_cast<double>(parameter.size()) * sizeof(typename Model::Scalar);
  }
  return bytes;
}

/// One iteration is `state.range(0)` texts of a fixed length side by side. Memory bandwidth varies by
/// the minute: each stretch is compared with the larger of the bandwidths before and after it.
template <class Model>
void generation(benchmark::State& state) {
  constexpr int stretch = 16, stretches = 7, vocab = Model::config.vocab_size;
  const int threads = omp_get_max_threads();
  const int count = static_cast<int>(state.range(0));
  Model model(count, Purpose::generation);
  model.initialize(1);
  const double bytes = weight_bytes(model);
  std::vector<std::vector<std::int32_t>> texts;
  for (int i = 0; i < count; ++i) texts.push_back({i, 2, 3});
  const auto read = [&] {
    std::vector<CachedText> kept;
    for (int i = 0; i < count; ++i) kept.push_back({i, texts[static_cast<std::size_t>(i)]});
    benchmark::DoNotOptimize(model.next_logits_of(kept));
  };
  read();
  std::vector<double> seconds, shares, peaks;
  for (auto _ : state) {
    double before = measure_read_gbytes_per_second(threads);
    for (int s = 0; s < stretches; ++s) {
      const double begin = omp_get_wtime();
      for (int i = 0; i < stretch; ++i) {
        for (auto& text : texts) text.push_back(static_cast<std::int32_t>(text.size() * 31 % vocab));
        read();
      }
      seconds.push_back((omp_get_wtime() - begin) / stretch);
      const double after = measure_read_gbytes_per_second(threads);
      peaks.push_back(std::max(before, after));
      shares.push_back(bytes * 1e-9 / seconds.back() / peaks.back());
      before = after;
    }
  }
  state.counters["tokens_per_second"] = count / median(seconds);
  state.counters["gbytes_per_second"] = bytes * 1e-9 / median(seconds);
  state.counters["read_gbytes_per_second"] = median(peaks);
  state.counters["fraction_of_peak"] = median(shares);
  state.counters["threads"] = threads;
}

/// The second products of a model's feed-forward networks, with `zeros` thousandths of the hidden units at 0:
/// the time of reading all rows of the matrices divided by that of reading only the needed ones.
void zeros_behind_relu(benchmark::State& state) {
  constexpr int layers = gpt2_small.layers, hidden = gpt2_small.ffn_width, width = gpt2_small.width;
  const auto zeros = static_cast<std::uint32_t>(state.range(0));
  Cpu device;
  // All layers, which together exceed the caches.
  std::vector<float> weights(std::size_t{layers} * hidden * width), units(hidden), sums(width);
  fill_normal(weights.data(), static_cast<Index>(weights.size()), 0.02, Philox(1, 0), 0);
  const Philox random(2, 0);
  for (std::size_t k = 0; k < units.size(); ++k) units[k] = random(k)[0] % 1000 < zeros ? 0.0f : 1.0f;
  std::vector<float> without_zeros = units;
  std::replace(without_zeros.begin(), without_zeros.end(), 0.0f, 1e-20f);
  const auto seconds = [&](const std::vector<float>& row) {
    const double begin = omp_get_wtime();
    for (int layer = 0; layer < layers; ++layer) {
      gemm(device, Matrix<const float>(row.data(), 1, hidden),
           Matrix<const float>(weights.data() + Index{layer} * hidden * width, hidden, width),
           Matrix<float>(sums.data(), 1, width));
      benchmark::DoNotOptimize(sums.data());
    }
    return omp_get_wtime() - begin;
  };
  std::vector<double> ratios;
  for (auto _ : state) {
    for (int i = 0; i < 21; ++i) {
      const double all = seconds(without_zeros);
      ratios.push_back(all / seconds(units));
    }
  }
  state.counters["speedup"] = median(ratios);
  state.counters["zeros"] = static_cast<double>(zeros) / 1000;
}

template <class Norm, class Activation, class Device>
using Gpt2 = Decoder<gpt2_small, Norm, Activation, Device>;

[[maybe_unused]] const bool registered = [] {
  const auto add = [](const char* name, void (*run)(benchmark::State&)) {
    return benchmark::RegisterBenchmark(name, run)->Unit(benchmark::kMillisecond)->Iterations(1);
  };
  const auto add_texts = [&](const char* name, void (*run)(benchmark::State&)) {
    for (const int texts : {1, 2, 4, 8, 16}) add(name, run)->Arg(texts);
  };
  add_texts("generation/gpt2/sm_ln_g/float", generation<Gpt2<LayerNorm, GELU, Cpu>>);
  add_texts("generation/gpt2/sm_r/float", generation<Gpt2<Identity, ReLU, Cpu>>);
#if LNFREE_BENCHMARK_BF16
  add_texts("generation/gpt2/sm_ln_g/bf16", generation<Gpt2<LayerNorm, GELU, CpuBF16>>);
  add_texts("generation/gpt2/sm_r/bf16", generation<Gpt2<Identity, ReLU, CpuBF16>>);
#endif
  for (const int zeros : {0, 500, 750, 900, 950, 990})
    add("zeros_behind_relu/gpt2", zeros_behind_relu)->Arg(zeros);
  return true;
}();

}  // namespace
}  // namespace benchmarks
