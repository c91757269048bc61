#pragma once

#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

template <class S>
void bias_forward(EigenCpu<S>&, Matrix<S> y, const S* bias) {
  for_each_row(y.rows, y.cols, [&](Index i) { row(y, i) += numbers(bias, y.cols); });
}

template <class S>
void bias_backward(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> d_y, S* d_bias) {
  for_column_parts(d_y.rows, d_y.cols, [&](Index begin, Index end) {
    const Index count = end - begin;
    for (Index i = 0; i < d_y.rows; ++i) numbers(d_bias + begin, count) += row(d_y.columns(begin, count), i);
  });
}

}  // namespace lnfree::eigen
