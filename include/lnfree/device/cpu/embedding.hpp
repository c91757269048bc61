#pragma once

#include <algorithm>
#include <cstdint>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>

namespace lnfree::cpu {

template <CpuDevice D>
void embedding_forward(D&, BatchShape shape, const std::int32_t* tokens,
                       Matrix<const typename D::Scalar> token_table,
                       Matrix<const typename D::Scalar> position_table, Matrix<typename D::Scalar> x) {
  using S = typename D::Scalar;
  parallel_for(shape.rows(), row_grain(x.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const S* token = token_table.row(tokens[i]);
      S* out = x.row(i);
      if (position_table.rows == 0) {
        std::copy_n(token, x.cols, out);
        continue;
      }
      const S* position = position_table.row(i % shape.length);
#pragma omp simd
      for (Index j = 0; j < x.cols; ++j) out[j] = token[j] + position[j];
    }
  });
}

template <CpuDevice D>
void embedding_backward(D&, BatchShape shape, const std::int32_t* tokens,
                        Matrix<const typename D::Scalar> d_x, Matrix<float> d_token_table,
                        Matrix<float> d_position_table) {
  for_column_parts(d_x.rows, d_x.cols, [&](Index begin, Index end) {
    for (Index i = 0; i < shape.rows(); ++i) {
      const typename D::Scalar* from = d_x.row(i);
      float* token = d_token_table.row(tokens[i]);
#pragma omp simd
      for (Index j = begin; j < end; ++j) token[j] += from[j];
      if (d_position_table.rows == 0) continue;
      float* position = d_position_table.row(i % shape.length);
#pragma omp simd
      for (Index j = begin; j < end; ++j) position[j] += from[j];
    }
  });
}

}  // namespace lnfree::cpu
