#pragma once

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/async_copy.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/rounding.hpp>
#include <lnfree/device/cuda/runtime.hpp>
#include <lnfree/device/cuda/tiles.hpp>
#include <lnfree/device/cuda/warp_matrix.hpp>

/// A matrix product on tensor cores, for factors in INT8, which cuBLASLt does not multiply with a scale for
/// each row, and in bf16, so that the two can be compared. Both factors are contiguous along the summed
/// dimension. The instructions for both formats take 32 bytes of it at a time and expect those bytes in the
/// same lanes, so that only the sums and their scales differ.
namespace lnfree::cuda {

/// C = A B^T, with A (rows, depth) and B (cols, depth). `T` is std::int8_t or BFloat16.
template <class T>
struct TensorCoreProduct {
  Matrix<const T> a, b;
  const float* a_scales;  ///< (rows): what 1 stands for in each row of A. INT8 only.
  const float* b_scales;  ///< (cols): the same for B.
  Output<BFloat16> c;
  const BFloat16* bias;  ///< (cols), or nullptr.
  bool relu;
};

inline constexpr int product_tile = 128;     // rows and columns of C that a block computes
inline constexpr int product_threads = 256;  // eight warps, two for the rows and four for the columns
inline constexpr int product_stages = 3;     // slices in shared memory

/// The same 64 bytes of each of a block's 128 rows of a factor, in shared memory. Without padding, so that
/// two blocks fit on a multiprocessor. Where a pack of 16 bytes lies in its row depends on the row, so that
/// the same pack of eight consecutive rows lies in different banks.
struct FactorSlice {
  static constexpr int bytes_per_row = 64, packs = bytes_per_row / 16;
  static constexpr int bytes = product_tile * bytes_per_row;

  unsigned char* data;

