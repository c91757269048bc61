#include "machine_peak.hpp"

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>

#include <benchmark/benchmark.h>

namespace benchmarks {
namespace {

// This file is always compiled for the machine's processor, since the peak is the machine's.
#if defined(__AVX512F__)
constexpr int width = 16;
#elif defined(__AVX__)
constexpr int width = 8;
#else
constexpr int width = 4;
#endif
using Vector [[gnu::vector_size(width * sizeof(float))]] = float;

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

/// Bytes per second of `pass`, repeated until a trial takes long enough to be timed.
template <class Pass>
double bandwidth(double bytes, const Pass& pass) {
  const int repeats = static_cast<int>(std::max(1.0, 1e8 / bytes));
  const double seconds = best_seconds(8, [&] {
    for (int repeat = 0; repeat < repeats; ++repeat) {
      pass();
      benchmark::ClobberMemory();
    }
  });
  return bytes * repeats / seconds;
}

/// An array whose pages are first touched by the thread that will use them; its size is a whole number of the
/// reader's steps.
class Array {
 public:
  Array(int threads, std::size_t bytes, float value)
      : size_((bytes / sizeof(float) + step - 1) / step * step), data_(new float[size_]) {
    float* const data = data_.get();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (std::size_t i = 0; i < size_; ++i) data[i] = value;
  }
  float* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

  static constexpr int sums = 8;  // they hide the latency of an addition
  static constexpr std::size_t step = sums * width;

 private:
  std::size_t size_;
  std::unique_ptr<float[]> data_;
};

}  // namespace

double measure_fma_gflops(int threads) {
  constexpr int sums =
      12;  // enough to hide the latency of two units; with two factors they fit in 16 registers
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
        benchmark::DoNotOptimize(sum[i]);  // else equal sums would be computed once
      }
      for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < sums; ++i) sum[i] = sum[i] * a + b;
      }
      for (int i = 0; i < sums; ++i) benchmark::DoNotOptimize(sum[i]);
    }
  });
  return 2.0 * width * sums * rounds * threads / seconds * 1e-9;
}

double measure_triad_gbytes_per_second(int threads, std::size_t bytes) {
  const Array a(threads, bytes / 3, 0), b(threads, bytes / 3, 1), c(threads, bytes / 3, 2);
  float factor = 0.5f;
  benchmark::DoNotOptimize(factor);
  return 1e-9 * bandwidth(3.0 * sizeof(float) * static_cast<double>(a.size()), [&] {
           float *const to = a.data(), *const left = b.data(), *const right = c.data();
#pragma omp parallel for simd num_threads(threads) schedule(static)
           for (std::size_t i = 0; i < a.size(); ++i) to[i] = left[i] + factor * right[i];
         });
}

double measure_read_gbytes_per_second(int threads, std::size_t bytes) {
  using Unaligned [[gnu::vector_size(width * sizeof(float)), gnu::aligned(sizeof(float)), gnu::may_alias]] =
      float;
  const Array a(threads, bytes, 1);
  return 1e-9 * bandwidth(1.0 * sizeof(float) * static_cast<double>(a.size()), [&] {
#pragma omp parallel num_threads(threads)
           {
             const std::size_t steps = a.size() / Array::step;
             const std::size_t team = omp_get_num_threads(), me = omp_get_thread_num();
             Vector sum[Array::sums] = {};
             for (std::size_t s = steps * me / team; s < steps * (me + 1) / team; ++s) {
               const float* from = a.data() + s * Array::step;
               for (int i = 0; i < Array::sums; ++i) {
                 sum[i] += *reinterpret_cast<const Unaligned*>(from + i * width);
               }
             }
             for (int i = 0; i < Array::sums; ++i) benchmark::DoNotOptimize(sum[i]);
           }
         });
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
