#pragma once

#include <cstdint>

#include <lnfree/core/json.hpp>

namespace lnfree {

/// Whether an option affects the course of training: such an option must not change when a run is resumed.
enum class Course { part, free };

/// The run-time options of a training run. The defaults are the paper's recipe.
struct TrainerOptions {
  std::int64_t steps = 32000;    ///< Optimizer steps.
  int batch_size = 128;          ///< Windows in one pass.
  int accumulate = 4;            ///< Passes in one optimizer step.
  double learning_rate = 1e-3;   ///< The schedule's peak.
  double warmup_ratio = 0.05;    ///< Share of the steps that warm up.
  double weight_decay = 0.1;     ///< Weight decay of matrices and embeddings.
  bool decay_slopes = true;      ///< Whether the learnable slopes of activations decay, too.
  double beta1 = 0.9;            ///< Decay of AdamW's first moment.
  double beta2 = 0.999;          ///< Decay of AdamW's second moment.
  double epsilon = 1e-8;         ///< Added to the root of AdamW's second moment.
  double max_gradient_norm = 1;  ///< Clips the norm of all gradients together; 0: no clipping.
  double dropout = 0.1;          ///< Rate of the embedding's dropout.
  std::uint64_t seed = 1337;     ///< Seed of weights, order and dropout.
  bool shuffle = true;           ///< Random order of windows; false: file order.

  std::int64_t log_every = 10;          ///< Steps between lines of metrics; 0: never.
  std::int64_t observe_every = 100;     ///< Steps between observations of the heads; 0: never.
  std::int64_t eval_every = 500;        ///< Steps between evaluations, besides one at the end; 0: never.
  std::int64_t checkpoint_every = 500;  ///< Steps between checkpoints, besides the first and last; 0: none.
  bool extend = false;                  ///< Whether resume() accepts more steps than the run started with.
  bool zero = false;                    ///< Whether several processes shard the optimizer's state.

  /// Calls f(name, member, help, course) for each option of `options`, a TrainerOptions, const or not.
  template <class Self, class F>
  static void for_each(Self& options, F&& f) {
    f("steps", options.steps, "Optimizer steps; 0 writes the initial checkpoint and stops", Course::part);
    f("batch_size", options.batch_size, "Windows in one pass", Course::part);
    f("accumulate", options.accumulate, "Passes in one optimizer step", Course::part);
    f("learning_rate", options.learning_rate, "Peak learning rate", Course::part);
    f("warmup_ratio", options.warmup_ratio, "Share of the steps that warm up", Course::part);
    f("weight_decay", options.weight_decay, "Weight decay of matrices and embeddings", Course::part);
    f("decay_slopes", options.decay_slopes, "Learnable slopes decay like matrices", Course::part);
    f("beta1", options.beta1, "Decay of AdamW's first moment", Course::part);
    f("beta2", options.beta2, "Decay of AdamW's second moment", Course::part);
    f("epsilon", options.epsilon, "Added to the root of AdamW's second moment", Course::part);
    f("max_gradient_norm", options.max_gradient_norm, "Clips the norm of all gradients; 0: no clipping",
      Course::part);
    f("dropout", options.dropout, "Dropout of the embedding", Course::part);
    f("seed", options.seed, "Seed of weights, order and dropout", Course::part);
    f("shuffle", options.shuffle, "Visit the windows in a new random order each epoch", Course::part);
    f("log_every", options.log_every, "Steps between lines of metrics; 0: never", Course::free);
    f("observe_every", options.observe_every, "Steps between observations of the heads; 0: never",
      Course::free);
    f("eval_every", options.eval_every, "Steps between evaluations, besides the last; 0: none at all",
      Course::free);
    f("checkpoint_every", options.checkpoint_every,
      "Steps between checkpoints, besides the first and last; 0: none", Course::free);
    f("extend", options.extend, "Let a resumed run have more steps than it was started with", Course::free);
    f("zero", options.zero, "Shard the optimizer's state over the processes (programs ..._mpi and ..._nccl)",
      Course::free);
  }

  /// The options that affect the course of training.
  Json course() const {
    Json course;
    for_each(*this, [&](const char* name, const auto& value, const char*, Course part) {
      if (part == Course::part) course[name] = value;
    });
    return course;
  }
};

}  // namespace lnfree
