#pragma once

#include <algorithm>
#include <cstddef>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/simd.hpp>

namespace lnfree::cpu {

/// The left factor of a product of tiles: element (i, k) is data[i * row_stride + k * column_stride].
struct LeftFactor {
  const float* data;
  Index row_stride, column_stride;

  LeftFactor from_row(Index i) const { return {data + i * row_stride, row_stride, column_stride}; }
};

/// A matrix as a left factor, as stored and transposed.
inline LeftFactor rows_of(Matrix<const float> m) {
  return {m.data, m.stride, 1};
}
inline LeftFactor columns_of(Matrix<const float> m) {
  return {m.data, 1, m.stride};
}

/// A part of a matrix: its first element, and the distance from one row to the next.
template <class T>
struct Part {
  T* data;
  Index stride;
};

/// The part of a matrix that begins at an element; null if the matrix has no data.
template <class T>
Part<T> part_of(Matrix<T> matrix, Index row, Index column) {
  return {matrix.data == nullptr ? nullptr : matrix.row(row) + column, matrix.stride};
}

/// Advances to the next row of a matrix. The address is hidden from the compiler, which would otherwise
/// compute the addresses of all rows of a tile in advance and spill them to memory. That takes a tenth of the
/// time of a short product.
template <class T>
[[gnu::always_inline]] inline T* next_row(T* row, Index stride) {
  row += stride;
  asm("" : "+r"(row));
  return row;
}

/// Computes `count` tiles of c = a b, or of c = a b + addend if that has data, one below the other. Each has
/// Rows rows and Vectors * vector_width columns, which stay in registers over the whole depth. In a, tiles
/// are `step` apart. Not inlined, so that it is compiled only once.
template <int Rows, int Vectors>
[[gnu::noinline]] void column_of_tiles(LeftFactor a, Index step, Part<const float> b, Index depth,
                                       Part<float> c, Part<const float> addend, Index count) {
  for (; count > 0; --count) {
    Vector sum[std::size_t{Rows}][std::size_t{Vectors}];
    // Without unrolling, the sums would be in memory before and after the loop over k.
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[r][v] = Vector{};
    }
    // Unrolled eight times: loop overhead and code alignment would otherwise cost a tenth.
#pragma GCC unroll 8
    for (Index k = 0; k < depth; ++k) {
      const float* b_row = b.data + k * b.stride;
      Vector right[std::size_t{Vectors}];
      for (int v = 0; v < Vectors; ++v) right[v] = load(b_row + v * vector_width);
      for (int r = 0; r < Rows; ++r) {
        const float left = a.data[r * a.row_stride + k * a.column_stride];
        for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
      }
    }
    a.data += step;
    const auto finish = [&](bool adds) __attribute__((always_inline)) {
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
          const int at = v * vector_width;
          store(c.data + at, adds ? load(addend.data + at) + sum[r][v] : sum[r][v]);
        }
        // Prefetches the row of the next tile.
        for (int x = 0; x < Vectors * vector_width; x += 16) {
          __builtin_prefetch(c.data + Rows * c.stride + x, 1);
          if (adds) __builtin_prefetch(addend.data + Rows * addend.stride + x);
        }
        c.data = next_row(c.data, c.stride);
        if (adds) addend.data = next_row(addend.data, addend.stride);
      }
    };
    if (addend.data != nullptr) {
      finish(true);
    } else {
      finish(false);
    }
  }
}

/// Rows of a tile `Vectors` wide: its sums, a row of the right factor and an element of the left one fit in
/// registers.
template <int Vectors>
inline constexpr int tile_rows =
    vector_width == 16 ? std::min(8, (31 - Vectors) / Vectors) : std::min(6, (15 - Vectors) / Vectors);

/// Divides [begin, end) into parts of at most `Most`, as evenly as possible, and calls
/// body.operator()<Size>(i, count) for `count` consecutive parts of one size, starting at i. No part may be
/// smaller than `Least`.
template <int Most, int Least = 1, class Body>
inline void for_even_parts(Index begin, Index end, const Body& body) {
  const Index parts = (end - begin + Most - 1) / Most, missing = begin + parts * Most - end;
  const Index count = std::max(Index{0}, parts - missing);  // the others are smaller by one
  if (count > 0) body.template operator()<Most>(begin, count);
  if constexpr (Most > Least) {
    if (begin + count * Most < end) for_even_parts<Most - 1, Least>(begin + count * Most, end, body);
  }
}

/// c = a b, or a b plus an addend, for the small factors of one attention head, which are in cache: no
/// packing, no threads. b and c give the sizes. Not inlined, so that it is compiled only once.
[[gnu::noinline]] inline void tile_product(LeftFactor a, Matrix<const float> b, Output<float> output) {
  const Matrix<float> c = output.matrix;
  for_even_parts<tile_rows<2>>(0, c.rows, [&]<int Rows>(Index i, Index count) {
    const LeftFactor rows = a.from_row(i);
    const auto tiles = [&]<int Vectors>(Index j) {
      column_of_tiles<Rows, Vectors>(rows, rows.from_row(Rows).data - rows.data, part_of(b, 0, j), b.rows,
                                     part_of(c, i, j), part_of(output.addend, i, j), count);
    };
    Index j = 0;
    for (; j + 2 * vector_width <= c.cols; j += 2 * vector_width) tiles.template operator()<2>(j);
    for (; j + vector_width <= c.cols; j += vector_width) tiles.template operator()<1>(j);
    for (; j < c.cols; ++j) {
      for (Index r = 0; r < count * Rows; ++r) {
        const float* const left = rows.from_row(r).data;
        float sum = 0;
        for (Index k = 0; k < b.rows; ++k) sum += left[k * a.column_stride] * b.row(k)[j];
        c.row(i + r)[j] = output.adds() ? output.addend.row(i + r)[j] + sum : sum;
      }
    }
  });
}

}  // namespace lnfree::cpu
