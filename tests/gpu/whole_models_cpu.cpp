#include <lnfree/model.hpp>

#include "gpu/whole_models.hpp"

namespace lnfree::test {

template <class Norm, class Activation>
TrainingRun run_on_cpu(const RandomBatch& random) {
  return training_run<Decoder<even, Norm, Activation, Cpu, EntropyObserver>>(random, peak_learning_rate);
}

template TrainingRun run_on_cpu<LayerNorm, GELU>(const RandomBatch&);
template TrainingRun run_on_cpu<LayerNorm, ReLU>(const RandomBatch&);
template TrainingRun run_on_cpu<Identity, GELU>(const RandomBatch&);
template TrainingRun run_on_cpu<Identity, ReLU>(const RandomBatch&);
template TrainingRun run_on_cpu<Identity, LeakyLearnable<Scope::per_layer>>(const RandomBatch&);

}  // namespace lnfree::test
