#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include <lnfree/core/eigen.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cores.hpp>

namespace lnfree::eigen {

/// Contiguous numbers as a row for elementwise computation.
template <class T>
using Row = Eigen::Map<
    std::conditional_t<std::is_const_v<T>, const Eigen::Array<std::remove_const_t<T>, 1, Eigen::Dynamic>,
                       Eigen::Array<T, 1, Eigen::Dynamic>>>;

template <class T>
Row<T> numbers(T* data, Index count) {
  return {data, count};
}

/// Row i of a matrix.
template <class T>
Row<T> row(Matrix<T> matrix, Index i) {
  return {matrix.row(i), matrix.cols};
}

/// Calls body(i) for every row i of a matrix with `cols` columns; threads share the rows.
template <class Body>
void for_each_row(Index rows, Index cols, const Body& body) {
  parallel_for(rows, row_grain(cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) body(i);
  });
}

/// The sum of body(i) for every row i of a matrix with `cols` columns, in double: a fixed number of partial
/// sums, so that it does not depend on the number of threads.
template <class Body>
double sum_over_rows(Index rows, Index cols, const Body& body) {
  std::array<double, 64> partial{};
  const Index parts = static_cast<Index>(partial.size());
  parallel_for(parts, rows <= row_grain(cols) ? parts : 1, [&](Index first, Index last) {
    for (Index part = first; part < last; ++part) {
      for (Index i = rows * part / parts; i < rows * (part + 1) / parts; ++i)
        partial[static_cast<std::size_t>(part)] += static_cast<double>(body(i));
    }
  });
  return numbers(partial.data(), parts).sum();
}

}  // namespace lnfree::eigen
