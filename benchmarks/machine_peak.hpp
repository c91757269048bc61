#pragma once

#include <cstddef>

/// The machine's peak rates, measured in the same process as the figures that are compared with them.
namespace benchmarks {

/// Fused multiply-adds in float on the widest vectors, two operations each, in GFLOP/s: the best of many
/// short trials.
double measure_fma_gflops(int threads);

/// Much more than every cache.
inline constexpr std::size_t beyond_caches = std::size_t{3} << 27;

/// a = b + s c, repeated over arrays of `bytes` in total, in 10^9 bytes per second: 12 bytes per element, as
/// in STREAM. With fewer bytes than a cache holds it is that cache's bandwidth.
double measure_triad_gbytes_per_second(int threads, std::size_t bytes = beyond_caches);

/// The repeated sum of an array of `bytes`, in 10^9 bytes per second.
double measure_read_gbytes_per_second(int threads, std::size_t bytes = beyond_caches);

/// The FMA peak, and both bandwidths of main memory.
struct MachinePeak {
  double gflops;
  double triad_gbytes_per_second;
  double read_gbytes_per_second;
};

/// The peaks, measured at the first call for each number of threads.
const MachinePeak& machine_peak(int threads);

}  // namespace benchmarks
