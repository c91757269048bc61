#pragma once

#include <algorithm>

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/tile_product.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// A matrix product for factors of which one side is short, as in narrow models: there the packing of both
/// factors, which a BLAS does for large ones, costs more than it gains. B is copied panel by panel into a
/// block that stays in the first-level cache, A is read where it lies.
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
  static constexpr int tile_rows = 6;  // 6 x 4 sums, 4 of B: 28 of 32 registers
  static constexpr int tile_vectors = 4;
  static constexpr Index panel_columns = tile_vectors * vector_width;
  static constexpr Index panel_depth = 128;
  using Panel = float[panel_depth * panel_columns];

  /// Rows [row_begin, row_end), columns [column_begin, column_end) of C.
  void part(Index row_begin, Index row_end, Index column_begin, Index column_end) const {
    alignas(64) Panel panel;
    const Index depth = a_.cols();
    for (Index k = 0; k < depth; k += panel_depth) {
      const Index count = std::min(panel_depth, depth - k);
      const bool adds = c_.accumulates || k > 0;
      for (Index j = column_begin; j < column_end; j += panel_columns) {
        const Index columns = std::min(panel_columns, column_end - j);
        pack(panel, k, count, j, columns);
        for_row_panels<tile_rows>(row_begin, row_end, [&]<int Rows>(Index i) {
          const Strided a = a_panel(i, k);
          float* const to = c_.matrix.row(i) + j;
          if (columns == panel_columns) {
            register_tile<Rows, tile_vectors>(a, panel, panel_columns, count, to, c_.matrix.stride, adds);
          } else {
            // The panel's last columns are zero: a whole tile is computed aside, and the part that exists
            // kept.
            alignas(64) float tile[Rows * panel_columns];
            register_tile<Rows, tile_vectors>(a, panel, panel_columns, count, tile, panel_columns, false);
            for (int r = 0; r < Rows; ++r) {
              float* const row = to + r * c_.matrix.stride;
              for (Index x = 0; x < columns; ++x)
                row[x] = (adds ? row[x] : 0.0f) + tile[r * panel_columns + x];
            }
          }
        });
      }
    }
    if (depth == 0 && !c_.accumulates) {
      for (Index i = row_begin; i < row_end; ++i) {
        std::fill(c_.matrix.row(i) + column_begin, c_.matrix.row(i) + column_end, 0.0f);
      }
    }
  }

  Strided a_panel(Index i, Index k) const {
    const Matrix<const float>& m = a_.matrix;
    return a_.transposed ? Strided{m.row(k) + i, 1, m.stride} : Strided{m.row(i) + k, m.stride, 1};
  }

  /// B's rows [k, k + count), columns [j, j + columns), the rest of the panel's width zero.
  void pack(Panel& panel, Index k, Index count, Index j, Index columns) const {
    const Matrix<const float>& m = b_.matrix;
    if (columns < panel_columns) std::fill(panel, panel + count * panel_columns, 0.0f);
    if (b_.transposed) {
      for (Index x = 0; x < columns; ++x) {
        const float* from = m.row(j + x) + k;
        for (Index d = 0; d < count; ++d) panel[d * panel_columns + x] = from[d];
      }
    } else {
      for (Index d = 0; d < count; ++d) std::copy_n(m.row(k + d) + j, columns, panel + d * panel_columns);
    }
  }

  Operand<float> a_, b_;
  Output<float> c_;
};

}  // namespace lnfree::cpu
