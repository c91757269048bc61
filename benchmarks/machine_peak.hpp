#pragma once

#include <cstddef>

/// What the machine itself can do, measured in the process whose figures are held against it.
namespace benchmarks {

/// Fused multiply-adds in float on the widest vectors, two operations each, in GFLOP/s: the best of many
/// short trials.
double measure_fma_gflops(int threads);

/// Bytes far beyond every cache.
inline constexpr std::size_t beyond_caches = std::size_t{3} << 27;

/// a = b + s c over arrays of `bytes` together, again and again, in 10^9 bytes per second: 12 bytes an
/// element, as STREAM counts. Fewer bytes than a cache holds give that cache's bandwidth.
double measure_triad_gbytes_per_second(int threads, std::size_t bytes = beyond_caches);

/// The sum of an array of `bytes`, again and again, in 10^9 bytes per second.
double measure_read_gbytes_per_second(int threads, std::size_t bytes = beyond_caches);

/// The FMA peak, and both bandwidths of the memory beyond the caches.
struct MachinePeak {
  double gflops;
  double triad_gbytes_per_second;
  double read_gbytes_per_second;
};

/// All three, measured at the first call for each number of threads.
const MachinePeak& machine_peak(int threads);

}  // namespace benchmarks
