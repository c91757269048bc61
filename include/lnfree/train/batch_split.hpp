#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>

namespace lnfree {

/// How the windows of an optimizer step are divided: `accumulate` passes (micro-batches) of `batch_size`
/// windows.
struct BatchSplit {
  /// Windows in a pass.
  int batch_size = 1;
  /// Passes in a step.
  int accumulate = 1;
};

/// The split of `windows` into the fewest equal passes that fit into `available` bytes, where a pass of b
/// windows needs bytes_needed(b); nothing if none fits. All splits make the same step, except for the order
/// of summation and the elements that dropout zeroes.
inline std::optional<BatchSplit> largest_split(std::int64_t windows, std::size_t available,
                                               const std::function<std::size_t(int)>& bytes_needed) {
  constexpr std::int64_t max_int = std::numeric_limits<int>::max();
  for (std::int64_t batch = std::min(windows, max_int); batch >= 1 && windows / batch <= max_int; --batch) {
    if (windows % batch == 0 && bytes_needed(static_cast<int>(batch)) <= available)
      return BatchSplit{static_cast<int>(batch), static_cast<int>(windows / batch)};
  }
  return std::nullopt;
}

}  // namespace lnfree
