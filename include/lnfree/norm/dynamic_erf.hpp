#pragma once

#include <numbers>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>

namespace lnfree {

/// y = gain erf(alpha x + shift) + bias with two learned scalars for each norm, which start at 0.5 and 0:
/// Derf (Chen et al., "Stronger Normalization-Free Transformers", 2025).
struct DynamicErf {
  static constexpr std::string_view name = "dynamic_erf";
  static constexpr bool has_gain = true;
  static constexpr bool has_bias = true;
  static constexpr bool has_shift = true;
  static constexpr double initial_alpha = 0.5;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T u) {
    return math::erf(u);
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T u) {
    return T(2) * std::numbers::inv_sqrtpi_v<T> * math::exp(-u * u);
  }
};

}  // namespace lnfree
