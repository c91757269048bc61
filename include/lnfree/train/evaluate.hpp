#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <lnfree/data/windows.hpp>
#include <lnfree/parallel/communicator.hpp>
#include <lnfree/parallel/observer_sum.hpp>
#include <lnfree/parallel/tree.hpp>
#include <lnfree/train/window_batch.hpp>

namespace lnfree {

/// The loss over a set of windows.
struct Evaluation {
  double eval_loss = 0;  ///< Mean negative log-likelihood in nats per target.
  /// Number of predicted tokens.
  std::int64_t targets = 0;
  /// exp(eval_loss).
  double perplexity() const { return std::exp(eval_loss); }
};

/// Evaluates all windows in file order, without dropout. The model's observer is reset first and then holds
/// the results of this evaluation. Several ranks share the batches, and all of them get the result.
template <class Model, Communicator C = SingleProcess>
Evaluation evaluate(Model& model, const Windows& windows, const C& ranks = {}) {
  static_assert(!has_ranks<C> || observes_across_ranks<typename Model::Observer>,
                "lnfree: with several processes an observer of passes must offer for_each_sum(f) "
                "(docs/parallel.md)");
  if (C::max_leaves % ranks.size() != 0) {
    throw SharedError("an evaluation cannot be shared by " + std::to_string(ranks.size()) +
                      " ranks: their number must be a power of two up to " + std::to_string(C::max_leaves));
  }
  const std::int64_t batch = model.max_batch(), batches = (windows.count() + batch - 1) / batch;
  const Branch branch = Branch::of(ranks, C::max_leaves);
  const Division division{batches, C::max_leaves};
  const auto rows_of = [&](std::int64_t number) {
    return static_cast<int>(std::min(batch, windows.count() - number * batch));
  };
  WindowBatch memory(model.max_batch(), static_cast<int>(windows.context()));
  ObserverSum<typename Model::Observer> observed;
  // The losses of the batches of all ranks: each rank fills in its own.
  std::vector<double> losses(static_cast<std::size_t>(batches));
  for (int leaf = 0; leaf < branch.leaves; ++leaf) {
    observed.begin_leaf(model.observer());
    const std::int64_t first = division.first(branch.first_leaf + leaf);
    const std::int64_t end = division.first(branch.first_leaf + leaf + 1);
    for (std::int64_t number = first; number < end; ++number) {
      const int rows = rows_of(number);
      for (int row = 0; row < rows; ++row) memory.read(windows, number * batch + row, row);
      losses[static_cast<std::size_t>(number)] = model.loss(memory.batch(rows));
    }
    if constexpr (has_ranks<C>) observed.end_leaf(model.observer(), branch, leaf, end - first);
  }
  if constexpr (has_ranks<C>) {
    observed.finish(model.observer(), ranks);
    const std::vector<double> all = ranks.gather(losses);
    for (int rank = 0; rank < ranks.size(); ++rank) {
      const std::int64_t end = division.first((rank + 1) * branch.leaves);
      for (std::int64_t number = division.first(rank * branch.leaves); number < end; ++number)
        losses[static_cast<std::size_t>(number)] = all[static_cast<std::size_t>(rank * batches + number)];
    }
  }
  Evaluation result;
  double sum = 0;
  for (std::int64_t number = 0; number < batches; ++number) {
    const std::int64_t targets = memory.targets(rows_of(number));
    sum += losses[static_cast<std::size_t>(number)] * static_cast<double>(targets);
    result.targets += targets;
  }
  result.eval_loss = result.targets == 0 ? 0 : sum / static_cast<double>(result.targets);
  return result;
}

}  // namespace lnfree
