#pragma once

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// A number and its derivative with respect to some variable: a function template evaluated on Dual also
/// computes its derivative (forward-mode automatic differentiation). Constants have derivative 0.
template <class T>
struct Dual {
  T value;  ///< The number.
  T slope;  ///< Its derivative.

  constexpr Dual() = default;
  /// A constant.
  LNFREE_HOST_DEVICE constexpr Dual(T number) : value(number), slope(0) {}
  /// A number and its derivative.
  LNFREE_HOST_DEVICE constexpr Dual(T number, T derivative) : value(number), slope(derivative) {}
  /// For literals: T(1e-5) works for every T.
  template <class U>
  LNFREE_HOST_DEVICE explicit constexpr Dual(U number) : value(static_cast<T>(number)), slope(0) {}

  LNFREE_HOST_DEVICE friend constexpr Dual operator+(Dual a, Dual b) {
    return {a.value + b.value, sum(a.slope, b.slope)};
  }
  LNFREE_HOST_DEVICE friend constexpr Dual operator-(Dual a, Dual b) {
    return {a.value - b.value, sum(a.slope, -b.slope)};
  }
  LNFREE_HOST_DEVICE friend constexpr Dual operator-(Dual a) { return {-a.value, -a.slope}; }
  LNFREE_HOST_DEVICE friend constexpr Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, sum(product(a.slope, b.value), product(b.slope, a.value))};
  }
  LNFREE_HOST_DEVICE friend constexpr Dual operator/(Dual a, Dual b) {
    const T quotient = a.value / b.value;
    return {quotient, sum(a.slope, -product(b.slope, quotient)) / b.value};
  }
  LNFREE_HOST_DEVICE constexpr Dual& operator+=(Dual b) { return *this = *this + b; }
  LNFREE_HOST_DEVICE constexpr Dual& operator-=(Dual b) { return *this = *this - b; }
  LNFREE_HOST_DEVICE constexpr Dual& operator*=(Dual b) { return *this = *this * b; }
  LNFREE_HOST_DEVICE constexpr Dual& operator/=(Dual b) { return *this = *this / b; }

  LNFREE_HOST_DEVICE friend constexpr bool operator<(Dual a, Dual b) { return a.value < b.value; }
  LNFREE_HOST_DEVICE friend constexpr bool operator>(Dual a, Dual b) { return a.value > b.value; }
  LNFREE_HOST_DEVICE friend constexpr bool operator<=(Dual a, Dual b) { return a.value <= b.value; }
  LNFREE_HOST_DEVICE friend constexpr bool operator>=(Dual a, Dual b) { return a.value >= b.value; }

 private:
  // Where a slope is a 0 known at compile time, its terms are skipped. The compiler itself may not drop x + 0
  // and 0 x, because of -0 and infinity.
  LNFREE_HOST_DEVICE static constexpr bool is_known_zero([[maybe_unused]] T slope) {
#if LNFREE_GPU_COMPILER
    return false;  // nvcc cannot tell, and these loops are memory-bound on a GPU anyway
#else
    return __builtin_constant_p(slope == T(0)) && slope == T(0);
#endif
  }
  LNFREE_HOST_DEVICE static constexpr T sum(T a, T b) {
    return is_known_zero(a) ? b : is_known_zero(b) ? a : a + b;
  }
  LNFREE_HOST_DEVICE static constexpr T product(T slope, T factor) {
    return is_known_zero(slope) ? T(0) : slope * factor;
  }
};

}  // namespace lnfree
