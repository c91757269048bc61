#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/tile_product.hpp>
#include <lnfree/device/cpu/transpose.hpp>

namespace lnfree::cpu {

/// A matrix product: tiles of C in registers, B packed into panels as wide as a tile, A read in place. Only a
/// transposed A that is used with several panels is packed too, so that a tile reads it contiguously. A BLAS
/// always packs both factors, which is expensive when one side of the product is short.
class PanelGemm {
 public:
  PanelGemm(Operand<float> a, Operand<float> b, Output<float> c) : a_(a), b_(b), c_(c) {}

  /// Threads split the longer side of the result, or the columns if it is square, so that each packs its own
  /// part of B. The split does not change the result.
  void run() const {
    const Index rows = a_.rows(), columns = b_.cols();
    const Index multiply_adds_per_line = a_.cols() * std::min(rows, columns);
    const Index grain =
        std::max(Index{1}, elementwise_grain * 16 / std::max(Index{1}, multiply_adds_per_line));
    if (rows > columns) {
      parallel_for(rows, grain, [&](Index begin, Index end) { part(begin, end, 0, columns); }, mr);
    } else {
      parallel_for(columns, grain, [&](Index begin, Index end) { part(0, rows, begin, end); }, cache_line);
    }
  }

 private:
  static constexpr Index cache_line = 16;  // in floats

  /// The blocking, in the terms of BLIS (Van Zee and van de Geijn, 2015):
  ///
  ///   mr x nr     a tile of C, in registers; nr columns of B, or a vector less, are a panel
  ///   kc          depth of a panel. If A is not packed, panels twice as deep halve the passes over C
  ///   nc          columns of B packed at once, in panels that stay together in the second-level cache
  ///   mc          rows of A that stay in that cache, too; twice as many where a block is used with several
  ///               groups of panels, for which it need not stay there
  static constexpr bool is_wide = vector_width == 16;
  static constexpr int nr_vectors = is_wide ? 4 : 3, mr = tile_rows<nr_vectors>;
  static constexpr Index nr = nr_vectors * vector_width;
  static constexpr Index kc = 384, kc_in_place = is_wide ? kc : 2 * kc;
  static constexpr Index nc = is_wide ? nr : 4 * nr;
  static constexpr Index mc = 192, mc_of_groups = 2 * mc;

  static constexpr Index rows_together = 4, rows_ahead = 8;  // packed together, and prefetched meanwhile
  // Where mr is not a multiple of the vector width: floats copied at once, of which mr are used.
  static constexpr Index copied_floats = std::bit_ceil(mr + 0u);
  static constexpr Index strips_in_vector = vector_width / mr;
  using Right = float[kc * nc];
  using Block = float[(kc + 16) * mc_of_groups];
  struct alignas(64) Copies {
    Right right;
    Block block;
  };

  /// One for each thread, created with its first product: it takes most of a megabyte, too much for some
  /// stacks.
  static Copies& copies() {
    static thread_local const auto mine = std::make_unique_for_overwrite<Copies>();
    return *mine;
  }

  /// Calls body.operator()<Vectors>(x) for each panel of columns, nr_vectors vectors wide or one less, where
  /// x is its first column. Only the last panel may extend past the columns.
  template <class Body>
  static void for_panels(Index columns, const Body& body) {
    const Index vectors = std::max(Index{nr_vectors - 1}, (columns + vector_width - 1) / vector_width);
    for_even_parts<nr_vectors, nr_vectors - 1>(0, vectors, [&]<int Vectors>(Index v, Index panels) {
      for (; panels > 0; --panels, v += Vectors) body.template operator()<Vectors>(v * vector_width);
    });
  }

  /// Floats from one strip of a block, mr of its rows, to the next. All strips are written at the same time;
  /// an odd number of cache lines between them keeps them out of the same sets of the first-level cache.
  static Index strip_size(Index depth) { return ((depth * mr + copied_floats - mr + 15) / 16 | 1) * 16; }

