#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/async_copy.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>
#include <lnfree/device/cuda/rounding.hpp>
#include <lnfree/device/cuda/runtime.hpp>
#include <lnfree/device/cuda/warp_matrix.hpp>

/// Tiles of matrices, and the operations of which the attention kernels are made. A block shares a
/// SharedTile; a warp holds a RegisterTile, sixteen rows, and a RowVector, a number for each of them.
namespace lnfree::cuda {

/// Rows of a SharedTile. Floats take twice the memory, so their tiles have half as many rows.
template <class S>
inline constexpr int tile_rows = sizeof(S) == 2 ? 64 : 32;
/// Threads of a block: a warp for each sixteen rows.
template <class S>
inline constexpr int tile_threads = 2 * tile_rows<S>;

/// A tile of a matrix in shared memory. The 16 bytes after each row put eight rows in different banks.
template <class S, int Cols, int Rows = tile_rows<S>>
struct SharedTile {
  static constexpr int rows = Rows, threads = 2 * Rows;
  static constexpr int stride = Cols + pack_size<S>, size = rows * stride;
  static constexpr int packs_of_row = Cols / pack_size<S>;

  S* data;

  /// The rows from this one on.
  __device__ SharedTile from(int row) const { return {data + row * stride}; }

  /// Calls body(i, j, place) for this thread's packs: row, first column, and where it is.
  template <class Body>
  __device__ void for_my_packs(const Body& body) const {
#pragma unroll
    for (int n = 0; n < rows * packs_of_row / threads; ++n) {
      const int at = static_cast<int>(threadIdx.x) + n * threads;
      const int i = at / packs_of_row, j = at % packs_of_row * pack_size<S>;
      body(i, j, data + i * stride + j);
    }
  }
};

/// Begins to copy a tile from a matrix, with zeros beyond the matrix's end; wait_for_copies() waits for it.
/// `whole`: the matrix's rows are whole packs.
template <class S, int Cols, int Rows>
__device__ void begin_load(SharedTile<S, Cols, Rows> to, Matrix<const S> from, bool whole) {
  if (whole) {
    to.for_my_packs([&](int i, int j, S* place) {
      const bool there = i < from.rows && j < from.cols;
      begin_copy(place, there ? from.row(i) + j : from.data, there);
    });
    return;
  }
  to.for_my_packs([&](int i, int j, S* place) {
    for (int e = 0; e < pack_size<S>; ++e) {
      place[e] = i < from.rows && j + e < from.cols ? from.row(i)[j + e] : S(0.0f);
    }
  });
}

/// Whether everything that this thread has copied of a tile is finite.
template <class S, int Cols>
__device__ bool my_packs_are_finite(SharedTile<S, Cols> tile) {
  bool finite = true;
  tile.for_my_packs([&](int, int, const S* place) {
    const Floats<pack_size<S>> numbers = load<pack_size<S>>(place);
#pragma unroll
    for (int e = 0; e < pack_size<S>; ++e) finite = finite && fabsf(numbers[e]) <= FLT_MAX;
  });
  return finite;
}

/// Calls body(i, sum) once for each row of two tiles, with the sum of a_ij b_ij over j. A thread reads only
/// what it has copied itself.
template <class S, int Cols, class Body>
__device__ void multiply_rows(SharedTile<S, Cols> a, SharedTile<S, Cols> b, const Body& body) {
  a.for_my_packs([&](int i, int j, const S* place) {
    const Floats<pack_size<S>> left = load<pack_size<S>>(place),
                               right = load<pack_size<S>>(b.data + (place - a.data));
    float sum = 0;
#pragma unroll
    for (int e = 0; e < pack_size<S>; ++e) sum += left[e] * right[e];
    sum = warp_sum<SharedTile<S, Cols>::packs_of_row>(sum);
    if (j == 0) body(i, sum);
  });
}

/// Copies a tile to a matrix, up to the matrix's end. Hands whole packs to a Rounding (factor_rounding.hpp).
template <class S, int Cols, int Rows, class Rounding>
__device__ void store(Matrix<S> to, SharedTile<S, Cols, Rows> from, bool whole, Rounding& rounding) {
  from.for_my_packs([&](int i, int j, const S* place) {
    if (i >= to.rows) return;
    if (whole && j < to.cols) {
      rounding.take(store(to.row(i) + j, *reinterpret_cast<const Pack<pack_size<S>, S>*>(place)));
    } else {
      for (int e = 0; e < pack_size<S>; ++e) {
        if (j + e < to.cols) to.row(i)[j + e] = place[e];
      }
    }
  });
}
template <class S, int Cols, int Rows>
__device__ void store(Matrix<S> to, SharedTile<S, Cols, Rows> from, bool whole) {
  NoRounding none;
  store(to, from, whole, none);
}

/// One of the two rows of a RegisterTile that lane l has a part of: l / 4 for r == 0, l / 4 + 8 for r == 1.
struct Row {
  int r;
  __device__ int index() const { return static_cast<int>(threadIdx.x % 32 / 4) + 8 * r; }
};

/// One of the numbers that lane l holds of a RegisterTile. Of columns 8 n to 8 n + 7 it has column 2 (l % 4)
/// and the next: as e = 0 and 1 in its first row, as e = 2 and 3 in its second.
struct Place {
  int n, e;
  __device__ operator Row() const { return {e / 2}; }
  __device__ int row() const { return Row(*this).index(); }
  __device__ int col() const { return 8 * n + 2 * static_cast<int>(threadIdx.x % 4) + e % 2; }
};

/// Sixteen rows of Cols numbers in the registers of a warp, zeros at first.
template <int Cols, class Number = float>
struct RegisterTile {
  Number numbers[Cols / 8][4] = {};

