#pragma once

#include <algorithm>
#include <cstring>

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/tile_product.hpp>
#include <lnfree/backend/cpu/transpose.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// A matrix product: tiles of C in registers, B copied into panels as wide as a tile, A read where it lies.
/// Only a transposed A that meets several panels is copied too, so that a tile finds its numbers next to each
/// other. A BLAS copies both factors always, which costs much where a side of the product is short.
class PanelGemm {
 public:
  PanelGemm(Operand<float> a, Operand<float> b, Output<float> c) : a_(a), b_(b), c_(c) {}

  /// Threads share the longer side of the result; how it is split does not change a number.
  void run() const {
    const Index rows = a_.rows(), columns = b_.cols();
    const Index multiply_adds_per_line = a_.cols() * std::min(rows, columns);
    const Index grain =
        std::max(Index{1}, elementwise_grain * 16 / std::max(Index{1}, multiply_adds_per_line));
    if (rows >= columns) {
      parallel_for(
          rows, grain, [&](Index begin, Index end) { part(begin, end, 0, columns); }, tile_rows);
    } else {
      parallel_for(
          columns, grain, [&](Index begin, Index end) { part(0, rows, begin, end); }, panel_columns);
    }
  }

 private:
  // Sums in registers, with the vectors of B beside them: 24 + 4 of 32, or 12 + 2 of 16.
  static constexpr int tile_rows = 6;
  static constexpr int tile_vectors = vector_width == 16 ? 4 : 2;
  static constexpr Index panel_columns = tile_vectors * vector_width;
  // A block and panels stay in the second-level cache.
  static constexpr Index most_depth = 384;
  static constexpr Index block_rows = 32 * tile_rows;
  static constexpr Index panels_together = 64 / panel_columns;
  static constexpr Index rows_ahead = 8;     // Fetched into the cache while rows are copied.
  static constexpr Index copied_floats = 8;  // At once, of which tile_rows count.
  using Panel = float[most_depth * panel_columns];
  using Block = float[(most_depth + 16) * block_rows];

  /// Floats from one strip of a block, tile_rows of its rows, to the next. All are written side by side: an
  /// odd number of cache lines apart they do not compete for the same places in the first-level cache.
  static Index strip_size(Index depth) {
    return ((depth * tile_rows + copied_floats - tile_rows + 15) / 16 | 1) * 16;
  }

  /// Rows [row_begin, row_end), columns [column_begin, column_end) of C.
  void part(Index row_begin, Index row_end, Index column_begin, Index column_end) const {
    alignas(64) Panel panels[panels_together];
    alignas(64) Block block;
    const Index depth = a_.cols();
    const Index slices = std::max(Index{1}, (depth + most_depth - 1) / most_depth);
    const bool copies_a = a_.transposed && column_end - column_begin > panel_columns;
    const Index rows_at_once = copies_a ? block_rows : row_end - row_begin;
    for (Index slice = 0; slice < slices; ++slice) {
      const Index k = depth * slice / slices, count = depth * (slice + 1) / slices - k;
      const Matrix<const float> addend = slice > 0 ? Matrix<const float>(c_.matrix) : c_.addend;
      for (Index i = row_begin; i < row_end; i += rows_at_once) {
        const Index rows = std::min(rows_at_once, row_end - i);
        if (copies_a) copy_block(block, i, rows, k, count);
        for (Index j = column_begin; j < column_end; j += panels_together * panel_columns) {
          const Index columns = std::min(panels_together * panel_columns, column_end - j);
          copy_panels(panels, k, count, j, columns);
          for (Index x = 0; x < columns; x += panel_columns) {
            const auto tiles_of_panel = [&]<int Rows>(Index r, Index tiles) {
              const LeftFactor a =
                  copies_a ? LeftFactor{block + r / tile_rows * strip_size(count), tile_rows, true}
                           : where_it_lies(i + r, k);
              const Index step = copies_a ? strip_size(count) : a.from_row(Rows).data - a.data;
              this->make_tiles<Rows>(a, step, panels[x / panel_columns], count,
                                     part_of(c_.matrix, i + r, j + x), part_of(addend, i + r, j + x),
                                     columns - x, tiles);
            };
            // Strips of a block are whole but for the last.
            const Index whole = rows / tile_rows * tile_rows;
            if (whole > 0) tiles_of_panel.template operator()<tile_rows>(0, whole / tile_rows);
            if (whole < rows) for_row_panels<tile_rows - 1>(whole, rows, tiles_of_panel);
          }
        }
      }
    }
  }

