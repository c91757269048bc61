#pragma once

#include <cstddef>
#include <utility>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/simd.hpp>

namespace lnfree::cpu {

/// The lanes of `a` and `b` from `First` on, interleaved: a, b, a, b, ...
template <int First, std::size_t... Lane>
inline Vector interleave(Vector a, Vector b, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(a, b, (First + static_cast<int>(Lane / 2 + Lane % 2 * vector_width))...);
}

/// Transposes a square of vector_width rows and columns in registers.
inline void transpose_square(const float* from, Index from_stride, float* to, Index to_stride) {
  constexpr int half = vector_width / 2;
  constexpr auto lanes = std::make_index_sequence<vector_width>();
  Vector rows[vector_width], next[vector_width];
  for (int i = 0; i < vector_width; ++i) rows[i] = load(from + i * from_stride);
  // Interleaving row i with row i + half moves the highest bit of an element's row to the lowest of its
  // column: after as many steps as there are bits, rows and columns have swapped.
  for (int bit = 1; bit < vector_width; bit *= 2) {
    for (int i = 0; i < half; ++i) {
      next[2 * i] = interleave<0>(rows[i], rows[i + half], lanes);
      next[2 * i + 1] = interleave<half>(rows[i], rows[i + half], lanes);
    }
    for (int i = 0; i < vector_width; ++i) rows[i] = next[i];
  }
  for (int i = 0; i < vector_width; ++i) store(to + i * to_stride, rows[i]);
}

/// to (cols, rows) = from^T.
inline void transpose_into(Matrix<const float> from, float* to, Index to_stride) {
  const Index squares_rows = from.rows / vector_width * vector_width;
  const Index squares_cols = from.cols / vector_width * vector_width;
  for (Index i = 0; i < squares_rows; i += vector_width) {
    for (Index j = 0; j < squares_cols; j += vector_width) {
      transpose_square(from.row(i) + j, from.stride, to + j * to_stride + i, to_stride);
    }
  }
  for (Index i = 0; i < from.rows; ++i) {
    for (Index j = i < squares_rows ? squares_cols : 0; j < from.cols; ++j) {
      to[j * to_stride + i] = from.row(i)[j];
    }
  }
}

}  // namespace lnfree::cpu
