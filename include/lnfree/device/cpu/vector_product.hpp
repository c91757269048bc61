#pragma once

#include <algorithm>
#include <array>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/simd.hpp>
#include <lnfree/device/cpu/transpose.hpp>

/// Products of one or a few rows with a matrix, as in text generation: each element of the matrix is read
/// once, so they are limited by memory bandwidth. The matrix is float or bf16; sums are in float. The result
/// for a row does not depend on how many rows there are, so a text does not depend on the others in its
/// batch.
namespace lnfree::cpu {

/// The most rows that count as few. With more, multiplying takes longer than reading.
inline constexpr Index few_rows = 16;

/// Sums of a panel of columns for all rows, which stay in the first-level cache. Sixteen rows have panels of
/// 384 columns: a wider panel leaves less room for B, and a narrower one reads A more often.
inline constexpr Index max_sums = 6144;
using RowSums = float[max_sums + few_rows * 32];  // and one more cache line for each row

/// Whether gemm's left factor has few rows, stored as rows.
template <class S>
bool is_vector_product(Operand<S> a) {
  return !a.transposed && a.matrix.rows >= 1 && a.matrix.rows <= few_rows;
}

/// Writes `count` sums to the columns of a row of the result, starting at `first`.
template <class R>
void write_sums(const float* sums, Index row, Index first, Index count, Output<R> c) {
  R* const to = c.matrix.row(row) + first;
  if (c.adds()) {
    const R* const addend = c.addend.row(row) + first;
    for (Index j = 0; j < count; ++j) to[j] = static_cast<float>(addend[j]) + sums[j];
  } else {
    for (Index j = 0; j < count; ++j) to[j] = sums[j];
  }
}

/// c = A B, where A has `Count` rows, or any number of rows if `Count` is 0. A row of B is skipped if the
/// matching column of A is 0 throughout; after a ReLU that is most of them. The sums are the same bit for
/// bit, unless a skipped row has an element that is not finite.
template <int Count, class S, class R>
void rows_times_matrix(Matrix<const S> a, Matrix<const S> b, Output<R> c) {
  const Index a_rows = Count > 0 ? Count : a.rows;
  constexpr Index together = 8, cache_line = 64 / sizeof(S);
  const Index max_panel = std::min(Index{1024}, max_sums / a_rows / cache_line * cache_line);
  const Index stride =
      max_panel + cache_line;  // a panel whose edges are moved to whole cache lines can be that much longer
  const Index grain = std::max(cache_line, elementwise_grain / std::max(Index{1}, b.rows));
  const auto part = [&](Index begin, Index end) {
    const Index panels = (end - begin + max_panel - 1) / max_panel;
    for (Index panel = 0; panel < panels; ++panel) {
      const auto edge = [&](Index number) {
        return number == panels ? end : begin + (end - begin) * number / panels / cache_line * cache_line;
      };
      const Index first = edge(panel), columns = edge(panel + 1) - first;
      const Index whole = columns / vector_width * vector_width;
      alignas(64) RowSums sums;
      for (Index i = 0; i < a_rows; ++i) std::fill_n(sums + i * stride, columns, 0.0f);

      // The next rows of B to read: two groups of them, or all that are left.
      std::array<Index, 2 * together> rows;
      Index found = 0, next = 0;
      const auto find = [&] {
        for (; found < 2 * together && next < b.rows; ++next) {
          bool counts = false;
          for (Index i = 0; i < a_rows; ++i) counts |= static_cast<float>(a.row(i)[next]) != 0.0f;
          if (!counts) continue;
          rows[static_cast<std::size_t>(found++)] = next;
        }
      };
      const auto add = [&]<int Rows>() __attribute__((always_inline)) {
        const S *row[Rows], *coming[Rows];
        float factors[few_rows][Rows];
        for (int r = 0; r < Rows; ++r) {
          const Index k = rows[static_cast<std::size_t>(r)];
          row[r] = b.row(k) + first;
          coming[r] = r + Rows < found ? b.row(rows[static_cast<std::size_t>(r + Rows)]) + first : row[r];
          for (Index i = 0; i < a_rows; ++i) factors[i][r] = static_cast<float>(a.row(i)[k]);
        }
        const auto add_columns = [&]<int Vectors>(Index j) __attribute__((always_inline)) {
          Vector right[Rows][Vectors];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v) right[r][v] = load(row[r] + j + v * vector_width);
          }
          for (Index i = 0; i < a_rows; ++i) {
            float* const to = sums + i * stride + j;
            Vector sum[Vectors];
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v) sum[v] = load(to + v * vector_width);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
              const float factor = factors[i][r];
#pragma GCC unroll 2
              for (int v = 0; v < Vectors; ++v) sum[v] += factor * right[r][v];
            }
#pragma GCC unroll 2
            for (int v = 0; v < Vectors; ++v) store(to + v * vector_width, sum[v]);
          }
        };
        // Two vectors share the load of a factor, if there are registers for twice as many rows of B.
        constexpr int vectors = vector_width == 16 ? 2 : 1;
        Index j = 0;
        for (; j + vectors * vector_width <= whole; j += vectors * vector_width) {
          // The memory fetches the next rows while these are added.
          for (Index x = j; x < j + vectors * vector_width; x += vector_width) {
            if (x % cache_line == 0) {
#pragma GCC unroll 8
              for (int r = 0; r < Rows; ++r) __builtin_prefetch(coming[r] + x);
            }
          }
          add_columns.template operator()<vectors>(j);
        }
        for (; j < whole; j += vector_width) add_columns.template operator()<1>(j);
        for (; j < columns; ++j) {
          for (Index i = 0; i < a_rows; ++i) {
            for (int r = 0; r < Rows; ++r)
              sums[i * stride + j] += factors[i][r] * static_cast<float>(row[r][j]);
          }
        }
      };
      for (find(); found >= together; find()) {
        add.template operator()<together>();
        std::copy(rows.begin() + together, rows.begin() + found, rows.begin());
        found -= together;
      }
      for (; found > 0; --found) {
        add.template operator()<1>();
        std::copy(rows.begin() + 1, rows.begin() + found, rows.begin());
      }
      for (Index i = 0; i < a_rows; ++i) write_sums(sums + i * stride, i, first, columns, c);
    }
  };
  parallel_for(b.cols, grain, part, cache_line);
}

