#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

/// Policies as a user of the library would write them.
namespace lnfree::test {

/// LayerNorm without parameters.
struct PlainNorm {
  static constexpr std::string_view name = "plain_norm";
  static constexpr bool has_gain = false;
  static constexpr bool has_bias = false;

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {mean, T(1) / math::sqrt(variance + T(1e-5))};
  }
  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return (x - row.shift) * row.scale;
  }
  template <class T>
  LNFREE_HOST_DEVICE static T gradient(T d_y, T y, RowStatistics<T> row, T mean_d_y, T mean_d_y_y) {
    return row.scale * (d_y - mean_d_y - y * mean_d_y_y);
  }
};

/// A smooth activation with a learnable parameter in a role other than a slope: x sigmoid(p x).
struct LearnableSwish {
  static constexpr std::string_view name = "learnable_swish";
  static constexpr Saved saved = Saved::input;
  static constexpr Scope scope = Scope::per_layer;
  static constexpr std::string_view parameter_name = "beta";
  static constexpr double initial = 1.0;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, T beta) {
    return x * sigmoid(beta * x);
  }
  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x, T beta) {
    const T s = sigmoid(beta * x);
    return s + x * beta * s * (T(1) - s);
  }
  template <class T>
  LNFREE_HOST_DEVICE static T parameter_derivative(T x, T beta) {
    const T s = sigmoid(beta * x);
    return x * x * s * (T(1) - s);
  }

 private:
  template <class T>
  LNFREE_HOST_DEVICE static T sigmoid(T x) {
    return T(1) / (T(1) + math::exp(-x));
  }
};

}  // namespace lnfree::test
