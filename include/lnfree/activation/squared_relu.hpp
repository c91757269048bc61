#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// max(0, x)^2 (So et al., "Primer", 2021).
struct SquaredReLU {
  static constexpr std::string_view name = "squared_relu";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x < T(0) ? T(0) : x * x;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    return x < T(0) ? T(0) : T(2) * x;
  }
};

}  // namespace lnfree
