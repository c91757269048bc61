#pragma once

#include <cstdint>
#include <type_traits>

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

  /// Into shared memory, rounded.
  template <class S>
  __device__ void write(S* to, int stride) const {
#pragma unroll
    for (int n = 0; n < Cols / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) to[row(e) * stride + col(n, e)] = rounded<S>(numbers[n][e]);
    }
  }
};

/// How a factor lies in shared memory.
enum class Lies { by_rows, transposed };

/// c (16, Cols) += a (16, Depth) b (Depth, Cols), a and b in shared memory, by one warp; in bf16 on tensor
/// cores. Rows lie `stride` numbers apart.
template <int Depth, Lies A, Lies B, int Cols, class S>
__device__ void warp_product(WarpRows<Cols>& c, const S* a, int a_stride, const S* b, int b_stride) {
  static_assert(Depth % 16 == 0 && Cols % 16 == 0);
  if constexpr (std::is_same_v<S, BFloat16>) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int in_matrix = lane % 8, second = lane / 8 % 2, third = lane / 16;
    // Which of four 8 x 8 matrices this lane names a row of: `second` and `third` are one eight rows, or
    // columns, on.
    const S* const a_row = A == Lies::by_rows ? a + (in_matrix + 8 * second) * a_stride + 8 * third
                                              : a + (in_matrix + 8 * third) * a_stride + 8 * second;
    const S* const b_row = B == Lies::by_rows ? b + (in_matrix + 8 * second) * b_stride + 8 * third
                                              : b + (in_matrix + 8 * third) * b_stride + 8 * second;
#pragma unroll
    for (int k = 0; k < Depth; k += 16) {
      std::uint32_t left[4];
      load_matrices<A == Lies::transposed>(left, A == Lies::by_rows ? a_row + k : a_row + k * a_stride);
#pragma unroll
      for (int n = 0; n < Cols; n += 16) {
        std::uint32_t right[4];
        load_matrices<B == Lies::by_rows>(
            right, B == Lies::by_rows ? b_row + k * b_stride + n : b_row + n * b_stride + k);
        multiply_add(c.numbers[n / 8], left, right[0], right[1]);
        multiply_add(c.numbers[n / 8 + 1], left, right[2], right[3]);
      }
    }
  } else {
    const auto at = [](const S* m, int stride, Lies lies, int row, int col) {
      return lies == Lies::by_rows ? m[row * stride + col] : m[col * stride + row];
    };
    for (int k = 0; k < Depth; ++k) {
      const float upper = at(a, a_stride, A, c.row(0), k), lower = at(a, a_stride, A, c.row(2), k);
#pragma unroll
      for (int n = 0; n < Cols / 8; ++n) {
        const float left = at(b, b_stride, B, k, c.col(n, 0)), right = at(b, b_stride, B, k, c.col(n, 1));
        c.numbers[n][0] += upper * left;
        c.numbers[n][1] += upper * right;
        c.numbers[n][2] += lower * left;
        c.numbers[n][3] += lower * right;
      }
    }
  }
}

}  // namespace lnfree::cuda
