#include <omp.h>

#include <cstdio>
#include <string>

#include <benchmark/benchmark.h>

#include "machine_peak.hpp"

namespace {

/// Adds the machine's peak on `threads` threads to the head of the output.
void add_peak_to_context(int threads) {
  const benchmarks::MachinePeak& peak = benchmarks::machine_peak(threads);
  const auto add = [&](const char* name, double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.2f", value);
    benchmark::AddCustomContext(name + ("_" + std::to_string(threads)), text);
  };
  add("fma_peak_gflops", peak.gflops);
  add("triad_gbytes_per_second", peak.triad_gbytes_per_second);
  add("read_gbytes_per_second", peak.read_gbytes_per_second);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--help") {
      std::printf("OMP_NUM_THREADS sets the number of threads for the shapes other than the demo.\n\n");
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const int threads = omp_get_max_threads();
  benchmark::AddCustomContext("threads", std::to_string(threads));
  add_peak_to_context(1);
  if (threads > 1) add_peak_to_context(threads);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