/// c = A B^T, where A has `Count` rows, or any number of rows if `Count` is 0.
template <int Count, class S, class R>
void rows_times_rows(Matrix<const S> a, Matrix<const S> b, Output<R> c) {
  const Index a_rows = Count > 0 ? Count : a.rows;
  constexpr Index together = 4, left_together = vector_width == 16 ? 4 : 2, cache_line = 64 / sizeof(S);
  const Index whole = b.cols / vector_width * vector_width;
  const auto part = [&](Index begin, Index end) {
    // Rows of A from i on and of B from j on. Meanwhile the memory fetches row `coming` of B.
    const auto multiply = [&]<int Lefts, int Rows>(Index i, Index j,
                                                   Index coming) __attribute__((always_inline)) {
      const S* const fetched = b.row(std::min(coming, end - 1));
      Vector sum[Lefts][Rows] = {};
      for (Index k = 0; k < whole; k += vector_width) {
        if (k % cache_line == 0) __builtin_prefetch(fetched + k);
        Vector left[Lefts], right[Rows];
#pragma GCC unroll 4
        for (int l = 0; l < Lefts; ++l) left[l] = load(a.row(i + l) + k);
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) right[r] = load(b.row(j + r) + k);
#pragma GCC unroll 4
        for (int l = 0; l < Lefts; ++l) {
#pragma GCC unroll 4
          for (int r = 0; r < Rows; ++r) sum[l][r] += left[l] * right[r];
        }
      }
      // The lanes of each sum are added in their order.
      alignas(64) float lanes[Lefts * Rows][vector_width];
      float total[Lefts][Rows] = {};
      for (int l = 0; l < Lefts; ++l) {
        for (int r = 0; r < Rows; ++r) store(lanes[l * Rows + r], sum[l][r]);
      }
      if constexpr (Lefts * Rows == vector_width) {
        transpose_square(lanes[0], vector_width, lanes[0], vector_width);
        Vector totals{};
        for (const auto& lane : lanes) totals += load(lane);
        store(total[0], totals);
      } else {
        for (int l = 0; l < Lefts; ++l) {
          for (int r = 0; r < Rows; ++r) {
            for (const float lane : lanes[l * Rows + r]) total[l][r] += lane;
          }
        }
      }
      for (int l = 0; l < Lefts; ++l) {
        for (int r = 0; r < Rows; ++r) {
          for (Index k = whole; k < b.cols; ++k)
            total[l][r] += static_cast<float>(a.row(i + l)[k]) * static_cast<float>(b.row(j + r)[k]);
        }
        write_sums(total[l], i + l, j, Rows, c);
      }
    };
    // Rows of B from j on stay in the first-level cache while they meet all rows of A.
    const auto all_of_a = [&]<int Rows>(Index j) __attribute__((always_inline)) {
      Index i = 0, coming = j + Rows;
      for (; i + left_together <= a_rows; i += left_together, ++coming)
        multiply.template operator()<left_together, Rows>(i, j, coming);
      for (; i < a_rows; ++i, ++coming) multiply.template operator()<1, Rows>(i, j, coming);
    };
    Index j = begin;
    for (; j + together <= end; j += together) all_of_a.template operator()<together>(j);
    for (; j < end; ++j) all_of_a.template operator()<1>(j);
  };
  parallel_for(b.rows, std::max(Index{1}, row_grain(b.cols) / a_rows), part, 16);
}

/// c = a B, where is_vector_product(a).
template <class S, class R>
void vector_product(Operand<S> a, Operand<S> b, Output<R> c) {
  const auto multiply = [&]<int Count>() {
    if (b.transposed) {
      rows_times_rows<Count, S>(a.matrix, b.matrix, c);
    } else {
      rows_times_matrix<Count, S>(a.matrix, b.matrix, c);
    }
  };
  // A single row gets its own instance, without loops over the rows of A.
  if (a.matrix.rows == 1) {
    multiply.template operator()<1>();
  } else {
    multiply.template operator()<0>();
  }
}

}  // namespace lnfree::cpu
