#pragma once

#include <array>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// y = gain tanh(alpha x) + bias with one learned alpha for each norm, which starts at 0.5: DyT (Zhu et al.,
/// "Transformers without Normalization", 2025). To start from other values at each site, as for a large
/// model, derive a struct and declare its own `parameters`.
struct DynamicTanh {
  static constexpr std::string_view name = "dynamic_tanh";
  static constexpr std::array parameters{scalar("alpha", 0.5), per_channel("weight", 1.0),
                                         per_channel("bias", 0.0)};

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, const T (&p)[3]) {
    const auto& [alpha, gain, bias] = p;
    return gain * math::tanh(alpha * x) + bias;
  }
};

}  // namespace lnfree
