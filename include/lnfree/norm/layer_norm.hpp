#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// y = gain (x - mean) / sqrt(variance + 1e-5) + bias over the channels of each row (Ba et al., 2016).
struct LayerNorm {
  static constexpr std::string_view name = "layer_norm";
  static constexpr bool has_gain = true;
  static constexpr bool has_bias = true;
  static constexpr double epsilon = 1e-5;

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {mean, T(1) / math::sqrt(variance + T(epsilon))};
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return (x - row.shift) * row.scale;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T gradient(T d_y, T y, RowStatistics<T> row, T mean_d_y, T mean_d_y_y) {
    return row.scale * (d_y - mean_d_y - y * mean_d_y_y);
  }
};

}  // namespace lnfree
