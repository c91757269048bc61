#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <lnfree/data/windows.hpp>
#include <lnfree/nn/decoder.hpp>

namespace lnfree {

/// Windows as the model takes them, with the memory for a batch: within a window of T tokens, token t
/// predicts token t + 1, and the last one predicts nothing, so that there are T - 1 targets per window.
class WindowBatch {
 public:
  WindowBatch(int max_batch, int context)
      : context_(context), tokens_(static_cast<std::size_t>(max_batch) * context), targets_(tokens_.size()) {}

  /// Reads window `index` into row `row`.
  void read(const Windows& windows, std::int64_t index, int row) {
    std::int32_t* const tokens = tokens_.data() + static_cast<std::ptrdiff_t>(row) * context_;
    std::int32_t* const targets = targets_.data() + static_cast<std::ptrdiff_t>(row) * context_;
    windows.window(index, tokens);
    std::copy(tokens + 1, tokens + context_, targets);
    targets[context_ - 1] = -1;
  }

  /// The first `rows` windows.
  Batch batch(int rows) const {
    const auto count = static_cast<std::size_t>(rows) * context_;
    return {{rows, context_}, {tokens_.data(), count}, {targets_.data(), count}};
  }

  /// Targets of `rows` windows.
  std::int64_t targets(int rows) const { return std::int64_t{rows} * (context_ - 1); }

 private:
  int context_;
  std::vector<std::int32_t> tokens_, targets_;
};

/// The loss over a set of windows.
struct Evaluation {
  double eval_loss = 0;  ///< Mean negative log-likelihood in nats per target.
  std::int64_t targets = 0;
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
