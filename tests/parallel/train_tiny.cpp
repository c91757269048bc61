/// Trains a tiny model with several processes.
///
///   train_tiny_mpi MODEL FOLDER [zero]
///
/// MODEL: adamw (LayerNorm, GELU), muon (the same), guided (no norm, learned slopes, entropy-guided loss), or
/// tapered (norms that are removed, the last one with an anchor).
/// Makes its token shards in FOLDER, and the run in FOLDER/run.
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>

#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/model.hpp>
#include <lnfree/norm/tapered.hpp>
#include <lnfree/objective/entropy_guided.hpp>
#include <lnfree/objective/steady_scale.hpp>
#include <lnfree/observer/observers.hpp>
#include <lnfree/observer/outlier_observer.hpp>
#include <lnfree/optim/muon.hpp>
#include <lnfree/parallel/mpi.hpp>
#include <lnfree/train/trainer.hpp>

#include "train/support.hpp"

using namespace lnfree;

namespace {

using Observer = Observers<EntropyObserver, OutlierObserver>;
using Normed = Decoder<tiny, LayerNorm, GELU, Cpu, Observer>;
using Guided =
    Decoder<tiny, Identity, LeakyLearnable<Scope::global>, Cpu, Observer, AsConfigured, EntropyGuided>;

using Removed = Decoder<clean(tiny), Tapered, GELU, Cpu, Observer, AsConfigured, SteadyScale>;

template <class Model, template <class> class OptimizerPolicy>
void train(const std::filesystem::path& folder, bool zero, const Mpi& ranks) {
  on_all_ranks(ranks, [&] {
    if (ranks.rank() != 0) return;
    test::write_tokens(folder / "train.bin", 50, tiny.context, tiny.vocab_size);
    test::write_tokens(folder / "val.bin", 5, tiny.context, tiny.vocab_size, 2);
  });
  const Windows windows{TokenShard::open(folder / "train.bin"), tiny.context, tiny.vocab_size};
  const Windows validation{TokenShard::open(folder / "val.bin"), tiny.context, tiny.vocab_size};
  // 12 passes: not every number of leaves is one of passes.
  const TrainerOptions options{.steps = 10,
                               .batch_size = 2,
                               .accumulate = 12,
                               .learning_rate = 1e-2,
                               .warmup_ratio = 0.3,
                               .dropout = 0.3,
                               .log_every = 1,
                               .observe_every = 3,
                               .eval_every = 4,
                               .checkpoint_every = 0,
                               .zero = zero};
  Model model(options.batch_size);
  model.initialize(options.seed);
  if constexpr (HasTarget<typename Model::Objective>) model.objective().options().anchor = 0.5;
  Trainer<Model, OptimizerPolicy, WarmupLinearSchedule, Mpi> trainer(model, &windows, &validation, options,
                                                                     folder / "run", {}, ranks);
  trainer.start();
  trainer.run();
  ranks.barrier();
}

}  // namespace

int main(int argc, char** argv) {
  const Mpi ranks(60);
  const std::string name = argc > 1 ? argv[1] : "";
  try {
    const bool zero = argc > 3;
    if (name == "adamw") {
      train<Normed, AdamW>(argv[2], zero, ranks);
    } else if (name == "muon") {
      train<Normed, Muon>(argv[2], zero, ranks);
    } else if (name == "guided") {
      train<Guided, AdamW>(argv[2], zero, ranks);
    } else if (name == "tapered") {
      train<Removed, AdamW>(argv[2], zero, ranks);
    } else {
      throw Error("unknown model " + name);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", ranks.rank(), error.what());
    ranks.abort(1);
  }
}
