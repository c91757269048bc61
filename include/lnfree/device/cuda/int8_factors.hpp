#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>
#include <lnfree/device/cuda/runtime.hpp>

/// Rounding of product factors to INT8, with a scale for each row of the factor: its largest magnitude
/// divided by 127. Numbers are divided by the scale and rounded to the nearest integer, ties to even.
namespace lnfree::cuda {

/// The scale of a row, and what its numbers are multiplied by.
struct RowScale {
  float value, inverse;

  /// `max`: the bits of the row's largest magnitude; greater than infinity's for NaN. If it is not finite,
  /// the scale is NaN, so that products are not finite either.
  __device__ static RowScale of(unsigned max) {
    constexpr unsigned infinity = 0x7f800000u;
    if (max >= infinity) return {std::bit_cast<float>(infinity | 1u << 22), 0};
    // The least normal number has an inverse, and a row of zeros remains one.
    const float value = fmaxf(std::bit_cast<float>(max) / 127, 0x1p-126f);
    return {value, 1 / value};
  }
};

/// The bits of the larger of two magnitudes, of which `max` holds one.
__device__ inline unsigned larger_magnitude(unsigned max, float x) {
  const unsigned magnitude = std::bit_cast<unsigned>(x) & 0x7fffffffu;
  return magnitude > max ? magnitude : max;
}

/// The nearest integer to x times `inverse`, which is at most 127 in magnitude; any integer if it is NaN.
__device__ inline std::int8_t rounded_to_int8(float x, float inverse) {
  constexpr float ulp_of_one = 0x1.8p23f;  // numbers as large as this are integers
  return static_cast<std::int8_t>(std::bit_cast<unsigned>(fmaf(x, inverse, ulp_of_one)) & 0xffu);
}

template <int N>
__device__ Pack<N, std::int8_t> rounded_to_int8(const Floats<N>& x, float inverse) {
  Pack<N, std::int8_t> pack;
#pragma unroll
  for (int e = 0; e < N; ++e) pack.values[e] = rounded_to_int8(x[e], inverse);
  return pack;
}

/// The longest row of a factor in INT8: a pack for each thread of a block.
inline constexpr Index max_int8_depth = 1024 * factor_pack;

/// Rounds a matrix whose rows are whole packs and at most max_int8_depth long. A block reads a row once: each
/// thread keeps its pack until the scale is known.
template <class S>
__global__ void __launch_bounds__(1024)
    round_rows_kernel(Matrix<const S> from, Matrix<std::int8_t> to, float* scales) {
  const Index i = blockIdx.x, j = static_cast<Index>(threadIdx.x) * factor_pack;
  const bool there = j < from.cols;
  Floats<factor_pack> x{};
  if (there) x = load<factor_pack>(from.row(i) + j);
  unsigned max = 0;
#pragma unroll
  for (int e = 0; e < factor_pack; ++e) max = larger_magnitude(max, x[e]);
  const RowScale scale = RowScale::of(block_max(max, shared_memory<unsigned>()));
  if (there) store(to.row(i) + j, rounded_to_int8(x, scale.inverse));
  if (threadIdx.x == 0) scales[i] = scale.value;
}

/// Launches round_rows_kernel. scales (rows).
inline void round_rows(Stream& stream, Matrix<const BFloat16> from, Matrix<std::int8_t> to, float* scales) {
  const int warps = static_cast<int>((from.cols / factor_pack + 31) / 32);
  const std::size_t shared_bytes = static_cast<std::size_t>(warps) * sizeof(unsigned);
  stream.launch(round_rows_kernel<BFloat16>, from.rows, 32 * warps, shared_bytes, from, to, scales);
}

/// The rounding of a factor by the kernel that computes it (factor_rounding.hpp), in place of
/// round_rows_kernel. A row is read again once its scale is known, from the cache.
struct RowRounding {
  static constexpr bool whole_rows = true;
  const BFloat16* made = nullptr;  ///< The factor, without gaps between its rows; null if it is not rounded.
  int cols = 0;
  std::int8_t* to = nullptr;
  float* scales = nullptr;  ///< (rows)
  unsigned max = 0;         ///< The bits of the largest magnitude that this thread has found in its row.

