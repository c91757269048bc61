#pragma once

#include <array>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// y = gain x / sqrt(mean(x^2) + 1e-6) over the channels of each row (Zhang and Sennrich, 2019).
struct RMSNorm {
  static constexpr std::string_view name = "rms_norm";
  static constexpr std::array parameters{per_channel("weight", 1.0)};
  static constexpr double epsilon = 1e-6;

  // mean(x^2) = variance + mean^2; nothing is subtracted, so the shift is 0.
  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {T(0), T(1) / math::sqrt(variance + mean * mean + T(epsilon))};
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row, const T (&gain)[1]) {
    return x * row.scale * gain[0];
  }
};

}  // namespace lnfree
