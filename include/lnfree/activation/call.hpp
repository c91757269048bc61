#pragma once

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/macros.hpp>

/// One way to call every activation, with or without a parameter. `saved` is the value that the policy saves.
namespace lnfree {

/// A(x).
template <Activation A, class T>
LNFREE_HOST_DEVICE inline T activation_value(T x, [[maybe_unused]] T parameter) {
  if constexpr (LearnableActivation<A>) {
    return A::value(x, parameter);
  } else {
    return A::value(x);
  }
}

/// A'(x), computed from the saved value.
template <Activation A, class T>
LNFREE_HOST_DEVICE inline T activation_derivative(T saved, [[maybe_unused]] T parameter) {
  if constexpr (LearnableActivation<A>) {
    return A::derivative(saved, parameter);
  } else {
    return A::derivative(saved);
  }
}

}  // namespace lnfree
