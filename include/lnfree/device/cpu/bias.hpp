#pragma once

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>

namespace lnfree::cpu {

template <CpuDevice D>
void bias_forward(D&, Matrix<typename D::Scalar> y, const typename D::Scalar* bias) {
  using S = typename D::Scalar;
  parallel_for(y.rows, row_grain(y.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      S* row = y.row(i);
#pragma omp simd
      for (Index j = 0; j < y.cols; ++j) row[j] += bias[j];
    }
  });
}

template <CpuDevice D>
void bias_backward(D&, Matrix<const typename D::Scalar> d_y, float* d_bias) {
  for_column_parts(d_y.rows, d_y.cols, [&](Index begin, Index end) {
    for (Index i = 0; i < d_y.rows; ++i) {
      const typename D::Scalar* row = d_y.row(i);
#pragma omp simd
      for (Index j = begin; j < end; ++j) d_bias[j] += row[j];
    }
  });
}

}  // namespace lnfree::cpu
