#pragma once

#include <array>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// y = gain erf(alpha x + shift) + bias with two learned scalars for each norm, which start at 0.5 and 0:
/// Derf (Chen et al., "Stronger Normalization-Free Transformers", 2025). To start from other values at each
/// site, derive a struct and declare its own `parameters`.
struct DynamicErf {
  static constexpr std::string_view name = "dynamic_erf";
  static constexpr std::array parameters{scalar("alpha", 0.5), scalar("shift", 0.0),
                                         per_channel("weight", 1.0), per_channel("bias", 0.0)};

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, const T (&p)[4]) {
    const auto& [alpha, shift, gain, bias] = p;
    return gain * math::erf(alpha * x + shift) + bias;
  }
};

}  // namespace lnfree