  __device__ Number& operator[](Place at) { return numbers[at.n][at.e]; }
  __device__ Number operator[](Place at) const { return numbers[at.n][at.e]; }

  /// Calls body(place) for what this lane holds of the first `cols` columns, a multiple of 8.
  template <class Body>
  __device__ static void for_each(int cols, const Body& body) {
#pragma unroll
    for (int n = 0; n < Cols / 8; ++n) {
      if (8 * n >= cols) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) body(Place{n, e});
    }
  }
  /// Calls body(place) for what this lane holds of a row.
  template <class Body>
  __device__ static void for_each_of(Row row, const Body& body) {
    for_each(Cols, [&](Place at) {
      if (Row(at).r == row.r) body(at);
    });
  }
};

/// A number for each row of a RegisterTile; a lane has those of its two rows.
struct RowVector {
  float of[2];

  __device__ float& operator[](Row i) { return of[i.r]; }
};

/// Calls body(row) for both rows of this lane.
template <class Body>
__device__ void for_each_row(const Body& body) {
#pragma unroll
  for (int r = 0; r < 2; ++r) body(Row{r});
}

/// The sum, or the maximum, of what the four lanes that share a row have of it.
__device__ inline float row_sum(float mine) {
  mine += __shfl_xor_sync(whole_warp, mine, 1);
  return mine + __shfl_xor_sync(whole_warp, mine, 2);
}
__device__ inline float row_max(float mine) {
  mine = fmaxf(mine, __shfl_xor_sync(whole_warp, mine, 1));
  return fmaxf(mine, __shfl_xor_sync(whole_warp, mine, 2));
}
/// The maximum of what this lane has of each row: of the first `cols` columns, where visible(place).
template <int Cols, class Mask>
__device__ RowVector lane_max(const RegisterTile<Cols>& tile, int cols, const Mask& visible) {
  RowVector max = {-INFINITY, -INFINITY};
  tile.for_each(cols, [&](Place at) {
    if (visible(at)) max[at] = fmaxf(max[at], tile[at]);
  });
  return max;
}

/// Writes a warp's rows to shared memory, rounded to S.
template <class S, int Cols>
__device__ void store(SharedTile<S, Cols> to, const RegisterTile<Cols>& from) {
#pragma unroll
  for (int n = 0; n < Cols / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      const Place at{n, e}, next{n, e + 1};
      S* const place = to.data + at.row() * to.stride + at.col();
      if constexpr (std::is_same_v<S, BFloat16>) {
        *reinterpret_cast<std::uint32_t*>(place) = rounded_pair(from[at], from[next]);
      } else {
        place[0] = from[at];
        place[1] = from[next];
      }
    }
  }
}

/// A tile as a factor whose rows are the product's columns.
template <class S, int Cols>
struct Transposed {
  SharedTile<S, Cols> of;
};
template <class S, int Cols>
__device__ Transposed<S, Cols> transposed(SharedTile<S, Cols> tile) {
  return {tile};
}

/// The row that this lane names to load_matrices, of the first 16 x 16 numbers of a factor. The second 8 x 8
/// matrix lies eight rows on and the third eight columns on: with ByRows, else the other way round.
template <bool ByRows, int Cols>
__device__ const BFloat16* named_row(SharedTile<BFloat16, Cols> m) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int in_matrix = lane % 8, second = lane / 8 % 2, third = lane / 16;
  return ByRows ? m.data + (in_matrix + 8 * second) * m.stride + 8 * third
                : m.data + (in_matrix + 8 * third) * m.stride + 8 * second;
}