  /// Rows [row_begin, row_end), columns [column_begin, column_end) of C.
  void part(Index row_begin, Index row_end, Index column_begin, Index column_end) const {
    auto& [right, block] = copies();
    const Index depth = a_.cols();
    const bool copies_a = a_.transposed && column_end - column_begin > nr;
    const Index depth_at_once = copies_a ? kc : kc_in_place;
    const Index slices = std::max(Index{1}, (depth + depth_at_once - 1) / depth_at_once);
    for (Index slice = 0; slice < slices; ++slice) {
      const Index k = depth * slice / slices, count = depth * (slice + 1) / slices - k;
      const Matrix<const float> addend = slice > 0 ? Matrix<const float>(c_.matrix) : c_.addend;
      const Index columns_together = std::min(nc, kc * nc / std::max(Index{1}, count) / nr * nr);
      const bool panels_suffice = column_end - column_begin <= columns_together;
      const Index rows_at_once = !copies_a ? row_end - row_begin : panels_suffice ? mc : mc_of_groups;
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

  /// Rows [i, i + rows) and columns [j, j + columns) of C, for a slice of the depth that begins at k.
  struct Piece {
    Index i, rows, j, columns, k, depth;
  };

  /// Multiplies A's strips in `block`, or A in place, by the panels in `right`.
  void multiply(Piece p, const float* block, const float* right, Matrix<const float> addend) const {
    for (Index begin = 0; begin < p.rows; begin += mc) {
      const Index end = std::min(p.rows, begin + mc);
      for_panels(p.columns, [&]<int Vectors>(Index x) {
        const auto tiles = [&]<int Rows>(Index r, Index count) {
          const LeftFactor a = block != nullptr ? LeftFactor{block + r / mr * strip_size(p.depth), 1, mr}
                                                : where_it_lies(p.i + r, p.k);
          const Index step = block != nullptr ? strip_size(p.depth) : a.from_row(Rows).data - a.data;
          this->make_tiles<Rows, Vectors>(a, step, right + x * p.depth, p.depth,
                                          part_of(c_.matrix, p.i + r, p.j + x),
                                          part_of(addend, p.i + r, p.j + x), p.columns - x, count);
        };
        if (block != nullptr) {
          // All strips of a block but the last are whole.
          const Index whole = end / mr * mr;
          if (whole > begin) tiles.template operator()<mr>(begin, (whole - begin) / mr);
          if (whole < end) for_even_parts<mr - 1>(whole, end, tiles);
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

  /// Computes tiles of C, one below the other, of which the first `columns` columns exist.
  template <int Rows, int Vectors>
  static void make_tiles(LeftFactor a, Index step, const float* panel, Index depth, Part<float> c,
                         Part<const float> addend, Index columns, Index count) {
    constexpr Index width = Vectors * vector_width;
    if (columns >= width) {
      column_of_tiles<Rows, Vectors>(a, step, {panel, width}, depth, c, addend, count);
      return;
    }
    // The panel's last columns are zero: a whole tile is computed in a buffer, and the part that exists is
    // stored.
    alignas(64) float whole[std::size_t{Rows * width}];
    for (; count > 0; --count, a.data += step) {
      column_of_tiles<Rows, Vectors>(a, step, {panel, width}, depth, {whole, width}, {nullptr, 0}, 1);
      for (int r = 0; r < Rows; ++r) keep(whole + r * width, columns, c, addend);
    }
  }

  /// Writes the beginning of a row of C, and advances to the next.
  [[gnu::noinline]] static void keep(const float* row, Index columns, Part<float>& c,
                                     Part<const float>& addend) {
    for (Index x = 0; x < columns; ++x) {
      c.data[x] = (addend.data == nullptr ? 0.0f : addend.data[x]) + row[x];
    }
    c.data += c.stride;
    if (addend.data != nullptr) addend.data += addend.stride;
  }

  /// Packs rows [i, i + rows) and columns [k, k + count) of a transposed A: mr rows together, column by
  /// column.
  void copy_block(Block& block, Index i, Index rows, Index k, Index count) const {
    const Index strip = strip_size(count), whole = rows / mr * mr;
    const bool leaves_gaps = rows < a_.rows();  // the hardware does not prefetch across the gaps
    for (Index d = 0; d < count; ++d) {
      const float* const from = a_.matrix.row(k + d) + i;
      if (leaves_gaps && d + rows_ahead < count) {
        for (Index r = 0; r < rows; r += cache_line)
          __builtin_prefetch(from + rows_ahead * a_.matrix.stride + r);
      }
      float* to = block + d * mr;
      Index r = 0;
      if constexpr (vector_width % mr == 0) {
        for (; r + vector_width <= whole; r += vector_width, to += strips_in_vector * strip) {
          const Vector numbers = load(from + r);
#pragma GCC unroll 4
          for (int x = 0; x < strips_in_vector; ++x) {
            std::memcpy(to + x * strip, reinterpret_cast<const float*>(&numbers) + x * mr,
                        mr * sizeof(float));
          }
        }
      } else {
        // The surplus is overwritten by the next piece, if the row is long enough.
        const Index ample = std::min(whole, a_.rows() - i - copied_floats + 1);
        for (; r < ample; r += mr, to += strip) {
          std::memcpy(to, from + r, copied_floats * sizeof(float));
        }
      }
      for (; r < whole; r += mr, to += strip) std::memcpy(to, from + r, mr * sizeof(float));
      for (; r < rows; ++r) to[r - whole] = from[r];
    }
  }

  /// Packs rows [k, k + count) and columns [j, j + columns) of B, panel after panel; the rest of the last
  /// panel is zero.
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
