#pragma once

#include <type_traits>

#include <lnfree/core/tensor.hpp>

/// The minimal work of each primitive on any device: arithmetic operations, where a fused multiply-add counts
/// as two, and bytes, once for each matrix read and once for each written.
namespace lnfree {

/// The minimal work of a call. Divided by its time, bytes give a bandwidth and operations a speed.
struct Work {
  /// Floating-point operations.
  double operations = 0;
  double read = 0;      ///< Bytes.
  double written = 0;   ///< Bytes.
  double in_place = 0;  ///< The bytes written that are also read.

  /// Bytes read and written.
  double moved() const { return read + written; }
  /// Bytes of memory touched.
  double touched() const { return read + written - in_place; }

  Work& operator+=(const Work& other) {
    operations += other.operations;
    read += other.read;
    written += other.written;
    in_place += other.in_place;
    return *this;
  }
};

namespace work {

/// Operations of math::exp2 and math::erf in float, and of e^x computed with exp2. Minimum and maximum are
/// not counted.
inline constexpr double exp2_operations = 14, erf_operations = 23, exp_operations = exp2_operations + 1;

/// C (m, n) = A (m, k) B (k, n), added to C or not. A and B are stored in `Scalar`, C in `Result`.
template <class Scalar, class Result = Scalar>
Work gemm(Index m, Index n, Index k, bool accumulates) {
  const double result = static_cast<double>(m * n) * sizeof(Result), sum = accumulates ? result : 0.0;
  return {2.0 * static_cast<double>(m * n) * static_cast<double>(k),
          static_cast<double>(m * k + k * n) * sizeof(Scalar) + sum, result, sum};
}

/// Reads `inputs` matrices of `size` elements and writes one, with `operations` for each element.
template <class Scalar>
Work elementwise(Index size, int inputs, double operations, bool in_place) {
  const double bytes = static_cast<double>(size) * sizeof(Scalar);
  return {operations * static_cast<double>(size), inputs * bytes, bytes, in_place ? bytes : 0.0};
}

/// The same, but writes only sums.
template <class Scalar>
Work reduction(Index size, double operations) {
  const auto numbers = static_cast<double>(size);
  return {operations * numbers, numbers * sizeof(Scalar), 0, 0};
}

/// The number of pairs of a query and a key that it attends to.
inline double attention_pairs(AttentionShape shape) {
  return 0.5 * shape.batch * shape.heads * shape.length * (shape.length + 1.0);
}

template <class Scalar>
Work attention_forward(AttentionShape shape, bool observed) {
  const double numbers = static_cast<double>(shape.rows()) * shape.width() * sizeof(Scalar);
  const double softmax = exp_operations + (observed ? 6 : 4);
  return {attention_pairs(shape) * (4.0 * shape.head_dim + softmax), 3 * numbers, numbers, 0};
}

template <class Scalar>
Work attention_backward(AttentionShape shape) {
  const double numbers = static_cast<double>(shape.rows()) * shape.width() * sizeof(Scalar);
  return {attention_pairs(shape) * (10.0 * shape.head_dim + exp_operations + 5), 5 * numbers, 3 * numbers, 0};
}

template <class Scalar>
Work cross_entropy_forward(Index size) {
  return reduction<Scalar>(size, exp_operations + 2);
}

template <class Scalar>
Work cross_entropy_forward_backward(Index size) {
  return elementwise<Scalar>(size, 1, exp_operations + 3, true);
}

template <class Scalar>
Work embedding_forward(Index size) {
  return elementwise<Scalar>(size, 1, 1, false);
}

/// Each row is added to two tables; the small one stays in cache.
template <class Scalar>
Work embedding_backward(Index size) {
  return elementwise<Scalar>(size, 2, 2, true);
}

/// Ten rounds of two products and four other integer operations for four numbers.
template <class Scalar>
Work dropout(Index size) {
  return elementwise<Scalar>(size, 1, 15, true);
}

/// Reads arrays of `count` numbers each, and writes those that are not const.
template <class... T>
Work elements(Index count) {
  const auto numbers = static_cast<double>(count);
  const double read = ((numbers * sizeof(T)) + ... + 0.0);
  const double written = ((std::is_const_v<T> ? 0.0 : numbers * sizeof(T)) + ... + 0.0);
  return {0, read, written, written};
}

}  // namespace work
}  // namespace lnfree