  bool is_on() const { return made != nullptr; }

  __device__ void begin() {}
  template <int N>
  __device__ void take(const Stored<N, BFloat16>& stored) {
    const Floats<N> x = floats(stored.pack);
#pragma unroll
    for (int e = 0; e < N; ++e) max = larger_magnitude(max, x[e]);
  }
  template <int N>
  __device__ void end_row(Index i) {
    if (made == nullptr) return;
    const RowScale scale = RowScale::of(warp_max(max));
    const int lane = static_cast<int>(threadIdx.x % 32);
    const Index first = i * cols;
    // A thread reads only what it has stored itself, so that no barrier is needed.
    for (int j = lane * N; j < cols; j += 32 * N)
      store(to + first + j, rounded_to_int8(load<N>(made + first + j), scale.inverse));
    if (lane == 0) scales[i] = scale.value;
    max = 0;
  }
  __device__ void end() {}
};

/// The memory of a block of round_columns_kernel.
struct ColumnsToRound {
  static constexpr int cols = 2 * factor_pack, rows = 128, threads = 2 * rows;

  alignas(16) std::int8_t transposed[cols][rows + factor_pack];
  unsigned max[cols];
  float inverse[cols];
};

/// Rounds a matrix whose columns are whole packs column by column, and writes its transpose. A block reads
/// its columns twice. scales (columns).
template <class S>
__global__ void __launch_bounds__(ColumnsToRound::threads)
    round_columns_kernel(Matrix<const S> from, Matrix<std::int8_t> transposed, float* scales) {
  ColumnsToRound& my = *shared_memory<ColumnsToRound>();
  const int thread = static_cast<int>(threadIdx.x), my_row = thread / 2, my_col = thread % 2 * factor_pack;
  const Index first_col = static_cast<Index>(blockIdx.x) * my.cols, left = first_col + my_col;
  if (thread < my.cols) my.max[thread] = 0;
  __syncthreads();

  unsigned max[factor_pack] = {};
  if (left < from.cols) {
    for (Index i = my_row; i < from.rows; i += my.rows) {
      const Floats<factor_pack> x = load<factor_pack>(from.row(i) + left);
#pragma unroll
      for (int e = 0; e < factor_pack; ++e) max[e] = larger_magnitude(max[e], x[e]);
    }
  }
#pragma unroll
  for (int e = 0; e < factor_pack; ++e) atomicMax(&my.max[my_col + e], max[e]);
  __syncthreads();
  if (thread < my.cols && first_col + thread < from.cols) {
    const RowScale scale = RowScale::of(my.max[thread]);
    my.inverse[thread] = scale.inverse;
    scales[first_col + thread] = scale.value;
  }
  __syncthreads();

  for (Index top = 0; top < from.rows; top += my.rows) {
    if (top + my_row < from.rows && left < from.cols) {
      const Floats<factor_pack> x = load<factor_pack>(from.row(top + my_row) + left);
#pragma unroll
      for (int e = 0; e < factor_pack; ++e)
        my.transposed[my_col + e][my_row] = rounded_to_int8(x[e], my.inverse[my_col + e]);
    }
    __syncthreads();
    // Eight packs in each of 32 columns: one for each thread.
    const int col = thread / 8, row = thread % 8 * factor_pack;
    if (first_col + col < from.cols && top + row < from.rows) {
      store(transposed.row(first_col + col) + top + row,
            *reinterpret_cast<const Pack<factor_pack, std::int8_t>*>(&my.transposed[col][row]));
    }
    __syncthreads();
  }
}

/// Launches round_columns_kernel.
inline void round_columns(Stream& stream, Matrix<const BFloat16> from, Matrix<std::int8_t> transposed,
                          float* scales) {
  stream.launch(round_columns_kernel<BFloat16>, (from.cols + ColumnsToRound::cols - 1) / ColumnsToRound::cols,
                ColumnsToRound::threads, sizeof(ColumnsToRound), from, transposed, scales);
}

}  // namespace lnfree::cuda
