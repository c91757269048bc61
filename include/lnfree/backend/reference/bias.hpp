#pragma once

#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void bias_forward(Reference<S>&, Matrix<S> y, const S* bias) {
  for (Index i = 0; i < y.rows; ++i) {
    for (Index j = 0; j < y.cols; ++j) y.row(i)[j] += bias[j];
  }
}

template <class S>
void bias_backward(Reference<S>&, std::type_identity_t<Matrix<const S>> d_y, S* d_bias) {
  for (Index i = 0; i < d_y.rows; ++i) {
    for (Index j = 0; j < d_y.cols; ++j) d_bias[j] += d_y.row(i)[j];
  }
}

}  // namespace lnfree::reference
