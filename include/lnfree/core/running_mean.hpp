#pragma once

#include <algorithm>
#include <cstdint>

namespace lnfree {

/// The weight of the newest value in a running mean over the steps of a run, counted from 0. It is the mean
/// of all values during the first 100 steps; after that the weight stays 0.01, so that older values fade.
inline double running_mean_weight(std::int64_t step) {
  return std::max(1 / (static_cast<double>(step) + 1), 0.01);
}

}  // namespace lnfree
