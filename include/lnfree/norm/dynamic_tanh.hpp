#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>

namespace lnfree {

/// y = gain tanh(alpha x) + bias with a learned scalar alpha for each norm, which starts at 0.5: DyT, no
/// statistics of the row at all (Zhu et al., "Transformers without Normalization", 2025).
struct DynamicTanh {
  static constexpr std::string_view name = "dynamic_tanh";
  static constexpr bool has_gain = true;
  static constexpr bool has_bias = true;
  static constexpr bool has_shift = false;
  static constexpr double initial_alpha = 0.5;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T u) {
    return math::tanh(u);
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T u) {
    const T y = math::tanh(u);
    return T(1) - y * y;
  }
};

}  // namespace lnfree
