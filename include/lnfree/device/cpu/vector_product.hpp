#pragma once

#include <algorithm>
#include <array>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/simd.hpp>

/// Products of a single row with a matrix, as in text generation: each element of the matrix is read once, so
/// they are limited by memory bandwidth. The matrix is float or bf16; sums are in float.
namespace lnfree::cpu {

/// Whether gemm's left factor is a single row, stored as a row.
template <class S>
bool is_vector_product(Operand<S> a) {
  return !a.transposed && a.matrix.rows == 1;
}

/// Writes `count` sums to the columns of the result, starting at `first`.
template <class R>
void write_sums(const float* sums, Index first, Index count, Output<R> c) {
  R* const to = c.matrix.data + first;
  if (c.adds()) {
    const R* const addend = c.addend.data + first;
    for (Index j = 0; j < count; ++j) to[j] = static_cast<float>(addend[j]) + sums[j];
  } else {
    for (Index j = 0; j < count; ++j) to[j] = sums[j];
  }
}

/// c = a B. Rows of B whose element in a is 0 are not read; after a ReLU that is most of them. The sums are
/// the same bit for bit, unless such a row holds a number that is not finite.
template <class S, class R>
void row_times_matrix(const S* a, Matrix<const S> b, Output<R> c) {
  constexpr Index max_panel = 1024, together = 8, ahead = 2 * together, cache_line = 64 / sizeof(S);
  const Index grain = std::max(cache_line, elementwise_grain / std::max(Index{1}, b.rows));
  const auto part = [&](Index begin, Index end) {
    const Index panels = (end - begin + max_panel - 1) / max_panel;
    for (Index panel = 0; panel < panels; ++panel) {
      const auto edge = [&](Index number) {
        return number == panels ? end : begin + (end - begin) * number / panels / cache_line * cache_line;
      };
      const Index first = edge(panel), columns = edge(panel + 1) - first;
      const Index whole = columns / vector_width * vector_width;
      alignas(64) float sums[max_panel + 16];
      std::fill_n(sums, columns, 0.0f);

      // The next rows of B to read: together + ahead of them, or as many as are left.
      std::array<Index, together + ahead> rows;
      Index found = 0, next = 0;
      const auto find = [&] {
        for (; found < together + ahead && next < b.rows; ++next) {
          if (static_cast<float>(a[next]) == 0.0f) continue;
          rows[static_cast<std::size_t>(found++)] = next;
        }
      };
      const auto add = [&]<int Rows>() __attribute__((always_inline)) {
        const S* row[Rows];
        float factor[Rows];
        for (int r = 0; r < Rows; ++r) {
          row[r] = b.row(rows[static_cast<std::size_t>(r)]) + first;
          factor[r] = static_cast<float>(a[rows[static_cast<std::size_t>(r)]]);
        }
        for (Index j = 0; j < whole; j += vector_width) {
          Vector sum = load(sums + j);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) sum += factor[r] * load(row[r] + j);
          store(sums + j, sum);
        }
        for (Index j = whole; j < columns; ++j) {
          for (int r = 0; r < Rows; ++r) sums[j] += factor[r] * static_cast<float>(row[r][j]);
        }
      };
      for (find(); found >= together; find()) {
        for (Index r = together; r < found; ++r) {
          const S* const coming = b.row(rows[static_cast<std::size_t>(r)]) + first;
          for (Index j = 0; j < columns; j += cache_line) __builtin_prefetch(coming + j);
        }
        add.template operator()<together>();
        std::copy(rows.begin() + together, rows.begin() + found, rows.begin());
        found -= together;
      }
      for (; found > 0; --found) {
        add.template operator()<1>();
        std::copy(rows.begin() + 1, rows.begin() + found, rows.begin());
      }
      write_sums(sums, first, columns, c);
    }
  };
  parallel_for(b.cols, grain, part, cache_line);
}

/// c = a B^T: a number for each row of B.
template <class S, class R>
void row_times_rows(const S* a, Matrix<const S> b, Output<R> c) {
  constexpr Index together = 4;
  const Index whole = b.cols / vector_width * vector_width;
  const auto part = [&](Index begin, Index end) {
    const auto multiply = [&]<int Rows>(Index i) __attribute__((always_inline)) {
      Vector sum[Rows] = {};
      for (Index k = 0; k < whole; k += vector_width) {
        const Vector left = load(a + k);
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) sum[r] += left * load(b.row(i + r) + k);
      }
      float total[Rows];
      for (int r = 0; r < Rows; ++r) {
        alignas(64) float lanes[vector_width];
        store(lanes, sum[r]);
        total[r] = 0;
        for (const float lane : lanes) total[r] += lane;
        for (Index k = whole; k < b.cols; ++k)
          total[r] += static_cast<float>(a[k]) * static_cast<float>(b.row(i + r)[k]);
      }
      write_sums(total, i, Rows, c);
    };
    Index i = begin;
    for (; i + together <= end; i += together) multiply.template operator()<together>(i);
    for (; i < end; ++i) multiply.template operator()<1>(i);
  };
  parallel_for(b.rows, row_grain(b.cols), part, 16);
}

/// c = a B, where is_vector_product(a).
template <class S, class R>
void vector_product(Operand<S> a, Operand<S> b, Output<R> c) {
  if (b.transposed) {
    row_times_rows<S>(a.matrix.data, b.matrix, c);
  } else {
    row_times_matrix<S>(a.matrix.data, b.matrix, c);
  }
}

}  // namespace lnfree::cpu
