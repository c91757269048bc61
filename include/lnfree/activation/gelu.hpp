#pragma once

#include <numbers>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// The Gaussian error linear unit in its exact form, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2
/// (Hendrycks and Gimpel, 2016): the paper's GELU.
struct GELU {
  static constexpr std::string_view name = "gelu";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x * cumulative(x);
  }

  /// Phi(x) + x phi(x), phi the standard normal density.
  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    constexpr T density_at_0 = T(0.5) * std::numbers::inv_sqrtpi_v<T> * std::numbers::sqrt2_v<T>;
    return cumulative(x) + x * density_at_0 * math::exp2(T(-0.5) * std::numbers::log2e_v<T> * x * x);
  }

 private:
  template <class T>
  LNFREE_HOST_DEVICE static T cumulative(T x) {
    return T(0.5) + T(0.5) * math::erf(x * (T(0.5) * std::numbers::sqrt2_v<T>));
  }
};

/// GELU in the tanh approximation of GPT-2's own code, x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715
/// x^3).
struct GELUTanh {
  static constexpr std::string_view name = "gelu_new";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return T(0.5) * x * (T(1) + math::tanh(inner(x)));
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    const T t = math::tanh(inner(x));
    const T inner_derivative = slope<T> * (T(1) + T(3 * 0.044715) * x * x);
    return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * inner_derivative;
  }

 private:
  template <class T>
  static constexpr T slope = std::numbers::sqrt2_v<T> * std::numbers::inv_sqrtpi_v<T>;

  template <class T>
  LNFREE_HOST_DEVICE static T inner(T x) {
    return slope<T> * (x + T(0.044715) * x * x * x);
  }
};

}  // namespace lnfree