/// Sixteen of mma's depth on tensor cores: c (16, Cols) += left (16, 16) right (16, Cols). `row` is the right
/// factor's named_row, moved on to this part of the depth.
template <bool ByRows, int Cols>
__device__ void mma_part(RegisterTile<Cols>& c, const std::uint32_t (&left)[4], const BFloat16* row,
                         int stride, int cols) {
#pragma unroll
  for (int n = 0; n < Cols; n += 16) {
    if (n >= cols) break;
    std::uint32_t right[4];
    load_matrices<ByRows>(right, ByRows ? row + n : row + n * stride);
    multiply_add(c.numbers[n / 8], left, right[0], right[1]);
    multiply_add(c.numbers[n / 8 + 1], left, right[2], right[3]);
  }
}
/// The same in float: c (16, Cols) += left (16, 1) right (1, Cols), with right(j) its number in column j.
template <int Cols, class Right>
__device__ void mma_part(RegisterTile<Cols>& c, RowVector left, const Right& right, int cols) {
#pragma unroll
  for (int n = 0; n < Cols / 8; ++n) {
    if (8 * n >= cols) break;
    const float of_col[2] = {right(Place{n, 0}.col()), right(Place{n, 1}.col())};
#pragma unroll
    for (int e = 0; e < 4; ++e) c.numbers[n][e] += left.of[e / 2] * of_col[e % 2];
  }
}

/// c (16, Cols) += a b^T with a (16, Depth) and b (Cols, Depth). Columns from `cols` on, a multiple of 16,
/// may be left out.
template <int Cols, class S, int Depth>
__device__ void mma(RegisterTile<Cols>& c, SharedTile<S, Depth> a, Transposed<S, Depth> b, int cols = Cols) {
  static_assert(Depth % 16 == 0 && Cols % 16 == 0);
  if constexpr (std::is_same_v<S, BFloat16>) {
    const S *const a_row = named_row<true>(a), *const b_row = named_row<false>(b.of);
#pragma unroll
    for (int k = 0; k < Depth; k += 16) {
      std::uint32_t left[4];
      load_matrices<false>(left, a_row + k);
      mma_part<false>(c, left, b_row + k, a.stride, cols);
    }
  } else {
    const int upper = Row{0}.index() * a.stride, lower = Row{1}.index() * a.stride;
    for (int k = 0; k < Depth; ++k) {
      const auto right = [&](int j) { return b.of.data[j * a.stride + k]; };
      mma_part(c, {a.data[upper + k], a.data[lower + k]}, right, cols);
    }
  }
}

/// c (16, Cols) += a b with a (16, Depth), rounded to S, and b (Depth, Cols). Columns of a from `depth` on, a
/// multiple of 16, are taken for zeros.
template <int Cols, int Depth, class S>
__device__ void mma(RegisterTile<Cols>& c, const RegisterTile<Depth>& a, SharedTile<S, Cols> b,
                    int depth = Depth) {
  static_assert(Depth % 16 == 0 && Cols % 16 == 0);
  if constexpr (std::is_same_v<S, BFloat16>) {
    const S* const b_row = named_row<true>(b);
#pragma unroll
    for (int k = 0; k < Depth; k += 16) {
      if (k >= depth) break;
      // What a lane holds of a product's result is what it brings as its left factor.
      const auto &first = a.numbers[k / 8], &second = a.numbers[k / 8 + 1];
      const std::uint32_t left[4] = {rounded_pair(first[0], first[1]), rounded_pair(first[2], first[3]),
                                     rounded_pair(second[0], second[1]), rounded_pair(second[2], second[3])};
      mma_part<true>(c, left, b_row + k * b.stride, b.stride, Cols);
    }
  } else {
    const int first_of_row = static_cast<int>(threadIdx.x % 32 / 4 * 4);
#pragma unroll
    for (int k = 0; k < Depth; ++k) {
      if (k >= depth) break;
      const auto& numbers = a.numbers[k / 8];
      const int owner = first_of_row + k % 8 / 2;
      const float upper = __shfl_sync(whole_warp, numbers[k % 2], owner),
                  lower = __shfl_sync(whole_warp, numbers[2 + k % 2], owner);
      mma_part(c, {upper, lower}, [&](int j) { return b.data[k * b.stride + j]; }, Cols);
    }
  }
}

}  // namespace lnfree::cuda
