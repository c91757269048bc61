#pragma once

#include <cassert>
#include <cstdint>
#include <type_traits>

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// Sizes and offsets: 64 bits, since a tensor may exceed 2 Gi elements.
using Index = std::int64_t;

/// A view of a row-major matrix in device memory; owns nothing. A (B, T, C) tensor is a matrix of B T rows.
template <class T>
struct Matrix {
  T* data = nullptr;  ///< The first element; null where there is no matrix.
  Index rows = 0;     ///< Number of rows.
  Index cols = 0;     ///< Number of columns.
  Index stride = 0;   ///< Elements from one row to the next, at least cols.

  constexpr Matrix() = default;
  /// Rows that follow each other without gaps.
  constexpr Matrix(T* first, Index row_count, Index col_count)
      : Matrix(first, row_count, col_count, col_count) {}
  /// Rows that begin `row_stride` elements apart.
  constexpr Matrix(T* first, Index row_count, Index col_count, Index row_stride)
      : data(first), rows(row_count), cols(col_count), stride(row_stride) {}

  /// A mutable view converts to a read-only one.
  template <class U>
  requires(std::is_same_v<U, const T> && !std::is_const_v<T>)
  constexpr operator Matrix<U>() const {
    return {data, rows, cols, stride};
  }

  /// The first element of row i.
  constexpr T* row(Index i) const { return data + i * stride; }
  /// Number of elements.
  constexpr Index size() const { return rows * cols; }
  /// Whether rows follow each other without gaps.
  constexpr bool is_contiguous() const { return stride == cols; }

  /// Rows [begin, begin + count).
  constexpr Matrix slice(Index begin, Index count) const {
    assert(begin >= 0 && begin + count <= rows);
    return {data + begin * stride, count, cols, stride};
  }

  /// The first `count` rows.
  constexpr Matrix top(Index count) const { return slice(0, count); }

  /// Columns [begin, begin + count).
  constexpr Matrix columns(Index begin, Index count) const {
    assert(begin >= 0 && begin + count <= cols);
    return {data + begin, rows, count, stride};
  }
};

/// A factor of a matrix product: a matrix as stored, or its transpose.
template <class T>
struct Operand {
  Matrix<const T> matrix;   ///< The factor as it is stored.
  bool transposed = false;  ///< Whether the factor is its transpose.

  /// A stored matrix, or its transpose.
  constexpr Operand(Matrix<const T> stored, bool as_transpose = false)
      : matrix(stored), transposed(as_transpose) {}
  /// A stored matrix.
  constexpr Operand(Matrix<T> stored) : matrix(stored) {}

  /// Rows of the factor.
  constexpr Index rows() const { return transposed ? matrix.cols : matrix.rows; }
  /// Columns of the factor.
  constexpr Index cols() const { return transposed ? matrix.rows : matrix.cols; }
};

/// The transpose of `matrix` as a factor of a product.
template <class T>
constexpr Operand<std::remove_const_t<T>> transpose(Matrix<T> matrix) {
  return {matrix, true};
}

/// Where a primitive writes its result. It overwrites a matrix (any Matrix converts to that), or writes the
/// sum of the result and another matrix, which may be the same one (accumulate(matrix)).
template <class T>
struct Output {
  Matrix<T> matrix;        ///< Where the result goes.
  Matrix<const T> addend;  ///< Null data if nothing is added.

  /// Overwrites `result`, adding `added` if given.
  constexpr Output(Matrix<T> result, Matrix<const T> added = {}) : matrix(result), addend(added) {
    assert(!adds() || (addend.rows == matrix.rows && addend.cols == matrix.cols));
  }

  /// Whether something is added to the result.
  constexpr bool adds() const { return addend.data != nullptr; }

  /// Rows [begin, begin + count).
  constexpr Output slice(Index begin, Index count) const {
    return {matrix.slice(begin, count), adds() ? addend.slice(begin, count) : addend};
  }

  /// Columns [begin, begin + count).
  constexpr Output columns(Index begin, Index count) const {
    return {matrix.columns(begin, count), adds() ? addend.columns(begin, count) : addend};
  }
};

/// Adds the result to what `matrix` holds.
template <class T>
constexpr Output<T> accumulate(Matrix<T> matrix) {
  return {matrix, matrix};
}

/// The extent of one pass through the model: B sequences of T tokens each.
struct BatchShape {
  int batch = 0;   ///< B, sequences.
  int length = 0;  ///< T, tokens of each.
  /// B T, rows of a matrix of all tokens.
  constexpr Index rows() const { return Index{batch} * length; }
  constexpr bool operator==(const BatchShape&) const = default;
};

/// The packed heads of one attention layer: rows of (Q | K | V), each H heads of head_dim columns, for all
/// tokens of all sequences.
struct AttentionShape {
  int batch = 0;     ///< B, sequences.
  int length = 0;    ///< T, tokens of each.
  int heads = 0;     ///< H, heads.
  int head_dim = 0;  ///< D, channels of each head.
  int first = 0;     ///< Position of the first query to compute; the keys and values of all tokens are given.
  /// C, channels of all heads together.
  constexpr int width() const { return heads * head_dim; }
  /// B T, rows of a matrix with a row for each token.
  constexpr Index rows() const { return Index{batch} * length; }
};

}  // namespace lnfree
