#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

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

  /// Threads share the longer side of the result, of a square one the columns: each then copies its own part
  /// of B. How it is split does not change a number.
  void run() const {
    const Index rows = a_.rows(), columns = b_.cols();
    const Index multiply_adds_per_line = a_.cols() * std::min(rows, columns);
    const Index grain =
        std::max(Index{1}, elementwise_grain * 16 / std::max(Index{1}, multiply_adds_per_line));
    if (rows > columns) {
      parallel_for(rows, grain, [&](Index begin, Index end) { part(begin, end, 0, columns); }, strip_rows);
    } else {
      parallel_for(columns, grain, [&](Index begin, Index end) { part(0, rows, begin, end); }, cache_line);
    }
  }

 private:
  static constexpr Index cache_line = 16;  // In floats.
  static constexpr int panel_vectors = vector_width == 16 ? 4 : 3;
  static constexpr int strip_rows = tile_rows<panel_vectors>;
  // Panels side by side and some rows of A stay in the second-level cache; a block that meets several groups
  // of panels need not. Where A is not copied, few panels twice as deep save half the passes over C.
  static constexpr Index panel_columns = panel_vectors * vector_width;
  static constexpr Index max_columns = vector_width == 16 ? panel_columns : 4 * panel_columns;
  static constexpr Index block_depth = 384, max_depth = vector_width == 16 ? block_depth : 2 * block_depth;
  static constexpr Index rows_in_cache = 192, block_rows = 2 * rows_in_cache;
  static constexpr Index rows_together = 4, rows_ahead = 8;  // Copied, and fetched into the cache meanwhile.
  // Where a vector is not made of whole strips: floats copied at once, of which strip_rows count.
  static constexpr Index copied_floats = std::bit_ceil(strip_rows + 0u);
  static constexpr Index strips_in_vector = vector_width / strip_rows;
  using Right = float[block_depth * max_columns];
  using Block = float[(block_depth + 16) * block_rows];
  struct alignas(64) Copies {
    Right right;
    Block block;
  };

  /// A thread's own, made with its first product: most of a megabyte, for which a stack may be too small.
  static Copies& copies() {
    static thread_local const auto mine = std::make_unique_for_overwrite<Copies>();
    return *mine;
  }

  /// Calls body.operator()<Vectors>(x) for each panel of columns side by side, of panel_vectors vectors or
  /// one less; x columns lie before it. Only the last one may reach beyond the columns.
  template <class Body>
  static void for_panels(Index columns, const Body& body) {
    const Index vectors = std::max(Index{panel_vectors - 1}, (columns + vector_width - 1) / vector_width);
    for_even_parts<panel_vectors, panel_vectors - 1>(0, vectors, [&]<int Vectors>(Index v, Index panels) {
      for (; panels > 0; --panels, v += Vectors) body.template operator()<Vectors>(v * vector_width);
    });
  }

  /// Floats from one strip of a block, strip_rows of its rows, to the next. All are written side by side: an
  /// odd number of cache lines apart they do not compete for the same places in the first-level cache.
  static Index strip_size(Index depth) {
    return ((depth * strip_rows + copied_floats - strip_rows + 15) / 16 | 1) * 16;
  }

  /// Rows [row_begin, row_end), columns [column_begin, column_end) of C.
  void part(Index row_begin, Index row_end, Index column_begin, Index column_end) const {
    auto& [right, block] = copies();
    const Index depth = a_.cols();
    const bool copies_a = a_.transposed && column_end - column_begin > panel_columns;
    const Index depth_at_once = copies_a ? block_depth : max_depth;
    const Index slices = std::max(Index{1}, (depth + depth_at_once - 1) / depth_at_once);
    for (Index slice = 0; slice < slices; ++slice) {
      const Index k = depth * slice / slices, count = depth * (slice + 1) / slices - k;
      const Matrix<const float> addend = slice > 0 ? Matrix<const float>(c_.matrix) : c_.addend;
      const Index columns_together = std::min(
          max_columns, block_depth * max_columns / std::max(Index{1}, count) / panel_columns * panel_columns);
      const bool panels_suffice = column_end - column_begin <= columns_together;
      const Index rows_at_once = !copies_a        ? row_end - row_begin
                                 : panels_suffice ? rows_in_cache
                                                  : block_rows;
      for (Index i = row_begin; i < row_end; i += rows_at_once) {
        const Index rows = std::min(rows_at_once, row_end - i);
        if (copies_a) copy_block(block, i, rows, k, count);
        for (Index j = column_begin; j < column_end; j += columns_together) {
          const Index columns = std::min(columns_together, column_end - j);
          if (i == row_begin || !panels_suffice) copy_right(right, k, count, j, columns);
          multiply({i, rows, j, columns, k, count}, copies_a ? block : nullptr, right, addend);
        }
      }
    }
  }

  /// Rows [i, i + rows), columns [j, j + columns) of C, of a slice of the depth that begins at k.
  struct Piece {
    Index i, rows, j, columns, k, depth;
  };

  /// Multiplies A's strips in `block`, or A where it lies, with the panels in `right`.
  void multiply(Piece p, const float* block, const float* right, Matrix<const float> addend) const {
    for (Index begin = 0; begin < p.rows; begin += rows_in_cache) {
      const Index end = std::min(p.rows, begin + rows_in_cache);
      for_panels(p.columns, [&]<int Vectors>(Index x) {
        const auto tiles = [&]<int Rows>(Index r, Index count) {
          const LeftFactor a = block != nullptr
                                   ? LeftFactor{block + r / strip_rows * strip_size(p.depth), 1, strip_rows}
                                   : where_it_lies(p.i + r, p.k);
          const Index step = block != nullptr ? strip_size(p.depth) : a.from_row(Rows).data - a.data;
          this->make_tiles<Rows, Vectors>(a, step, right + x * p.depth, p.depth,
                                          part_of(c_.matrix, p.i + r, p.j + x),
                                          part_of(addend, p.i + r, p.j + x), p.columns - x, count);
        };
        if (block != nullptr) {
          // Strips of a block are whole but for the last.
          const Index whole = end / strip_rows * strip_rows;
          if (whole > begin) tiles.template operator()<strip_rows>(begin, (whole - begin) / strip_rows);
          if (whole < end) for_even_parts<strip_rows - 1>(whole, end, tiles);
        } else {
          for_even_parts<tile_rows<Vectors>>(begin, end, tiles);
        }
      });
    }
  }

  LeftFactor where_it_lies(Index i, Index k) const {
    const Matrix<const float>& m = a_.matrix;
    return a_.transposed ? columns_of(m.slice(k, 1).columns(i, 1)) : rows_of(m.slice(i, 1).columns(k, 1));
  }

  /// Tiles of C, one below the other, of which the first `columns` columns exist.
  template <int Rows, int Vectors>
  static void make_tiles(LeftFactor a, Index step, const float* panel, Index depth, Part<float> c,
                         Part<const float> addend, Index columns, Index count) {
    constexpr Index width = Vectors * vector_width;
    if (columns >= width) {
      column_of_tiles<Rows, Vectors>(a, step, {panel, width}, depth, c, addend, count);
      return;
    }
    // The panel's last columns are zero: a whole tile is computed aside, and the part that exists kept.
    alignas(64) float whole[std::size_t{Rows * width}];
    for (; count > 0; --count, a.data += step) {
      column_of_tiles<Rows, Vectors>(a, step, {panel, width}, depth, {whole, width}, {nullptr, 0}, 1);
      for (int r = 0; r < Rows; ++r) keep(whole + r * width, columns, c, addend);
    }
  }

  /// Writes the beginning of a row of C, and goes on to the next.
  [[gnu::noinline]] static void keep(const float* row, Index columns, Part<float>& c,
                                     Part<const float>& addend) {
    for (Index x = 0; x < columns; ++x) {
      c.data[x] = (addend.data == nullptr ? 0.0f : addend.data[x]) + row[x];
    }
    c.data += c.stride;
    if (addend.data != nullptr) addend.data += addend.stride;
  }

  /// A transposed A's rows [i, i + rows), columns [k, k + count): strip_rows rows together, column by column.
  void copy_block(Block& block, Index i, Index rows, Index k, Index count) const {
    const Index strip = strip_size(count), whole = rows / strip_rows * strip_rows;
    const bool leaves_gaps = rows < a_.rows();  // Over which a processor does not fetch ahead by itself.
    for (Index d = 0; d < count; ++d) {
      const float* const from = a_.matrix.row(k + d) + i;
      if (leaves_gaps && d + rows_ahead < count) {
        for (Index r = 0; r < rows; r += cache_line)
          __builtin_prefetch(from + rows_ahead * a_.matrix.stride + r);
      }
      float* to = block + d * strip_rows;
      Index r = 0;
      if constexpr (vector_width % strip_rows == 0) {
        for (; r + vector_width <= whole; r += vector_width, to += strips_in_vector * strip) {
          const Vector numbers = load(from + r);
#pragma GCC unroll 4
          for (int x = 0; x < strips_in_vector; ++x) {
            std::memcpy(to + x * strip, reinterpret_cast<const float*>(&numbers) + x * strip_rows,
                        strip_rows * sizeof(float));
          }
        }
      } else {
        // The next piece overwrites the surplus, where the row is long enough.
        const Index ample = std::min(whole, a_.rows() - i - copied_floats + 1);
        for (; r < ample; r += strip_rows, to += strip) {
          std::memcpy(to, from + r, copied_floats * sizeof(float));
        }
      }
      for (; r < whole; r += strip_rows, to += strip) std::memcpy(to, from + r, strip_rows * sizeof(float));
      for (; r < rows; ++r) to[r - whole] = from[r];
    }
  }

  /// B's rows [k, k + count), columns [j, j + columns), panel after panel; the rest of the last panel's width
  /// zero.
  void copy_right(float* right, Index k, Index count, Index j, Index columns) const {
    const Matrix<const float>& m = b_.matrix;
    if (b_.transposed) {
      for_panels(columns, [&]<int Vectors>(Index x) {
        constexpr Index width = Vectors * vector_width;
        const Index existing = std::min(width, columns - x);
        if (existing < width) std::fill_n(right + x * count, width * count, 0.0f);
        transpose_into(m.slice(j + x, existing).columns(k, count), right + x * count, width);
      });
      return;
    }
    for (Index begin = 0; begin < count; begin += rows_together) {
      const Index end = std::min(count, begin + rows_together);
      for (Index d = begin + rows_ahead; d < std::min(count, end + rows_ahead); ++d) {
        for (Index x = 0; x < columns; x += cache_line) __builtin_prefetch(m.row(k + d) + j + x);
      }
      for_panels(columns, [&]<int Vectors>(Index x) {
        constexpr Index width = Vectors * vector_width;
        for (Index d = begin; d < end; ++d) {
          const float* const from = m.row(k + d) + j + x;
          float* const to = right + x * count + d * width;
          if (x + width <= columns) {
#pragma GCC unroll 4
            for (int v = 0; v < width; v += vector_width) store(to + v, load(from + v));
          } else {
            std::fill(std::copy_n(from, columns - x, to), to + width, 0.0f);
          }
        }
      });
    }
  }

  Operand<float> a_, b_;
  Output<float> c_;
};

}  // namespace lnfree::cpu
