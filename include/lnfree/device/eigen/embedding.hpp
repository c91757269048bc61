#pragma once

#include <cstdint>
#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

template <class S>
void embedding_forward(EigenCpu<S>&, BatchShape shape, const std::int32_t* tokens,
                       std::type_identity_t<Matrix<const S>> token_table,
                       std::type_identity_t<Matrix<const S>> position_table, Matrix<S> x) {
  for_each_row(shape.rows(), x.cols, [&](Index i) {
    row(x, i) = row(token_table, tokens[i]);
    if (position_table.rows > 0) row(x, i) += row(position_table, i % shape.length);
  });
}

template <class S>
void embedding_backward(EigenCpu<S>&, BatchShape shape, const std::int32_t* tokens,
                        std::type_identity_t<Matrix<const S>> d_x, Matrix<S> d_token_table,
                        Matrix<S> d_position_table) {
  for_column_parts(d_x.rows, d_x.cols, [&](Index begin, Index end) {
    const auto part = [&](auto matrix, Index i) { return numbers(matrix.row(i) + begin, end - begin); };
    for (Index i = 0; i < shape.rows(); ++i) {
      part(d_token_table, tokens[i]) += part(d_x, i);
      if (d_position_table.rows > 0) part(d_position_table, i % shape.length) += part(d_x, i);
    }
  });
}

}  // namespace lnfree::eigen
