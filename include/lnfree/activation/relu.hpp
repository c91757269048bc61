#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// max(0, x). Its output tells its derivative, so only the output is kept for the backward pass.
struct ReLU {
  static constexpr std::string_view name = "relu";
  static constexpr Saved saved = Saved::output;

  // x > 0 would turn a NaN into 0 and hide it.
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
