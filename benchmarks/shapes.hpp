#pragma once

#include <omp.h>

#include <lnfree/core/config.hpp>

namespace benchmarks {

/// Four layers of width 256: between the demo and GPT-2.
inline constexpr lnfree::DecoderConfig small{
    .layers = 4, .heads = 4, .width = 256, .ffn_width = 1024, .context = 128, .vocab_size = 8192};

/// A model to measure, with its batch and number of threads.
struct Shape {
  const char* name;
  lnfree::DecoderConfig config;
  int batch;        ///< Windows of config.context tokens in a step.
  bool one_thread;  ///< As the demo's runs are trained, in parallel.
  int steps;        ///< Timed steps, at least 5.

  int threads() const {
    static const int all = omp_get_max_threads();
    return one_thread ? 1 : all;
  }
  int tokens() const { return batch * config.context; }

  /// Operations per token in a training step: 6 for every weight in a product, and the whole T x T attention.
  double gflop_per_token() const {
    const double width = config.width, layers = config.layers;
    return (6 * (layers * width * (4 * width + 2 * config.ffn_width) + config.vocab_size * width) +
            12 * layers * config.context * width) *
           1e-9;
  }
};

inline constexpr Shape gpt2_shape{"gpt2", lnfree::gpt2_small, 4, false, 5};
inline constexpr Shape small_shape{"small", small, 16, false, 15};
inline constexpr Shape demo_shape{"demo", lnfree::demo, 16, true, 31};

}  // namespace benchmarks
