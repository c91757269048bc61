#pragma once

#include <array>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/policies.hpp>

/// Policies as a user of the library would write them.
namespace lnfree::test {

/// LayerNorm without parameters.
struct PlainNorm {
  static constexpr std::string_view name = "plain_norm";

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {mean, T(1) / math::sqrt(variance + T(1e-5))};
  }
  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return (x - row.shift) * row.scale;
  }
};

/// A norm with its own scalars and vectors in every role: a share of the row's scale, a learned part of its
/// mean, and separate gains for either side of 0.
struct BentNorm {
  static constexpr std::string_view name = "bent_norm";
  static constexpr std::array parameters{per_channel("above", 1.0), scalar("share", {0.5, 0.25, 0.75}),
                                         per_channel("below", 0.5), per_channel("bias", 0.0),
                                         scalar("center", 0.9)};

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {mean, T(1) / math::sqrt(variance + T(0.25) * mean * mean + T(1e-3))};
  }
  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row, const T (&p)[5]) {
    const auto& [above, share, below, bias, center] = p;
    const T u = (x - center * row.shift) * (share * row.scale + T(1) - share);
    return (above + below * math::tanh(u)) * u + bias;
  }
};

/// A pointwise norm with only a scalar: a branch that starts at 0 (ReZero).
struct Gate {
  static constexpr std::string_view name = "gate";
  static constexpr std::array parameters{scalar("alpha", 0.0)};

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, const T (&alpha)[1]) {
    return alpha[0] * x;
  }
};

/// A removable norm with its gate so many tenths open.
template <class N, int tenths>
struct HalfOpen : N {
  static constexpr std::array parameters{per_channel("weight", 1.0), per_channel("bias", 0.0),
                                         setting("gate", 0.1 * tenths), setting("scale", {0.7, 0.8, 0.9})};
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
