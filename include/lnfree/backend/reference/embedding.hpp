#pragma once

#include <cstdint>
#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void embedding_forward(Reference<S>&, BatchShape shape, const std::int32_t* tokens,
                       std::type_identity_t<Matrix<const S>> token_table,
                       std::type_identity_t<Matrix<const S>> position_table, Matrix<S> x) {
  for (Index i = 0; i < shape.rows(); ++i) {
    for (Index c = 0; c < x.cols; ++c) {
      x.row(i)[c] = token_table.row(tokens[i])[c];
      if (position_table.rows > 0) x.row(i)[c] += position_table.row(i % shape.length)[c];
    }
  }
}

template <class S>
void embedding_backward(Reference<S>&, BatchShape shape, const std::int32_t* tokens,
                        std::type_identity_t<Matrix<const S>> d_x, Matrix<S> d_token_table,
                        Matrix<S> d_position_table) {
  for (Index i = 0; i < shape.rows(); ++i) {
    for (Index c = 0; c < d_x.cols; ++c) {
      d_token_table.row(tokens[i])[c] += d_x.row(i)[c];
      if (d_position_table.rows > 0) d_position_table.row(i % shape.length)[c] += d_x.row(i)[c];
    }
  }
}

}  // namespace lnfree::reference
