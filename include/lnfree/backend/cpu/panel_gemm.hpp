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
  static constexpr Index most_depth = 384;  // A panel and a block stay in the second-level cache.
  static constexpr Index block_rows = 32 * tile_rows;
  static constexpr Index rows_ahead = 8;  // Fetched into the cache while rows are copied.
  using Panel = float[most_depth * panel_columns];
  using Block = float[(most_depth + 16) * block_rows];

  /// Floats from one strip of a block, tile_rows of its rows, to the next. All are written side by side: an
  /// odd number of cache lines apart they do not compete for the same places in the first-level cache.
  static Index strip_size(Index depth) { return ((depth * tile_rows + 15) / 16 | 1) * 16; }

  /// Rows [row_begin, row_end), columns [column_begin, column_end) of C.
  void part(Index row_begin, Index row_end, Index column_begin, Index column_end) const {
    alignas(64) Panel panel;
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
        for (Index j = column_begin; j < column_end; j += panel_columns) {
          const Index columns = std::min(panel_columns, column_end - j);
          copy_panel(panel, k, count, j, columns);
          // The next panel's rows are fetched while this one is multiplied, some with every tile: the product
          // over all tokens that makes a weight's gradient has few tiles for each panel to hide the waiting.
          const bool fetches = copies_a && !b_.transposed && j + panel_columns < column_end;
          const Index rows_per_tile = fetches ? (count * tile_rows + rows - 1) / rows : 0;
          for_row_panels<tile_rows>(0, rows, [&]<int Rows>(Index r) {
            const Index first = std::min(count, r / tile_rows * rows_per_tile);
            const Index last = std::min(count, first + rows_per_tile);
            for (Index d = first; d < last; ++d) {
              const float* next = b_.matrix.row(k + d) + j + panel_columns;
              for (Index x = 0; x < panel_columns; x += 16) __builtin_prefetch(next + x, 0, 2);
            }
            const Strided a = copies_a ? Strided{block + r / tile_rows * strip_size(count), 1, tile_rows}
                                       : where_it_lies(i + r, k);
            tile<Rows>(a, panel, count, part_of(c_.matrix, i + r, j), part_of(addend, i + r, j), columns);
          });
        }
      }
    }
  }

  Strided where_it_lies(Index i, Index k) const {
    const Matrix<const float>& m = a_.matrix;
    return a_.transposed ? Strided{m.row(k) + i, 1, m.stride} : Strided{m.row(i) + k, m.stride, 1};
  }

  /// A tile of C, of which `columns` exist.
  template <int Rows>
  static void tile(Strided a, const Panel& panel, Index count, Part<float> c, Part<const float> addend,
                   Index columns) {
    if (columns == panel_columns) {
      for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < tile_vectors; ++v)
          __builtin_prefetch(c.data + r * c.stride + v * vector_width, 1);
      }
      register_tile<Rows, tile_vectors>(a, {panel, panel_columns}, count, c, addend);
      return;
    }
    // The panel's last columns are zero: a whole tile is computed aside, and the part that exists kept.
    alignas(64) float whole[Rows * panel_columns];
    register_tile<Rows, tile_vectors>(a, {panel, panel_columns}, count, {whole, panel_columns}, {nullptr, 0});
    for (int r = 0; r < Rows; ++r) {
      for (Index x = 0; x < columns; ++x) {
        const float before = addend.data == nullptr ? 0.0f : addend.data[r * addend.stride + x];
        c.data[r * c.stride + x] = before + whole[r * panel_columns + x];
      }
    }
  }

  /// A transposed A's rows [i, i + rows), columns [k, k + count): tile_rows rows together, column by column.
  void copy_block(Block& block, Index i, Index rows, Index k, Index count) const {
    const Index strip = strip_size(count), whole = rows / tile_rows * tile_rows;
    const bool leaves_gaps = rows < a_.rows();  // Over which a processor does not fetch ahead by itself.
    for (Index d = 0; d < count; ++d) {
      const float* from = a_.matrix.row(k + d) + i;
      if (leaves_gaps && d + rows_ahead < count) {
        for (Index r = 0; r < rows; r += 16) __builtin_prefetch(from + rows_ahead * a_.matrix.stride + r);
      }
      float* const to = block + d * tile_rows;
      for (Index r = 0; r < whole; r += tile_rows) {
        std::memcpy(to + r / tile_rows * strip, from + r, tile_rows * sizeof(float));
      }
      for (Index r = whole; r < rows; ++r) to[whole / tile_rows * strip + r - whole] = from[r];
    }
  }

  /// B's rows [k, k + count), columns [j, j + columns), the rest of the panel's width zero.
  void copy_panel(Panel& panel, Index k, Index count, Index j, Index columns) const {
    const Matrix<const float>& m = b_.matrix;
    if (columns < panel_columns) std::fill(panel, panel + count * panel_columns, 0.0f);
    if (b_.transposed) {
      transpose_into(m.slice(j, columns).columns(k, count), panel, panel_columns);
    } else if (columns == panel_columns) {
      for (Index d = 0; d < count; ++d) {
        std::copy_n(m.row(k + d) + j, panel_columns, panel + d * panel_columns);
      }
    } else {
      for (Index d = 0; d < count; ++d) std::copy_n(m.row(k + d) + j, columns, panel + d * panel_columns);
    }
  }

  Operand<float> a_, b_;
  Output<float> c_;
};

}  // namespace lnfree::cpu
