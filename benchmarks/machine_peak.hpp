#pragma once

/// What the machine itself can do, measured in the process whose figures are held against it.
namespace benchmarks {

/// Fused multiply-adds in float on the widest vectors, two operations each, in GFLOP/s: the best of many
/// short trials.
double measure_fma_gflops(int threads);

/// a = b + s c over arrays far beyond the caches, in 10^9 bytes per second: 12 bytes an element, as STREAM
/// counts.
double measure_triad_gbytes_per_second(int threads);

/// The sum of an array far beyond the caches, in 10^9 bytes per second.
double measure_read_gbytes_per_second(int threads);

struct MachinePeak {
  double gflops;
  double triad_gbytes_per_second;
  double read_gbytes_per_second;
};

/// All three, measured at the first call for each number of threads.
const MachinePeak& machine_peak(int threads);

}  // namespace benchmarks