  __device__ unsigned char* pack(unsigned row, unsigned pack) const {
    return data + row * bytes_per_row + (pack ^ (row / 2 % packs)) * 16;
  }
};

/// Begins to copy the slice of `from` that starts at column `first`, with zeros beyond the matrix's end.
template <class T>
__device__ void begin_load(FactorSlice to, Matrix<const T> from, Index first) {
#pragma unroll
  for (unsigned n = 0; n < product_tile * FactorSlice::packs / product_threads; ++n) {
    const unsigned at = threadIdx.x + n * product_threads;
    const unsigned row = at / FactorSlice::packs, pack = at % FactorSlice::packs;
    const Index col = first + static_cast<Index>(pack) * pack_size<T>;
    const bool there = row < from.rows && col < from.cols;
    begin_copy(to.pack(row, pack), there ? from.row(row) + col : from.data, there);
  }
}

/// A block computes a tile of C, a warp 64 x 32 numbers of it. Sums of INT8 are exact. The launch bounds ask
/// for two blocks at a time on a multiprocessor.
template <class T>
__global__ void __launch_bounds__(product_threads, 2)
    tensor_core_product_kernel(TensorCoreProduct<T> product, unsigned tiles_per_row) {
  constexpr bool scaled = std::is_same_v<T, std::int8_t>;
  using Sum = std::conditional_t<scaled, int, float>;
  constexpr int warp_rows = 64, warp_cols = 32, row_tiles = warp_rows / 16;
  constexpr Index slice = FactorSlice::bytes_per_row / sizeof(T);
  using ResultTile = SharedTile<BFloat16, product_tile, product_tile>;
  static_assert(ResultTile::threads == product_threads);
  static_assert(ResultTile::size * sizeof(BFloat16) <= 2 * product_stages * FactorSlice::bytes);

  const Index first_row = static_cast<Index>(blockIdx.x / tiles_per_row) * product_tile,
              first_col = static_cast<Index>(blockIdx.x % tiles_per_row) * product_tile;
  const auto from = [](auto matrix, Index row, Index col) {
    return decltype(matrix)(matrix.row(row) + col, matrix.rows - row, matrix.cols - col, matrix.stride);
  };
  const Matrix<const T> a = from(product.a, first_row, 0), b = from(product.b, first_col, 0);
  const Index slices = (a.cols + slice - 1) / slice;
  const auto slice_of_a = [](int stage) {
    return FactorSlice{shared_memory<unsigned char>() + 2 * stage * FactorSlice::bytes};
  };
  const auto slice_of_b = [](int stage) {
    return FactorSlice{shared_memory<unsigned char>() + (2 * stage + 1) * FactorSlice::bytes};
  };
  // Ends a group even if no slice is left, so that a slice's group has the same number of later ones.
  const auto begin = [&](Index number, int stage) {
    if (number < slices) {
      begin_load(slice_of_a(stage), a, number * slice);
      begin_load(slice_of_b(stage), b, number * slice);
    }
    end_copy_group();
  };

  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned my_row = warp / 4 * warp_rows, my_col = warp % 4 * warp_cols;
  // The row and the pack that this lane names to load_matrices. The second 8 x 8 matrix lies eight rows on in
  // A, the third one pack on; the other way round in B.
  const unsigned in_matrix = lane % 8, second = lane / 8 % 2, third = lane / 16;
  RegisterTile<warp_cols, Sum> sums[row_tiles];

#pragma unroll
  for (int stage = 0; stage < product_stages - 1; ++stage) begin(stage, stage);
  int stage = 0;
  for (Index number = 0; number < slices; ++number) {
    wait_for_copy_groups<product_stages - 2>();
    __syncthreads();  // all have copied this slice, and read the one before
    begin(number + product_stages - 1, stage == 0 ? product_stages - 1 : stage - 1);
#pragma unroll
    for (unsigned pack = 0; pack < FactorSlice::packs; pack += 2) {
      std::uint32_t left[row_tiles][4];
#pragma unroll
      for (unsigned i = 0; i < row_tiles; ++i) {
        load_matrices<false>(left[i],
                             slice_of_a(stage).pack(my_row + 16 * i + 8 * second + in_matrix, pack + third));
      }
#pragma unroll
      for (unsigned j = 0; j < warp_cols / 16; ++j) {
        std::uint32_t right[4];
        load_matrices<false>(right,
                             slice_of_b(stage).pack(my_col + 16 * j + 8 * third + in_matrix, pack + second));
#pragma unroll
        for (unsigned i = 0; i < row_tiles; ++i) {
          multiply_add(sums[i].numbers[2 * j], left[i], right[0], right[1]);
          multiply_add(sums[i].numbers[2 * j + 1], left[i], right[2], right[3]);
        }
      }
    }
    stage = stage == product_stages - 1 ? 0 : stage + 1;
  }

  // The result's tile takes the place of the slices, first with the addend.
  const ResultTile result{shared_memory<BFloat16>()};
  const Output<BFloat16>& c = product.c;
  __syncthreads();
  if (c.adds()) begin_load(result, from(c.addend, first_row, first_col), true);
  wait_for_copies();
  __syncthreads();
  const auto number_of = [](const auto* numbers, Index i, Index count) {
    return numbers != nullptr && i < count ? static_cast<float>(numbers[i]) : 0.0f;
  };
#pragma unroll
  for (int n = 0; n < warp_cols / 8; ++n) {
    float bias[2], col_scale[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const Index col = first_col + my_col + Place{n, e}.col();
      bias[e] = number_of(product.bias, col, c.matrix.cols);
      if constexpr (scaled) col_scale[e] = number_of(product.b_scales, col, c.matrix.cols);
    }
#pragma unroll
    for (int i = 0; i < row_tiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const Place at{n, 2 * r};
        const int row = static_cast<int>(my_row) + 16 * i + at.row();
        BFloat16* const place = result.data + row * result.stride + my_col + at.col();
        float values[2];
        [[maybe_unused]] float row_scale = 1;
        if constexpr (scaled) row_scale = number_of(product.a_scales, first_row + row, c.matrix.rows);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float sum = static_cast<float>(sums[i].numbers[n][2 * r + e]);
          const float addend = c.adds() ? static_cast<float>(place[e]) : 0.0f;
          if constexpr (scaled) {
            // The same bits on every processor: nothing is left for a compiler to contract.
            values[e] = fmaf(sum * row_scale, col_scale[e], addend) + bias[e];
          } else {
            values[e] = sum + addend + bias[e];
          }
          if (product.relu && values[e] < 0) values[e] = 0;
        }
        *reinterpret_cast<std::uint32_t*>(place) = rounded_pair(values[0], values[1]);
      }
    }
  }
  __syncthreads();
  store(from(c.matrix, first_row, first_col), result, true);
}

/// Computes C = A B^T; plus the addend of C if it has one, plus the bias in every row if there is one; then
/// ReLU if requested. Rows of all matrices are whole packs of 16 bytes.
template <class T>
void multiply(Stream& stream, const TensorCoreProduct<T>& product) {
  const auto& [a, b, a_scales, b_scales, c, bias, relu] = product;
  assert(a.cols == b.cols && a.rows == c.matrix.rows && b.rows == c.matrix.cols);
  assert(has_whole_packs<pack_size<T>>(a) && has_whole_packs<pack_size<T>>(b));
  assert(has_whole_packs<pack_size<BFloat16>>(c.matrix));
  assert(!c.adds() || has_whole_packs<pack_size<BFloat16>>(c.addend));
  const Index tiles_per_row = (b.rows + product_tile - 1) / product_tile;
  stream.launch(tensor_core_product_kernel<T>, (a.rows + product_tile - 1) / product_tile * tiles_per_row,
                product_threads, 2 * product_stages * FactorSlice::bytes, product,
                static_cast<unsigned>(tiles_per_row));
}

}  // namespace lnfree::cuda
