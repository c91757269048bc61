#include "machine_peak.hpp"

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>

#include <benchmark/benchmark.h>

namespace benchmarks {
namespace {

// This file is compiled for the processor at hand whatever the rest is compiled for: the peak is the
// machine's.
#if defined(__AVX512F__)
constexpr int width = 16;
#elif defined(__AVX__)
constexpr int width = 8;
#else
constexpr int width = 4;
#endif
using Vector [[gnu::vector_size(width * sizeof(float))]] = float;

constexpr std::size_t array_size = std::size_t{1} << 25;  // 128 MiB: four times a large last-level cache

template <class Body>
double best_seconds(int trials, const Body& body) {
  double best = 1e300;
  for (int trial = 0; trial < trials; ++trial) {
    const double start = omp_get_wtime();
    body();
    best = std::min(best, omp_get_wtime() - start);
  }
  return best;
}

/// An array whose pages each thread touches first where it will use them.
class Array {
 public:
  Array(int threads, float value) : data_(new float[array_size]) {
    float* const data = data_.get();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (std::size_t i = 0; i < array_size; ++i) data[i] = value;
  }
  float* data() const {
    return data_.get();
  }

 private:
  std::unique_ptr<float[]> data_;
};

}  // namespace

double measure_fma_gflops(int threads) {
  constexpr int sums = 12;  // enough to hide the latency of two units; with two factors they fit 16 registers
  constexpr int rounds = 1'000'000;
  // Unknown to the compiler; the sums converge and stay ordinary numbers.
  float factor = 0.75f, term = 0.25f;
  benchmark::DoNotOptimize(factor);
  benchmark::DoNotOptimize(term);
  const double seconds = best_seconds(20, [&] {
#pragma omp parallel num_threads(threads)
    {
      const Vector a = Vector{} + factor, b = Vector{} + term;
      Vector sum[sums];
      for (int i = 0; i < sums; ++i) {
        sum[i] = Vector{} + static_cast<float>(i);
        benchmark::DoNotOptimize(sum[i]);  // sums known to be equal would be computed once
      }
      for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < sums; ++i) sum[i] = sum[i] * a + b;
      }
      for (int i = 0; i < sums; ++i) benchmark::DoNotOptimize(sum[i]);
    }
  });
  return 2.0 * width * sums * rounds * threads / seconds * 1e-9;
}

double measure_triad_gbytes_per_second(int threads) {
  const Array a(threads, 0), b(threads, 1), c(threads, 2);
  float factor = 0.5f;
  benchmark::DoNotOptimize(factor);
  const double seconds = best_seconds(8, [&] {
    float *const to = a.data(), *const left = b.data(), *const right = c.data();
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (std::size_t i = 0; i < array_size; ++i) to[i] = left[i] + factor * right[i];
    benchmark::ClobberMemory();
  });
  return 3.0 * sizeof(float) * array_size / seconds * 1e-9;
}

double measure_read_gbytes_per_second(int threads) {
  const Array a(threads, 1);
  const double seconds = best_seconds(8, [&] {
#pragma omp parallel num_threads(threads)
    {
      constexpr std::size_t step = 8 * width;  // eight sums hide the latency of an addition
      const std::size_t parts = array_size / step, team = omp_get_num_threads(), me = omp_get_thread_num();
      Vector sum[8] = {};
      for (std::size_t part = parts * me / team; part < parts * (me + 1) / team; ++part) {
        const float* from = a.data() + part * step;
        for (int i = 0; i < 8; ++i) {
          using Unaligned [[gnu::vector_size(width * sizeof(float)), gnu::aligned(4), gnu::may_alias]] =
              float;
          sum[i] += *reinterpret_cast<const Unaligned*>(from + i * width);
        }
      }
      for (int i = 0; i < 8; ++i) benchmark::DoNotOptimize(sum[i]);
    }
  });
  return 1.0 * sizeof(float) * array_size / seconds * 1e-9;
}

const MachinePeak& machine_peak(int threads) {
  static std::map<int, MachinePeak> measured;
  const auto found = measured.find(threads);
  if (found != measured.end()) return found->second;
  return measured[threads] = {.gflops = measure_fma_gflops(threads),
                              .triad_gbytes_per_second = measure_triad_gbytes_per_second(threads),
                              .read_gbytes_per_second = measure_read_gbytes_per_second(threads)};
}

}  // namespace benchmarks
