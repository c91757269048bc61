#pragma once

#include <type_traits>

#include <lnfree/activation/call.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

template <class S, Activation A>
void activation_forward(EigenCpu<S>&, A, std::type_identity_t<Matrix<const S>> x, const S* parameter,
                        Matrix<S> y) {
  const S p = parameter == nullptr ? S(0) : *parameter;
  for_each_row(x.rows, x.cols, [&](Index i) {
    row(y, i) = row(x, i).unaryExpr([p](S value) { return activation_value<A>(value, p); });
  });
}

template <class S, Activation A>
void activation_backward(EigenCpu<S>&, A, std::type_identity_t<Matrix<const S>> saved, const S* parameter,
                         Matrix<S> d_y, [[maybe_unused]] S* d_parameter) {
  const S p = parameter == nullptr ? S(0) : *parameter;
  if constexpr (LearnableActivation<A>) {
    const auto derivative = [p](S value) { return A::parameter_derivative(value, p); };
    *d_parameter += static_cast<S>(sum_over_rows(saved.rows, saved.cols, [&](Index i) {
      return (row(d_y, i) * row(saved, i).unaryExpr(derivative)).sum();
    }));
  }
  for_each_row(saved.rows, saved.cols, [&](Index i) {
    row(d_y, i) *= row(saved, i).unaryExpr([p](S value) { return activation_derivative<A>(value, p); });
  });
}

}  // namespace lnfree::eigen
