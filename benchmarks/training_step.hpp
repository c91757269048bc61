#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <benchmark/benchmark.h>

#if LNFREE_BENCHMARK_BF16
#include <lnfree/backend/cpu/bf16.hpp>
#endif
#include <lnfree/model.hpp>

#include "machine_peak.hpp"
#include "median.hpp"
#include "peak_memory.hpp"
#include "random_windows.hpp"
#include "shapes.hpp"

namespace benchmarks {

/// A model in training: forward, backward, clipping, AdamW.
template <class Model>
class Training {
 public:
  explicit Training(const Shape& shape)
      : model_(shape.batch),
        optimizer_(model_),
        windows_({shape.batch, shape.config.context}, shape.config.vocab_size) {
    model_.initialize(1);
  }

  /// Seconds of one step.
  double step(bool observe) {
    const lnfree::Batch batch = windows_.draw();
    const double start = omp_get_wtime();
    model_.forward_backward(batch, {.observe = observe});
    optimizer_.step(1e-5);
    return omp_get_wtime() - start;
  }

  const Model& model() const { return model_; }

 private:
  Model model_;
  lnfree::AdamW<Model> optimizer_;
  RandomWindows windows_;
};

/// One iteration is all steps of a run, so that the benchmark's name and the number of steps are ours.
template <class Model>
void training_step(benchmark::State& state, const Shape& shape) {
  const int threads = shape.threads();
  omp_set_num_threads(threads);
  const double peak_before = measure_fma_gflops(threads);
  reset_peak_rss();
  Training<Model> training(shape);
  training.step(true);
  std::vector<double> seconds;
  for (auto _ : state) {
    for (int step = 0; step < shape.steps; ++step) seconds.push_back(training.step(true));
  }
  const double memory = peak_rss_mb();
  const double peak = std::max(peak_before, measure_fma_gflops(threads));
  const double tokens_per_second = shape.tokens() / median(seconds);
  const double gflops = tokens_per_second * shape.gflop_per_token();
  state.counters["tokens_per_second"] = tokens_per_second;
  state.counters["gflops"] = gflops;
  state.counters["peak_gflops"] = peak;
  state.counters["fraction_of_peak"] = gflops / peak;
  state.counters["peak_rss_mb"] = memory;
  state.counters["median_step_ms"] = 1e3 * median(seconds);
  state.counters["steps"] = static_cast<double>(seconds.size());
  state.counters["parameters"] = static_cast<double>(training.model().parameters().trainable());
  state.counters["threads"] = threads;
}

/// What observing every head costs: steps with and without it in turn, in one model, so that both see the
/// same machine.
template <class Model>
void observer_cost(benchmark::State& state, const Shape& shape) {
  omp_set_num_threads(shape.threads());
  Training<Model> training(shape);
  training.step(true);
  std::vector<double> observed, unobserved;
  for (auto _ : state) {
    for (int step = 0; step < shape.steps; ++step) {
      unobserved.push_back(training.step(false));
      observed.push_back(training.step(true));
    }
  }
  state.counters["unobserved_step_ms"] = 1e3 * median(unobserved);
  state.counters["observed_step_ms"] = 1e3 * median(observed);
  state.counters["cost"] = median(observed) / median(unobserved) - 1;
  state.counters["steps"] = static_cast<double>(observed.size());
}

#if LNFREE_BENCHMARK_BF16
/// What bf16 gains: steps in float and in bf16 in turn.
template <class Model>
void bf16_speedup(benchmark::State& state, const Shape& shape) {
  omp_set_num_threads(shape.threads());
  std::optional<Training<lnfree::OnDevice<Model, lnfree::CpuBF16>>> in_bf16;
  try {
    in_bf16.emplace(shape);
  } catch (const lnfree::Error& error) {
    state.SkipWithError(error.what());
    return;
  }
  Training<Model> in_float(shape);
  in_float.step(true);
  in_bf16->step(true);
  std::vector<double> float_seconds, bf16_seconds;
  for (auto _ : state) {
    for (int step = 0; step < shape.steps; ++step) {
      float_seconds.push_back(in_float.step(true));
      bf16_seconds.push_back(in_bf16->step(true));
    }
  }
  state.counters["float_step_ms"] = 1e3 * median(float_seconds);
  state.counters["bf16_step_ms"] = 1e3 * median(bf16_seconds);
  state.counters["speedup"] = median(float_seconds) / median(bf16_seconds);
  state.counters["steps"] = static_cast<double>(bf16_seconds.size());
}
#endif

/// The four configurations of one shape, with and without an observer.
template <const Shape& shape>
void register_shape() {
  const auto add = []<class Norm, class Activation>(const char* configuration) {
    const auto name = [&](const char* benchmark) {
      return std::string(benchmark) + "/" + shape.name + "/" + configuration;
    };
    using Silent = lnfree::Decoder<shape.config, Norm, Activation, lnfree::Cpu, lnfree::NoObserver>;
    using Observed = lnfree::Decoder<shape.config, Norm, Activation, lnfree::Cpu, lnfree::EntropyObserver>;
    const auto add_one = [](const std::string& name, void (*run)(benchmark::State&, const Shape&)) {
      benchmark::RegisterBenchmark(name.c_str(), run, shape)->Unit(benchmark::kMillisecond);
    };
    add_one(name("training_step") + "/none", training_step<Silent>);
    add_one(name("training_step") + "/entropy", training_step<Observed>);
    add_one(name("observer_cost"), observer_cost<Observed>);
#if LNFREE_BENCHMARK_BF16
    add_one(name("bf16_speedup"), bf16_speedup<Observed>);
#endif
  };
  add.template operator()<lnfree::LayerNorm, lnfree::GELU>("sm_ln_g");
  add.template operator()<lnfree::LayerNorm, lnfree::ReLU>("sm_ln_r");
  add.template operator()<lnfree::Identity, lnfree::GELU>("sm_g");
  add.template operator()<lnfree::Identity, lnfree::ReLU>("sm_r");
}

}  // namespace benchmarks
