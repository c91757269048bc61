#pragma once

#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// The widest float vector of the target, and how many floats it holds.
#if defined(__AVX512F__)
inline constexpr int vector_width = 16;
#elif defined(__AVX__)
inline constexpr int vector_width = 8;
#else
inline constexpr int vector_width = 4;
#endif
using Vector
    [[gnu::vector_size(vector_width * sizeof(float)), gnu::aligned(alignof(float)), gnu::may_alias]] = float;

/// The left factor of tile_product: element (i, k) lies at data[i * row_stride + k * column_stride].
struct Strided {
  const float* data;
  Index row_stride;
  Index column_stride;
};

/// Rows [i, i + Rows), columns [j, j + Vectors * vector_width) of c = a b or c += a b, kept in registers over
/// all k.
template <int Rows, int Vectors>
inline void register_tile(Strided a, const float* b, Index b_stride, Index depth, float* c, Index c_stride,
                          bool accumulates) {
  Vector sum[Rows][Vectors] = {};
  for (Index k = 0; k < depth; ++k) {
    const float* b_row = b + k * b_stride;
    Vector right[Vectors];
    for (int v = 0; v < Vectors; ++v) right[v] = *reinterpret_cast<const Vector*>(b_row + v * vector_width);
    for (int r = 0; r < Rows; ++r) {
      const float left = a.data[r * a.row_stride + k * a.column_stride];
      for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      Vector& to = *reinterpret_cast<Vector*>(c + r * c_stride + v * vector_width);
      to = accumulates ? to + sum[r][v] : sum[r][v];
    }
  }
}

/// c (Rows x columns) = a b, or added to; the columns that fill no vector one by one.
template <int Rows>
inline void row_panel(Strided a, const float* b, Index b_stride, Index depth, float* c, Index c_stride,
                      Index columns, bool accumulates) {
  constexpr int wide = Rows >= 8 ? 2 : 4;
  Index j = 0;
  for (; j + wide * vector_width <= columns; j += wide * vector_width) {
    register_tile<Rows, wide>(a, b + j, b_stride, depth, c + j, c_stride, accumulates);
  }
  for (; j + vector_width <= columns; j += vector_width) {
    register_tile<Rows, 1>(a, b + j, b_stride, depth, c + j, c_stride, accumulates);
  }
  for (; j < columns; ++j) {
    for (int r = 0; r < Rows; ++r) {
      float sum = 0;
      for (Index k = 0; k < depth; ++k)
        sum += a.data[r * a.row_stride + k * a.column_stride] * b[k * b_stride + j];
      c[r * c_stride + j] = accumulates ? c[r * c_stride + j] + sum : sum;
    }
  }
}

/// c (rows x columns) = a b, or added to, for the small factors of one attention head, which lie in cache: no
/// packing, no threads, no calls. b and c are row-major.
inline void tile_product(Strided a, const float* b, Index b_stride, Index depth, float* c, Index c_stride,
                         Index rows, Index columns, bool accumulates) {
  Index i = 0;
  const auto panel = [&]<int Rows>() {
    for (; i + Rows <= rows; i += Rows) {
      row_panel<Rows>({a.data + i * a.row_stride, a.row_stride, a.column_stride}, b, b_stride, depth,
                      c + i * c_stride, c_stride, columns, accumulates);
    }
  };
  panel.template operator()<8>();
  panel.template operator()<4>();
  panel.template operator()<1>();
}

}  // namespace lnfree::cpu
