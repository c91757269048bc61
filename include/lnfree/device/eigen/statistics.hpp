#pragma once

#include <atomic>
#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

template <class S>
void column_squares(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> x, S* sums) {
  for_column_parts(x.rows, x.cols, [&](Index begin, Index end) {
    const Index count = end - begin;
    auto of_part = numbers(sums + begin, count);
    of_part.setZero();
    for (Index i = 0; i < x.rows; ++i) of_part += row(x.columns(begin, count), i).square();
  });
}

template <class S>
Index count_zeros(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> x) {
  std::atomic<Index> zeros = 0;  // integers: their sum is the same in any order
  for_each_row(x.rows, x.cols, [&](Index i) { zeros += (row(x, i) == S(0)).count(); });
  return zeros;
}

}  // namespace lnfree::eigen
