#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// max(0, x). Its derivative follows from its output, so only the output is kept for the backward pass.
struct ReLU {
  static constexpr std::string_view name = "relu";
  static constexpr Saved saved = Saved::output;

  // Not x > 0 ? x : 0, which would hide a NaN.
  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x < T(0) ? T(0) : x;
  }

  /// From the output y = value(x).
  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T y) {
    return y > T(0) ? T(1) : T(0);
  }
};

}  // namespace lnfree
