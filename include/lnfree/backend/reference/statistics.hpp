#pragma once

#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void column_squares(Reference<S>&, std::type_identity_t<Matrix<const S>> x, S* sums) {
  for (Index j = 0; j < x.cols; ++j) {
    sums[j] = 0;
    for (Index i = 0; i < x.rows; ++i) sums[j] += x.row(i)[j] * x.row(i)[j];
  }
}

template <class S>
Index count_zeros(Reference<S>&, std::type_identity_t<Matrix<const S>> x) {
  Index zeros = 0;
  for (Index i = 0; i < x.rows; ++i) {
    for (Index j = 0; j < x.cols; ++j) zeros += x.row(i)[j] == S(0);
  }
  return zeros;
}

}  // namespace lnfree::reference
