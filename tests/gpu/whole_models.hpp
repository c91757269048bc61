#pragma once

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/layer_norm.hpp>

#include "nn/training_run.hpp"

namespace lnfree::test {

/// Sizes for which tensor cores are used.
inline constexpr DecoderConfig even{
    .layers = 4, .heads = 4, .width = 256, .ffn_width = 1024, .context = 128, .vocab_size = 8192};

inline constexpr double peak_learning_rate = 1e-3;

/// The run of a model on the Cpu, whose vectors need another compiler than the GPU's.
template <class Norm, class Activation>
TrainingRun run_on_cpu(const RandomBatch& random);

extern template TrainingRun run_on_cpu<LayerNorm, GELU>(const RandomBatch&);
extern template TrainingRun run_on_cpu<LayerNorm, ReLU>(const RandomBatch&);
extern template TrainingRun run_on_cpu<Identity, GELU>(const RandomBatch&);
extern template TrainingRun run_on_cpu<Identity, ReLU>(const RandomBatch&);
extern template TrainingRun run_on_cpu<Identity, LeakyLearnable<Scope::per_layer>>(const RandomBatch&);

}  // namespace lnfree::test
