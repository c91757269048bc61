#pragma once

#include <algorithm>
#include <atomic>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>

namespace lnfree::cpu {

template <CpuDevice D>
void column_squares(D&, Matrix<const typename D::Scalar> x, float* sums) {
  for_column_parts(x.rows, x.cols, [&](Index begin, Index end) {
    std::fill(sums + begin, sums + end, 0.0f);
    for (Index i = 0; i < x.rows; ++i) {
      const typename D::Scalar* const row = x.row(i);
#pragma omp simd
      for (Index j = begin; j < end; ++j) sums[j] += static_cast<float>(row[j]) * static_cast<float>(row[j]);
    }
  });
}

template <CpuDevice D>
Index count_zeros(D&, Matrix<const typename D::Scalar> x) {
  std::atomic<Index> zeros = 0;  // integers: their sum is the same in any order
  parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
    Index mine = 0;
    for (Index i = begin; i < end; ++i) {
      const typename D::Scalar* const row = x.row(i);
      int in_row = 0;
#pragma omp simd reduction(+ : in_row)
      for (Index j = 0; j < x.cols; ++j) in_row += static_cast<float>(row[j]) == 0.0f;
      mine += in_row;
    }
    zeros += mine;
  });
  return zeros;
}

}  // namespace lnfree::cpu