  LeftFactor where_it_lies(Index i, Index k) const {
    const Matrix<const float>& m = a_.matrix;
    return {a_.transposed ? m.row(k) + i : m.row(i) + k, m.stride, a_.transposed};
  }

  /// Tiles of C, one below the other, of which the first `columns` columns exist.
  template <int Rows>
  static void make_tiles(LeftFactor a, Index step, const Panel& panel, Index depth, Part<float> c,
                         Part<const float> addend, Index columns, Index count) {
    if (columns >= panel_columns) {
      column_of_tiles<Rows, tile_vectors>(a, step, {panel, panel_columns}, depth, c, addend, count);
      return;
    }
    // The panel's last columns are zero: a whole tile is computed aside, and the part that exists kept.
    alignas(64) float whole[Rows * panel_columns];
    for (; count > 0; --count, a.data += step) {
      column_of_tiles<Rows, tile_vectors>(a, step, {panel, panel_columns}, depth, {whole, panel_columns},
                                          {nullptr, 0}, 1);
      for (int r = 0; r < Rows; ++r, c.data += c.stride) {
        for (Index x = 0; x < columns; ++x) {
          const float before = addend.data == nullptr ? 0.0f : addend.data[x];
          c.data[x] = before + whole[r * panel_columns + x];
        }
        if (addend.data != nullptr) addend.data += addend.stride;
      }
    }
  }

  /// A transposed A's rows [i, i + rows), columns [k, k + count): tile_rows rows together, column by column.
  void copy_block(Block& block, Index i, Index rows, Index k, Index count) const {
    const Index strip = strip_size(count), whole = rows / tile_rows * tile_rows;
    // Strips are copied in pieces of a convenient size, of which the next one overwrites the surplus, where
    // the row is long enough.
    const Index ample = std::min(whole, a_.rows() - i - copied_floats + 1);
    const bool leaves_gaps = rows < a_.rows();  // Over which a processor does not fetch ahead by itself.
    for (Index d = 0; d < count; ++d) {
      const float* const from = a_.matrix.row(k + d) + i;
      if (leaves_gaps && d + rows_ahead < count) {
        for (Index r = 0; r < rows; r += 16) __builtin_prefetch(from + rows_ahead * a_.matrix.stride + r);
      }
      float* to = block + d * tile_rows;
      Index r = 0;
      for (; r < ample; r += tile_rows, to += strip) std::memcpy(to, from + r, copied_floats * sizeof(float));
      for (; r < whole; r += tile_rows, to += strip) std::memcpy(to, from + r, tile_rows * sizeof(float));
      for (; r < rows; ++r) to[r - whole] = from[r];
    }
  }

  /// B's rows [k, k + count), columns [j, j + columns), side by side; the rest of the last panel's width
  /// zero.
  void copy_panels(Panel* panels, Index k, Index count, Index j, Index columns) const {
    const Matrix<const float>& m = b_.matrix;
    const Index whole = columns / panel_columns * panel_columns;
    float* const last = whole < columns ? panels[whole / panel_columns] : nullptr;
    if (last != nullptr) std::fill_n(last, count * panel_columns, 0.0f);
    if (b_.transposed) {
      for (Index x = 0; x < columns; x += panel_columns) {
        transpose_into(m.slice(j + x, std::min(panel_columns, columns - x)).columns(k, count),
                       panels[x / panel_columns], panel_columns);
      }
      return;
    }
    for (Index d = 0; d < count; ++d) {
      const float* const from = m.row(k + d) + j;
      if (d + rows_ahead < count) {
        for (Index x = 0; x < columns; x += 16) __builtin_prefetch(from + rows_ahead * m.stride + x);
      }
      for (Index x = 0; x < whole; x += panel_columns) {
        std::copy_n(from + x, panel_columns, panels[x / panel_columns] + d * panel_columns);
      }
      if (last != nullptr) std::copy_n(from + whole, columns - whole, last + d * panel_columns);
    }
  }

  Operand<float> a_, b_;
  Output<float> c_;
};

}  // namespace lnfree::cpu
