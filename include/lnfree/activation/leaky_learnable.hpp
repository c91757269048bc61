#pragma once

#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// Leaky ReLU whose negative slope is learned (the paper's section 3, figure 3): one slope for each layer, or
/// one shared by all. Starts at 0.01.
template <Scope ParameterScope>
struct LeakyLearnable {
  static constexpr std::string_view name =
      ParameterScope == Scope::per_layer ? "leaky_learnable_per_layer" : "leaky_learnable_global";
  static constexpr Saved saved = Saved::input;
  /// Whether each layer has its own slope or all share one.
  static constexpr Scope scope = ParameterScope;
  static constexpr std::string_view parameter_name = "slope";  ///< The parameter's name in checkpoints.
  static constexpr double initial = 0.01;                      ///< The slope before training.

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, T slope) {
    return x >= T(0) ? x : slope * x;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x, T slope) {
    return x >= T(0) ? T(1) : slope;
  }

  /// d value / d slope.
  template <class T>
  LNFREE_HOST_DEVICE static T parameter_derivative(T x, T /*slope*/) {
    return x >= T(0) ? T(0) : x;
  }
};

}  // namespace lnfree
