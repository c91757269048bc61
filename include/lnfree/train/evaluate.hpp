#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <lnfree/data/windows.hpp>
#include <lnfree/train/window_batch.hpp>

namespace lnfree {

/// The loss over a set of windows.
struct Evaluation {
  double eval_loss = 0;  ///< Mean negative log-likelihood in nats per target.
  /// Tokens that were predicted.
  std::int64_t targets = 0;
  /// e to the power of the loss.
  double perplexity() const { return std::exp(eval_loss); }
};

/// Evaluates all windows in file order, dropout off. An observing model's observer is reset and then holds
/// what it saw.
template <class Model>
Evaluation evaluate(Model& model, const Windows& windows) {
  model.observer().reset();
  WindowBatch memory(model.max_batch(), static_cast<int>(windows.context()));
  Evaluation result;
  double sum = 0;
  for (std::int64_t first = 0; first < windows.count(); first += model.max_batch()) {
    const int rows = static_cast<int>(std::min<std::int64_t>(model.max_batch(), windows.count() - first));
    for (int row = 0; row < rows; ++row) memory.read(windows, first + row, row);
    const double loss = model.loss(memory.batch(rows));
    sum += loss * static_cast<double>(memory.targets(rows));
    result.targets += memory.targets(rows);
  }
  result.eval_loss = result.targets == 0 ? 0 : sum / static_cast<double>(result.targets);
  return result;
}

}  // namespace lnfree
