#pragma once

#include <cstdint>
#include <type_traits>

#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/backend/cuda/rounding.hpp>
#include <lnfree/backend/cuda/runtime.hpp>
#include <lnfree/backend/cuda/warp_matrix.hpp>
#include <lnfree/core/bfloat16.hpp>

namespace lnfree::cuda {

/// Sixteen rows of Cols numbers, held by a warp: of columns 8 n to 8 n + 7 lane l has, in numbers[n], those
/// of row l / 4 in columns 8 n + 2 (l % 4) and the next, then the same of row l / 4 + 8.
template <int Cols>
struct WarpRows {
  float numbers[Cols / 8][4] = {};

  /// The row, of the sixteen, and the column of a lane's number e of group n.
  __device__ static int row(int e) { return static_cast<int>(threadIdx.x % 32 / 4) + 8 * (e / 2); }
  __device__ static int col(int n, int e) { return 8 * n + 2 * static_cast<int>(threadIdx.x % 4) + e % 2; }

  /// Into shared memory, rounded; rows lie an even number apart.
  template <class S>
  __device__ void write(S* to, int stride) const {
#pragma unroll
    for (int n = 0; n < Cols / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        S* const at = to + row(e) * stride + col(n, e);
        if constexpr (std::is_same_v<S, BFloat16>) {
          *reinterpret_cast<std::uint32_t*>(at) = rounded_pair(numbers[n][e], numbers[n][e + 1]);
        } else {
          at[0] = numbers[n][e];
          at[1] = numbers[n][e + 1];
        }
      }
    }
  }
};

/// How a factor lies in shared memory.
enum class Lies { by_rows, transposed };

/// Which row of a factor in shared memory a lane names when four 8 x 8 matrices are loaded: `second` and
/// `third` are one eight rows, or columns, on.
template <Lies How>
__device__ const BFloat16* named_row(const BFloat16* m, int stride) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int in_matrix = lane % 8, second = lane / 8 % 2, third = lane / 16;
  return How == Lies::by_rows ? m + (in_matrix + 8 * second) * stride + 8 * third
                              : m + (in_matrix + 8 * third) * stride + 8 * second;
}

/// c (16, Cols) += left (16, 16) b (16, Cols): b's part of a product's depth, from `b_row` of named_row on.
template <Lies B, int Cols>
__device__ void add_product(WarpRows<Cols>& c, const std::uint32_t (&left)[4], const BFloat16* b_row,
                            int b_stride, int cols) {
#pragma unroll
  for (int n = 0; n < Cols; n += 16) {
    if (n >= cols) break;
    std::uint32_t right[4];
    load_matrices<B == Lies::by_rows>(right, B == Lies::by_rows ? b_row + n : b_row + n * b_stride);
    multiply_add(c.numbers[n / 8], left, right[0], right[1]);
    multiply_add(c.numbers[n / 8 + 1], left, right[2], right[3]);
  }
}

/// The same of floats, (16, 1) by (1, Cols): `upper` and `lower` are the left factor's in rows l / 4 and
/// l / 4 + 8, b_at(j) the right one's.
template <int Cols, class At>
__device__ void add_product(WarpRows<Cols>& c, float upper, float lower, const At& b_at, int cols) {
#pragma unroll
  for (int n = 0; n < Cols / 8; ++n) {
    if (8 * n >= cols) break;
    const float left = b_at(c.col(n, 0)), right = b_at(c.col(n, 1));
    c.numbers[n][0] += upper * left;
    c.numbers[n][1] += upper * right;
    c.numbers[n][2] += lower * left;
    c.numbers[n][3] += lower * right;
  }
}

/// c (16, Cols) += a b^T with a (16, Depth), b (Cols, Depth) in shared memory, by one warp; in bf16 on tensor
/// cores. Rows lie `stride` numbers apart. Only the first `cols` columns, a multiple of 16, are needed.
template <int Depth, int Cols, class S>
__device__ void add_product_of_rows(WarpRows<Cols>& c, const S* a, const S* b, int stride, int cols = Cols) {
  static_assert(Depth % 16 == 0 && Cols % 16 == 0);
  if constexpr (std::is_same_v<S, BFloat16>) {
    const S* const a_row = named_row<Lies::by_rows>(a, stride);
    const S* const b_row = named_row<Lies::transposed>(b, stride);
#pragma unroll
    for (int k = 0; k < Depth; k += 16) {
      std::uint32_t left[4];
      load_matrices<false>(left, a_row + k);
      add_product<Lies::transposed>(c, left, b_row + k, stride, cols);
    }
  } else {
    for (int k = 0; k < Depth; ++k) {
      add_product(
          c, a[c.row(0) * stride + k], a[c.row(2) * stride + k], [&](int j) { return b[j * stride + k]; },
          cols);
    }
  }
}

/// c (16, Cols) += a b with a (16, Depth) in the warp's registers, rounded to S, and b (Depth, Cols) in
/// shared memory. Only the first `depth` columns of a, a multiple of 16, are not zero.
template <int Depth, int Cols, class S>
__device__ void add_product(WarpRows<Cols>& c, const WarpRows<Depth>& a, const S* b, int stride,
                            int depth = Depth) {
  static_assert(Depth % 16 == 0 && Cols % 16 == 0);
  if constexpr (std::is_same_v<S, BFloat16>) {
    const S* const b_row = named_row<Lies::by_rows>(b, stride);
#pragma unroll
    for (int k = 0; k < Depth; k += 16) {
      if (k >= depth) break;
      // What a lane holds of a product's result is what it brings as its left factor.
      const auto &first = a.numbers[k / 8], &second = a.numbers[k / 8 + 1];
      const std::uint32_t left[4] = {rounded_pair(first[0], first[1]), rounded_pair(first[2], first[3]),
                                     rounded_pair(second[0], second[1]), rounded_pair(second[2], second[3])};
      add_product<Lies::by_rows>(c, left, b_row + k * stride, stride, Cols);
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
      add_product(c, upper, lower, [&](int j) { return b[k * stride + j]; }, Cols);
    }
  }
}

}  // namespace lnfree::cuda
