#pragma once

#include <array>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// y = gain (x - mean) / sqrt(variance + 1e-5) + bias over the channels of each row (Ba et al., 2016).
struct LayerNorm {
  static constexpr std::string_view name = "layer_norm";
  static constexpr std::array parameters{per_channel("weight", 1.0), per_channel("bias", 0.0)};
  static constexpr double epsilon = 1e-5;

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {mean, T(1) / math::sqrt(variance + T(epsilon))};
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row, const T (&p)[2]) {
    const auto& [gain, bias] = p;
    return (x - row.shift) * row.scale * gain + bias;
  }
};

}  // namespace lnfree
