#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// x sigmoid(x) = x / (1 + e^-x), also called swish (Hendrycks and Gimpel, 2016; Ramachandran et al., 2017).
struct SiLU {
  static constexpr std::string_view name = "silu";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x * sigmoid(x);
  }

  /// s (1 + x (1 - s)) with s = sigmoid(x).
  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    const T s = sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
  }

 private:
  template <class T>
  LNFREE_HOST_DEVICE static T sigmoid(T x) {
    return T(1) / (T(1) + math::exp(-x));
  }
};

}  // namespace lnfree
