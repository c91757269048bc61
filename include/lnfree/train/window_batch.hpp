#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <lnfree/data/windows.hpp>
#include <lnfree/nn/decoder.hpp>

namespace lnfree {

/// Windows as a batch for the model, with its memory. Within a window of T tokens, token t predicts token t +
/// 1 and the last predicts nothing, so there are T - 1 targets per window.
class WindowBatch {
 public:
  /// For batches of up to `max_batch` windows of `context` tokens.
  WindowBatch(int max_batch, int context)
      : context_(context),
        tokens_(static_cast<std::size_t>(Index{max_batch} * context)),
        targets_(tokens_.size()) {}

  /// Reads window `index` into row `row`.
  void read(const Windows& windows, std::int64_t index, int row) {
    std::int32_t* const tokens = tokens_.data() + static_cast<std::ptrdiff_t>(row) * context_;
    std::int32_t* const targets = targets_.data() + static_cast<std::ptrdiff_t>(row) * context_;
    windows.window(index, tokens);
    std::copy(tokens + 1, tokens + context_, targets);
    targets[context_ - 1] = -1;
  }

  /// The first `rows` windows as a batch.
  Batch batch(int rows) const {
    const auto count = static_cast<std::size_t>(Index{rows} * context_);
    return {{rows, context_}, {tokens_.data(), count}, {targets_.data(), count}};
  }

  /// Targets of `rows` windows.
  std::int64_t targets(int rows) const { return std::int64_t{rows} * (context_ - 1); }

 private:
  int context_;
  std::vector<std::int32_t> tokens_, targets_;
};

}  // namespace lnfree
