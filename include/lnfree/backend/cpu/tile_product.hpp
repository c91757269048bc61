#pragma once

#include <cstdint>

#include <lnfree/core/bfloat16.hpp>
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

inline Vector load(const float* from) {
  return *reinterpret_cast<const Vector*>(from);
}
inline Vector load(const BFloat16* from) {
  using Bits16 [[gnu::vector_size(vector_width * 2), gnu::aligned(alignof(BFloat16)), gnu::may_alias]] =
      std::uint16_t;
  using Bits32 [[gnu::vector_size(vector_width * 4)]] = std::uint32_t;
  return (Vector)(__builtin_convertvector(*reinterpret_cast<const Bits16*>(from), Bits32) << 16);
}
inline void store(float* to, Vector vector) {
  *reinterpret_cast<Vector*>(to) = vector;
}

/// The left factor of tile_product: element (i, k) lies at data[i * row_stride + k * column_stride].
struct Strided {
  const float* data;
  Index row_stride;
  Index column_stride;
};

/// A part of a matrix: the place of its first element, and the distance from a row to the next.
template <class T>
struct Part {
  T* data;
  Index stride;
};

/// The part of a matrix that begins at an element, without data where the matrix has none.
template <class T>
Part<T> part_of(Matrix<T> matrix, Index row, Index column) {
  return {matrix.data == nullptr ? nullptr : matrix.row(row) + column, matrix.stride};
}

/// Rows [i, i + Rows), columns [j, j + Vectors * vector_width) of c = a b, kept in registers over all k; of
/// c = a b + addend where there is data to add.
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void register_tile(Strided a, Part<const float> b, Index depth, Part<float> c,
                                                 Part<const float> addend) {
  Vector sum[Rows][Vectors];
  // Loops that are not written out would keep the sums in memory before and after the one over k.
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Vector{};
  }
  // Written out four times: the loop's own instructions, and where its code happens to lie, cost a tenth
  // otherwise.
#pragma GCC unroll 4
  for (Index k = 0; k < depth; ++k) {
    const float* b_row = b.data + k * b.stride;
    Vector right[Vectors];
    for (int v = 0; v < Vectors; ++v) right[v] = load(b_row + v * vector_width);
    for (int r = 0; r < Rows; ++r) {
      const float left = a.data[r * a.row_stride + k * a.column_stride];
      for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const int at = v * vector_width;
      if (addend.data != nullptr) sum[r][v] = load(addend.data + r * addend.stride + at) + sum[r][v];
      store(c.data + r * c.stride + at, sum[r][v]);
    }
  }
}

/// Calls body.operator()<Rows>(i) for panels of rows that cover [begin, end): as many of `Most` rows as fit,
/// then one with the rest.
template <int Most, class Body>
inline void for_row_panels(Index begin, Index end, const Body& body) {
  Index i = begin;
  for (; i + Most <= end; i += Most) body.template operator()<Most>(i);
  if constexpr (Most > 1) {
    if (i < end) for_row_panels<Most - 1>(i, end, body);
  }
}

/// A matrix as a left factor, as it lies and transposed.
inline Strided rows_of(Matrix<const float> m) {
  return {m.data, m.stride, 1};
}
inline Strided columns_of(Matrix<const float> m) {
  return {m.data, 1, m.stride};
}

/// c = a b, or that and an addend, for the small factors of one attention head, which lie in cache: no
/// packing, no threads. b and c say how far the products go. Compiled once, not in each of its places.
[[gnu::noinline]] inline void tile_product(Strided a, Matrix<const float> b, Output<float> output) {
  const Matrix<float> c = output.matrix;
  // Two vectors of sums a row, with those of b beside them: 16 + 2 of 32 registers, or 12 + 2 of 16.
  constexpr int most_rows = vector_width == 16 ? 8 : 6;
  for_row_panels<most_rows>(0, c.rows, [&]<int Rows>(Index i) {
    const Strided a_panel{a.data + i * a.row_stride, a.row_stride, a.column_stride};
    const auto tile = [&]<int Vectors>(Index j) {
      register_tile<Rows, Vectors>(a_panel, part_of(b, 0, j), b.rows, part_of(c, i, j),
                                   part_of(output.addend, i, j));
    };
    Index j = 0;
    for (; j + 2 * vector_width <= c.cols; j += 2 * vector_width) {
      tile.template operator()<2>(j);
    }
    for (; j + vector_width <= c.cols; j += vector_width) {
      tile.template operator()<1>(j);
    }
    for (; j < c.cols; ++j) {
      for (int r = 0; r < Rows; ++r) {
        float sum = 0;
        for (Index k = 0; k < b.rows; ++k)
          sum += a_panel.data[r * a.row_stride + k * a.column_stride] * b.row(k)[j];
        c.row(i + r)[j] = output.adds() ? output.addend.row(i + r)[j] + sum : sum;
      }
    }
  });
}

}  // namespace lnfree::cpu
