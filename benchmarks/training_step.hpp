#pragma once

#include <omp.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#if LNFREE_BENCHMARK_BF16
#include <lnfree/device/cpu/bf16.hpp>
#endif
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/model.hpp>

#include "machine_peak.hpp"
#include "median.hpp"
#include "peak_memory.hpp"
#include "random_windows.hpp"
#include "shapes.hpp"

namespace benchmarks {

/// A model without an observer.
template <const Shape& shape, class Norm, class Activation>
using Silent = lnfree::Decoder<shape.config, Norm, Activation, lnfree::Cpu, lnfree::NoObserver>;

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

/// One iteration is all steps of a run, so that this code controls the benchmark's name and the number of
/// steps. The machine's peak varies by the minute: each step is compared with the larger of the peaks before
/// and after it.
template <class Model>
void training_step(benchmark::State& state, const Shape& shape) {
  const int threads = shape.threads();
  omp_set_num_threads(threads);
  reset_peak_rss();
  Training<Model> training(shape);
  training.step(true);
  std::vector<double> seconds, peaks, shares;
  const double gflop = shape.tokens() * shape.gflop_per_token();
  for (auto _ : state) {
    double before = measure_fma_gflops(threads);
    for (int step = 0; step < shape.steps; ++step) {
      seconds.push_back(training.step(true));
      const double after = measure_fma_gflops(threads);
      peaks.push_back(std::max(before, after));
      shares.push_back(gflop / seconds.back() / peaks.back());
      before = after;
    }
  }
  state.counters["tokens_per_second"] = shape.tokens() / median(seconds);
  state.counters["gflops"] = gflop / median(seconds);
  state.counters["peak_gflops"] = median(peaks);
  state.counters["fraction_of_peak"] = median(shares);
  state.counters["peak_rss_mb"] = peak_rss_mb();
  state.counters["median_step_ms"] = 1e3 * median(seconds);
  state.counters["steps"] = static_cast<double>(seconds.size());
  state.counters["parameters"] = static_cast<double>(training.model().parameters().trainable());
  state.counters["threads"] = threads;
}

/// How many times as fast as `first` `second` is, where each is a function that runs a step and returns its
/// seconds: the median over pairs of steps. The two steps of a pair run under the same conditions, in
/// alternating order.
template <class First, class Second>
double speedup_in_turn(benchmark::State& state, const Shape& shape, const First& first,
                       const Second& second) {
  first();
  second();
  std::vector<double> of_first, of_second, ratios;
  for (auto _ : state) {
    for (int step = 0; step < shape.steps; ++step) {
      if (step % 2 == 0) of_first.push_back(first());
      of_second.push_back(second());
      if (step % 2 == 1) of_first.push_back(first());
      ratios.push_back(of_first.back() / of_second.back());
    }
  }
  state.counters["first_step_ms"] = 1e3 * median(of_first);
  state.counters["second_step_ms"] = 1e3 * median(of_second);
  state.counters["steps"] = static_cast<double>(ratios.size());
  return median(ratios);
}

/// The cost of observing every head: steps with and without it, in one model.
template <class Model>
void observer_cost(benchmark::State& state, const Shape& shape) {
  omp_set_num_threads(shape.threads());
  Training<Model> training(shape);
  const auto step = [&](bool observe) { return [&training, observe] { return training.step(observe); }; };
  state.counters["cost"] = speedup_in_turn(state, shape, step(true), step(false)) - 1;
}

/// The speedup of all threads over one, in one model.
template <class Model>
void thread_speedup(benchmark::State& state, const Shape& shape) {
  const int threads = shape.threads();
  omp_set_num_threads(threads);
  Training<Model> training(shape);
  const auto step = [&](int on) {
    return [&training, on] {
      omp_set_num_threads(on);
      return training.step(true);
    };
  };
  state.counters["speedup"] = speedup_in_turn(state, shape, step(1), step(threads));
  omp_set_num_threads(threads);
}

/// The speedup of a model without norms over one with them.
template <class WithNorms, class Model>
void norm_free_speedup(benchmark::State& state, const Shape& shape) {
  omp_set_num_threads(shape.threads());
  Training<WithNorms> with_norms(shape);
  Training<Model> training(shape);
  state.counters["speedup"] = speedup_in_turn(
      state, shape, [&] { return with_norms.step(true); }, [&] { return training.step(true); });
}

/// The speed of EigenCpu relative to Cpu.
template <class Model>
void eigen_speedup(benchmark::State& state, const Shape& shape) {
  omp_set_num_threads(shape.threads());
  Training<Model> training(shape);
  Training<lnfree::OnDevice<Model, lnfree::EigenCpu<float>>> by_eigen(shape);
  state.counters["speedup"] =
      speedup_in_turn(state, shape, [&] { return training.step(true); }, [&] { return by_eigen.step(true); });
}

#if LNFREE_BENCHMARK_BF16
/// The speedup of bf16 over float.
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
  state.counters["speedup"] =
      speedup_in_turn(state, shape, [&] { return in_float.step(true); }, [&] { return in_bf16->step(true); });
}
#endif

/// The four configurations of one shape, with and without an observer, and the alternating comparisons.
template <const Shape& shape>
void register_shape() {
  const auto add_one = [](const std::string& name, void (*run)(benchmark::State&, const Shape&)) {
    benchmark::RegisterBenchmark(name.c_str(), run, shape)->Unit(benchmark::kMillisecond);
  };
  const auto name = [](const char* benchmark, const char* of) {
    return std::string(benchmark) + "/" + shape.name + "/" + of;
  };
  const auto add = [&]<class Norm, class Activation>(const char* configuration) {
    using Observed = lnfree::Decoder<shape.config, Norm, Activation, lnfree::Cpu, lnfree::EntropyObserver>;
    add_one(name("training_step", configuration) + "/none", training_step<Silent<shape, Norm, Activation>>);
    add_one(name("training_step", configuration) + "/entropy", training_step<Observed>);
    add_one(name("observer_cost", configuration), observer_cost<Observed>);
#if LNFREE_BENCHMARK_BF16
    add_one(name("bf16_speedup", configuration), bf16_speedup<Observed>);
#endif
  };
  using namespace lnfree;
  add.template operator()<LayerNorm, GELU>("sm_ln_g");
  add.template operator()<LayerNorm, ReLU>("sm_ln_r");
  add.template operator()<Identity, GELU>("sm_g");
  add.template operator()<Identity, ReLU>("sm_r");
  using Baseline = Silent<shape, LayerNorm, GELU>;
  add_one(name("norm_free_speedup", "sm_r"), norm_free_speedup<Baseline, Silent<shape, Identity, ReLU>>);
  if constexpr (!shape.one_thread) add_one(name("thread_speedup", "sm_ln_g"), thread_speedup<Baseline>);
  add_one(name("eigen_speedup", "sm_ln_g"), eigen_speedup<Baseline>);
}

}  // namespace benchmarks
