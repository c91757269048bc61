#pragma once

#include <type_traits>

#include <lnfree/activation/call.hpp>
#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S, Activation A>
void activation_forward(Reference<S>&, A, std::type_identity_t<Matrix<const S>> x, const S* parameter,
                        Matrix<S> y) {
  const S p = parameter == nullptr ? S(0) : *parameter;
  for (Index i = 0; i < x.rows; ++i) {
    for (Index j = 0; j < x.cols; ++j) y.row(i)[j] = activation_value<A>(x.row(i)[j], p);
  }
}

template <class S, Activation A>
void activation_backward(Reference<S>&, A, std::type_identity_t<Matrix<const S>> saved, const S* parameter,
                         Matrix<S> d_y, [[maybe_unused]] S* d_parameter) {
  const S p = parameter == nullptr ? S(0) : *parameter;
  for (Index i = 0; i < saved.rows; ++i) {
    for (Index j = 0; j < saved.cols; ++j) {
      S& gradient = d_y.row(i)[j];
      if constexpr (LearnableActivation<A>) {
        *d_parameter += gradient * A::parameter_derivative(saved.row(i)[j], p);
      }
      gradient *= activation_derivative<A>(saved.row(i)[j], p);
    }
  }
}

}  // namespace lnfree::reference
